"""Sources are found, data are built once, and what is broken in the cache is noticed."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from lra_bench import data
from lra_bench.config import TaskSpec
from lra_bench.data import cache
from lra_bench.data.sources.synthetic import listops
from lra_bench.errors import PlaceError, TaskError
from lra_bench.shapes import Split


def altered(task: TaskSpec, **values: object) -> TaskSpec:
    return task.model_copy(update=values)


def written(folder: Path, splits: Mapping[str, Split]) -> None:
    """The splits as released files."""
    folder.mkdir(exist_ok=True)
    for name, split in splits.items():
        rows = [listops.row(*example) for example in zip(split.tokens, split.label, strict=True)]
        (folder / f"basic_{name}.tsv").write_text("\n".join(rows))


def inside(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_sources_are_found_by_looking() -> None:
    assert "listops" in data.names()
    assert not {"cache", "batches", "checks"} & set(data.names())
    assert data.load("listops") is listops
    with pytest.raises(TaskError, match="source 'listop': not found; did you mean 'listops'"):
        data.load("listop")


@pytest.mark.parametrize("name", data.names())
def test_a_source_exports_what_the_contract_says(name: str) -> None:
    wanted = {key for key in vars(data.Source) if not key.startswith("_")} | set(data.Source.__annotations__)
    assert wanted - set(dir(data.load(name))) == set()


def test_wrong_args_are_named(small: TaskSpec) -> None:
    wrong = {**small.args, "max_dept": 3}
    with pytest.raises(TaskError, match=r"task 'small': args.max_dept: unknown key; did you mean 'max_depth'"):
        data.arguments(altered(small, args=wrong))
    with pytest.raises(TaskError, match=r"args.max_args"):
        data.arguments(altered(small, args={**small.args, "max_args": "many"}))
    with pytest.raises(TaskError, match="no length lies between min_length 59 and max_length 60"):
        data.arguments(altered(small, args={**small.args, "min_length": 59}))


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert data.cache_root() == tmp_path / "cache"
    monkeypatch.delenv("LRA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data.cache_root() == tmp_path / "xdg" / "lra_bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data.cache_root() == Path.home() / ".cache" / "lra_bench"


@pytest.mark.usefixtures("alone")
def test_data_are_built_once(small: TaskSpec, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int]] = []
    first = data.prepare(small, lambda *now: seen.append(now))
    assert first.fresh
    assert ("generating examples", 400, 400) in seen
    monkeypatch.setattr(listops, "build", None)
    second = data.prepare(small)
    assert not second.fresh
    assert (second.hash, second.folder) == (first.hash, first.folder)
    assert second.folder.parent == root / "data"
    assert {name: len(split) for name, split in second.splits.items()} == small.splits
    assert isinstance(second.splits["train"].tokens, np.memmap)
    assert second.splits["train"].tokens.dtype == np.uint8
    assert inside(root / "data") == {first.folder.name}, "nothing else is left"


@pytest.mark.usefixtures("alone")
def test_the_key_is_all_that_decides_the_bytes(small: TaskSpec) -> None:
    folders = {
        data.prepare(task).folder
        for task in (
            small,
            altered(small, seed=1),
            altered(small, length=65),
            altered(small, splits={**small.splits, "val": 41}),
            altered(small, args={**small.args, "max_args": 5}),
        )
    }
    assert len(folders) == 5
    assert data.prepare(altered(small, title="other", version=2)).folder in folders


@pytest.mark.usefixtures("alone")
def test_released_files_are_in_the_key_by_their_content(small: TaskSpec, tmp_path: Path) -> None:
    built = data.prepare(small)
    for place in ("here", "there"):
        written(tmp_path / place, built.splits)
    here = data.prepare(altered(small, folder=str(tmp_path / "here")))
    assert here.hash == built.hash
    assert here.folder != built.folder
    assert not data.prepare(altered(small, folder=str(tmp_path / "there"))).fresh
    with (tmp_path / "there" / "basic_val.tsv").open("a") as file:
        file.write("\n")
    assert data.prepare(altered(small, folder=str(tmp_path / "there"))).fresh


def flip(path: Path) -> None:
    """Change the last byte of a file."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", ["train.tokens.npy", "test.label.npy", "val.lengths.npy"])
def test_a_changed_byte_is_noticed(small: TaskSpec, name: str) -> None:
    first = data.prepare(small)
    flip(first.folder / name)
    with pytest.warns(UserWarning, match=f"{name} is not what was written; it is built again"):
        second = data.prepare(small)
    assert second.fresh
    assert second.hash == first.hash == cache.content_of(second.splits)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"key": 1}'])
def test_a_broken_manifest_is_noticed(small: TaskSpec, content: str | None) -> None:
    path = data.prepare(small).folder / "manifest.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.warns(UserWarning, match="built again"):
        assert data.prepare(small).fresh


@pytest.mark.usefixtures("alone")
def test_a_folder_of_another_key_is_noticed(small: TaskSpec) -> None:
    path = data.prepare(small).folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["key"]["seed"] = 7
    path.write_text(json.dumps(manifest))
    with pytest.warns(UserWarning, match="its key is another"):
        assert data.prepare(small).fresh


