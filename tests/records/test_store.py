"""Rows are kept atomically, found again, and told apart from what is not done."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lra_bench import sweeps
from lra_bench.config import Run, digest
from lra_bench.errors import ConfigError, PlaceError
from lra_bench.launch import cores
from lra_bench.records import store
from lra_bench.records.schema import COLUMNS
from lra_bench.sweeps import Request


@pytest.fixture
def run(here: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(here)
    return sweeps.runs(Request("softmax", "short", "tiny"))[0]


def test_a_row_comes_back_as_it_was_put(run: Run, tmp_path: Path) -> None:
    row = store.blank(run, "ok", test_score=0.5, params=7)
    store.save(tmp_path, run, row)
    assert store.get(tmp_path, run) == row
    assert store.read_results(tmp_path) == [row]
    assert store.read_results(store.folder(tmp_path, run)) == [row]


@pytest.mark.parametrize(
    ("status", "final"),
    [("ok", True), ("at-chance", True), ("nan", True), ("oom", False), ("error", False), ("timeout", False)],
)
def test_done_is_what_would_come_out_the_same_again(run: Run, tmp_path: Path, status: str, final: bool) -> None:
    assert store.done(tmp_path, run) is None
    store.save(tmp_path, run, store.blank(run, status))  # type: ignore[arg-type]
    assert (store.done(tmp_path, run) is not None) is final


def test_a_row_says_what_was_asked(run: Run) -> None:
    row = store.blank(run, "oom", "too large")
    assert (row.model, row.task, row.config, row.tag, row.variant) == ("softmax", "short", "tiny", "tiny", None)
    assert (row.batch, row.steps, row.length, row.dtype) == (8, 12, 20, "float32")
    assert row.test_score is None, "missing is missing"
    assert tuple(row.as_dict()) == COLUMNS


def test_what_is_not_a_row_is_refused_by_name(run: Run, tmp_path: Path) -> None:
    path = store.folder(tmp_path, run) / "result.json"
    store.write_json(path, {"run": "x"})
    with pytest.raises(ConfigError, match=r"result\.json: not a result: it lacks"):
        store.read_results(tmp_path)
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"result\.json: cannot be read"):
        store.read_results(tmp_path)


def test_a_row_of_another_version_is_read_as_far_as_it_goes(run: Run, tmp_path: Path) -> None:
    row = store.blank(run, "ok", test_score=0.5).as_dict()
    del row["metric"]
    store.write_json(store.folder(tmp_path, run) / "result.json", row | {"a column of the future": 1})
    (read,) = store.read_results(tmp_path)
    assert (read.metric, read.test_score) == (None, 0.5)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    store.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        store.write_json(path, {"a": object()})
    assert store.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_what_a_killed_writer_left_is_taken_away(tmp_path: Path) -> None:
    path, left, writing = tmp_path / "result.json", tmp_path / ".result.json.dead", tmp_path / ".result.json.alive"
    other = tmp_path / ".run.json.dead"
    for file in (left, writing, other):
        file.write_text("{")
    for file in (left, other):
        os.utime(file, (0, 0))
    store.write_json(path, {})
    assert sorted(tmp_path.iterdir()) == sorted([path, writing, other]), "another may write it now; another file's stay"


def test_a_name_is_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(handle).st_mode))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    store.write_json(tmp_path / "result.json", {})
    assert synced == [False, True], "the file, then its folder"


def test_a_file_system_without_locks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(PlaceError, match=r"its file system has no locks \(Function not implemented\).*-o flock"):
        store.locked(tmp_path).__enter__()
    with pytest.raises(PlaceError, match="no locks"):
        store.is_locked(tmp_path)
    with cores.held(1) as ours:
        assert ours == [], "a run goes on without cores of its own"


def test_a_frame_joins_folders_runs_and_tables(run: Run, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    row = store.blank(run, "ok", test_score=0.5, test_n=10, chance=0.1)
    store.save(a, run, row)
    store.save(b, run, dataclasses.replace(row, status="oom", test_score=None))
    store.to_dataframe([a]).drop(columns="origin").to_csv(tmp_path / "t.csv", index=False)
    frame = store.to_dataframe([a, store.folder(b, run), tmp_path / "t.csv"])
    assert list(frame["status"]) == ["ok", "oom", "ok"]
    assert frame["origin"].nunique() == 3
    with pytest.raises(ConfigError, match="no results here"):
        store.to_dataframe([tmp_path / "none"])
    (tmp_path / "bad.csv").write_text("x,y\n1,2\n")
    with pytest.raises(ConfigError, match=r"bad\.csv: not a table of results: the column 'model' is missing"):
        store.to_dataframe([tmp_path / "bad.csv"])


def test_a_file_that_several_change_at_once_has_what_each_added(tmp_path: Path) -> None:
    path = tmp_path / "new/facts.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.update_json(path, lambda there: [*(there or []), n]), range(64)))
    assert sorted(store.read_json(path)) == list(range(64))


def test_a_claim_is_seen_and_let_go(tmp_path: Path) -> None:
    assert not store.is_locked(tmp_path)
    with store.locked(tmp_path):
        assert store.is_locked(tmp_path)
    assert not store.is_locked(tmp_path)


def test_kept_results_have_the_ids_of_their_runs() -> None:
    kept = Path(__file__).parents[2] / "results/quick"
    folders = sorted(path.parent for path in kept.glob("runs/*/result.json"))
    assert folders
    for folder in folders:
        run = Run.model_validate(store.asked(folder))
        row = store.get(kept, run)
        assert folder.name == run.folder, "it would be run again"
        assert row is not None
        assert row.run == run.id


def test_kept_results_stand_in_the_column_of_new_runs_under_their_config() -> None:
    """The names of a config's keys are in its hash: who renames one migrates what is kept."""
    results = Path(__file__).parents[2] / "results"
    for path in sorted([*results.glob("runs/*/run.json"), *results.glob("quick/runs/*-s0-*/run.json")]):
        kept = Run.model_validate(store.read_json(path))
        assert kept.config_hash == digest(kept.recipe.facts())[:10], path.parent.name
        assert kept.id == store.read_results(path.parent)[0].run == path.parent.name.rpartition("-")[2]