@pytest.mark.usefixtures("alone")
def test_a_missing_file_is_noticed(small: TaskSpec) -> None:
    (data.prepare(small).folder / "val.label.npy").unlink()
    with pytest.warns(UserWarning, match="not whole"):
        assert data.prepare(small).fresh


@pytest.mark.usefixtures("alone")
def test_what_a_killed_process_left_is_not_taken_for_data(
    small: TaskSpec, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache.shutil, "rmtree", lambda *_, **__: None)
        patch.setattr(cache.json, "dump", killed)
        with pytest.raises(KeyboardInterrupt):
            data.prepare(small)
    (left,) = inside(root / "data")
    assert left.startswith(".")
    assert data.prepare(small).fresh


@pytest.mark.usefixtures("alone")
def test_a_place_that_cannot_be_written(small: TaskSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "file"))
    with pytest.raises(PlaceError, match=r"cannot be written; \$LRA_CACHE may name another place"):
        data.prepare(small)


@pytest.mark.usefixtures("alone")
def test_the_manifest_says_what_is_there(small: TaskSpec) -> None:
    built = data.prepare(small)
    manifest = json.loads((built.folder / "manifest.json").read_text())
    assert manifest["content"] == built.hash
    assert manifest["key"]["splits"] == small.splits
    for name, facts in manifest["files"].items():
        assert facts == {"bytes": (built.folder / name).stat().st_size, "sha256": cache.hash_of(built.folder / name)}
    assert inside(built.folder) == {*manifest["files"], "manifest.json"}


@pytest.mark.usefixtures("alone")
def test_streams_and_classes_must_be_those_of_the_task(small: TaskSpec) -> None:
    with pytest.raises(TaskError, match="streams: 2"):
        data.prepare(altered(small, streams=2))
    with pytest.raises(TaskError, match="classes: 9"):
        data.prepare(altered(small, classes=9))


def racing(task: TaskSpec, start: object, found: object) -> None:
    start.wait()
    built = data.prepare(task)
    found.put((built.hash, cache.content_of(built.splits)))


def test_processes_that_race_end_well(small: TaskSpec, root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, found = context.Barrier(3), context.Queue()
    racers = [context.Process(target=racing, args=(small, start, found), daemon=True) for _ in range(3)]
    for racer in racers:
        racer.start()
    hashes = {found.get(timeout=60) for _ in racers}
    for racer in racers:
        racer.join()
        assert racer.exitcode == 0
    assert len({h for pair in hashes for h in pair}) == 1
    assert len(inside(root / "data")) == 1


@pytest.mark.usefixtures("alone")
def test_whoever_comes_second_takes_what_is_there(small: TaskSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    build = listops.build

    def slower(*question: object) -> object:
        monkeypatch.setattr(listops, "build", build)
        data.prepare(small)
        return build(*question)

    monkeypatch.setattr(listops, "build", slower)
    assert data.prepare(small).hash == data.prepare(small).hash


@pytest.mark.usefixtures("alone")
def test_verify(small: TaskSpec) -> None:
    checks = data.verify(small)
    assert [check for check in checks if not check.ok] == []
    assert {"files", "content", "counts", "examples of val", "duplicates", "vocabulary"} <= {c.name for c in checks}


@pytest.mark.usefixtures("alone")
def test_verify_sees_a_broken_file(small: TaskSpec) -> None:
    flip(data.prepare(small).folder / "val.label.npy")
    (check,) = data.verify(small)
    assert not check.ok
    assert "val.label.npy" in check.detail


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("array", "value", "failing"),
    [
        ("tokens", 0, {"examples of val", "padding of val"}),
        ("tokens", 200, {"examples of val", "vocabulary"}),
        ("lengths", 3, {"padding of val"}),
        ("label", None, {"examples of val"}),
    ],
)
def test_verify_sees_wrong_examples(
    small: TaskSpec, monkeypatch: pytest.MonkeyPatch, array: str, value: int | None, failing: set[str]
) -> None:
    build = listops.build

    def wrong(*question: object) -> object:
        splits = build(*question)
        values = getattr(splits["val"], array)[1:2]
        values.flat[0] = (values.flat[0] + 1) % 10 if value is None else value
        return splits

    monkeypatch.setattr(listops, "build", wrong)
    assert {check.name for check in data.verify(small) if not check.ok} == failing


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("where", "place", "detail"),
    [("train", 1, "1 within a split, 0 across splits"), ("val", 0, "0 within a split, 1 across splits")],
)
def test_verify_counts_duplicates(
    small: TaskSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, place: int, detail: str
) -> None:
    build = listops.build

    def twice(*question: object) -> object:
        splits = build(*question)
        for array in cache.ARRAYS:
            getattr(splits[where], array)[place] = getattr(splits["train"], array)[0]
        return splits

    with monkeypatch.context() as patch:
        patch.setattr(listops, "build", twice)
        (check,) = (check for check in data.verify(small) if check.name == "duplicates")
        splits = data.prepare(small).splits
    assert (check.ok, check.detail) == (False, detail)
    written(tmp_path, splits)
    (check,) = (check for check in data.verify(altered(small, folder=str(tmp_path))) if check.name == "duplicates")
    assert (check.ok, check.detail) == (True, detail), "released files are as they are"
