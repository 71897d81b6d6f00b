"""A bundle arrives as it was packed, or not at all; what is there already is not touched."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samples import Lra

from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.records.bundle import Merged, archive, merge, pack
from lra_bench.records.bundle.checks import check
from lra_bench.report import tables
from lra_bench.report.summary import annotate

KEPT = Path(__file__).parents[2] / "results/quick/runs"
Files = dict[str, bytes]


def silent(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three results that this repository keeps, one with what is not to travel."""
    for name in ("softmax-listops-quick-s0", "softmax-listops-quick-s1", "fnet-recall-one-quick-s0"):
        (kept,) = KEPT.glob(f"{name}-*")
        shutil.copytree(kept, tmp_path / "results/runs" / kept.name)
    (tmp_path / "results/runs" / kept.name / "checkpoints").mkdir()
    (tmp_path / "results/runs" / kept.name / "log.txt").write_text("words")
    return tmp_path / "results"


@pytest.fixture
def bundle(results: Path, tmp_path: Path) -> Path:
    """They, packed."""
    return pack(results, tmp_path / "a.zip", "Ann", silent).out


def files_of(bundle: Path) -> Files:
    with zipfile.ZipFile(bundle) as file:
        return {name: file.read(name) for name in file.namelist()}


def written(path: Path, files: Files, *, hashed: bool = True) -> Path:
    """Files as a bundle, with the hashes that they have now if `hashed`."""
    if hashed:
        manifest = json.loads(files["manifest.json"])
        manifest["files"] = {n: hashlib.sha256(c).hexdigest() for n, c in files.items() if n != "manifest.json"}
        files = {**files, "manifest.json": json.dumps(manifest).encode()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def texts(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.json"))}


@pytest.mark.parametrize("name", ["b.zip", "a folder"])
def test_rows_arrive_as_they_were(results: Path, tmp_path: Path, name: str) -> None:
    packed = pack(results, tmp_path / name, "Ann", silent)
    assert (len(packed.results), packed.left_out) == (3, {})
    there = tmp_path / "there"
    merged = merge(packed.out, there, silent)
    assert merged == Merged("Ann", packed.results, {}, [], {})
    came = texts(there)
    assert all(json.loads(came.pop(f"runs/{row}/bundle.json"))["by"] == "Ann" for row in packed.results)
    assert came == texts(results)
    assert sorted(path.name for path in there.iterdir()) == ["runs"], "no checkpoint, no log, no scratch"
    frame = store.to_dataframe([there])
    assert list(frame["bundle"].str.startswith("Ann, 20")) == [True] * 3
    notes = list(annotate.notes(tables.summary(frame), ["listops"] * 2))
    assert any(note.startswith("merged from a bundle (Ann, 20") for note in notes)


def test_a_colleagues_times_are_not_averaged_with_ours(results: Path, tmp_path: Path) -> None:
    """His second seed is of eight GPUs and fell back: a column of its own, in words; the score is of both."""
    ours, theirs = tmp_path / "ours", sorted(results.glob("runs/softmax-*"))[1]
    shutil.copytree(results, ours)
    shutil.rmtree(ours / "runs" / theirs.name)
    facts = {"platform": "gpu", "device": "NVIDIA H100", "devices": 8, "fallback": "accumulate 8", "step_ms_p50": 2.0}
    store.write_json(theirs / "result.json", {**store.read_json(theirs / "result.json"), **facts})
    merge(pack(results, tmp_path / "a.zip", "Ann", silent).out, ours, silent)
    frame = store.to_dataframe([ours]).assign(code=None)  # of whichever mixer this package has now
    mean = frame[frame["model"] == "softmax"]["step_ms_p50"].mean()
    table = tables.compare(tables.measured(frame[frame["model"] == "softmax"]), "speed")
    (gpu, cpu) = sorted(table.cells, key=lambda head: "H100" not in head)
    assert (gpu, "CPU" in cpu or "EPYC" in cpu) == ("listops quick, 8 x NVIDIA H100", True)
    assert table.cells.loc["softmax", gpu].startswith("2 (")
    assert table.cells.loc["softmax", gpu].endswith(" accumulate 8")
    assert f"{mean:.3g}" not in table.cells.loc["softmax", cpu]
    assert "2 runs" in tables.compare(tables.summary(frame), "accuracy").cells.loc["softmax", "listops quick"]


def test_what_is_there_is_skipped_or_in_conflict(bundle: Path, results: Path, tmp_path: Path) -> None:
    before = texts(results)
    assert len(merge(bundle, results, silent).equal) == 3
    (softmax,) = results.glob("runs/softmax-*-s0-*")
    store.write_json(softmax / "result.json", {**store.read_json(softmax / "result.json"), "compile_s": 1.5})
    (other,) = results.glob("runs/softmax-*-s1-*")
    (other / "result.json").unlink()
    (gone,) = results.glob("runs/fnet-*")
    shutil.rmtree(gone)
    changed = texts(results)
    merged = merge(bundle, results, silent)
    assert (merged.added, merged.equal) == ([gone.name], [])
    assert merged.conflicts[softmax.name].startswith("compile_s 1.5 here, ")
    assert merged.conflicts[other.name] == "begun here, and has no result yet"
    after = texts(results)
    assert after.pop(f"runs/{gone.name}/bundle.json")
    assert {name: text for name, text in after.items() if gone.name not in name} == changed
    assert {name: text for name, text in after.items() if gone.name in name} == {
        name: text for name, text in before.items() if gone.name in name
    }


def named(files: Files, kind: str) -> str:
    return next(name for name in sorted(files) if name.startswith("runs/softmax") and name.endswith(kind))


def edited(kind: str, **values: Any) -> Callable[[Files], None]:
    def edit(files: Files) -> None:
        name = named(files, kind)
        files[name] = json.dumps({**json.loads(files[name]), **values}).encode()

    return edit


def replaced(kind: str, content: bytes) -> Callable[[Files], None]:
    return lambda files: files.update({named(files, kind): content})


def more(name: str, content: bytes = b"{}") -> Callable[[Files], None]:
    return lambda files: files.update({name: content})


def better_hits(files: Files) -> None:
    name = named(files, "per_example.json")
    kept = json.loads(files[name])
    files[name] = json.dumps({**kept, "hits": "ff" * (len(kept["hits"]) // 2)}).encode()


def better_curve(files: Files) -> None:
    name = named(files, "curve.json")
    files[name] = json.dumps([{**point, "val_score": 0.9} for point in json.loads(files[name])]).encode()


def without(kind: str) -> Callable[[Files], None]:
    def drop(files: Files) -> None:
        del files[named(files, kind)]

    return drop


def moved(files: Files) -> None:
    """A run under another one's name."""
    for name in [name for name in files if name.startswith("runs/softmax")]:
        files[name.replace("-s0-", "-s9-")] = files.pop(name)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (more("../evil.json"), r"\.\./evil\.json: no file of a bundle"),
        (more("/tmp/evil.json"), "/tmp/evil.json: no file of a bundle"),
        (more("runs/../../runs/x/result.json"), "no file of a bundle"),
        (more("runs/../result.json"), "no file of a bundle"),
        (more("runs/.x/result.json"), "no file of a bundle"),
        (more("runs/x\\..\\result.json"), "no file of a bundle"),
        (more("runs/x/result.json\x1b[2J"), r"result\.json\\x1b\[2J: no file of a bundle"),
        (more("runs/x/evil.py"), r"evil\.py: no file of a bundle"),
        (more("runs/x/checkpoints/4/state"), "no file of a bundle"),
        (more("runs/x/result.json"), r"x: not a run's folder, it has no run\.json"),
        (more("runs/x/per_example.json", b"0" * (archive.FILE_BYTES + 1)), "larger than a bundle may be"),
        (replaced("result.json", b"[" * 200_000), r"result\.json: cannot be read"),
        (replaced("result.json", b"\xff\xfe"), r"result\.json: cannot be read"),
        (replaced("result.json", pickle.dumps({"run": 1})), r"result\.json: cannot be read"),
        (replaced("result.json", b"[]"), r"result\.json: must be a mapping"),
        (replaced("run.json", b"7"), r"run\.json: must be a mapping"),
        (replaced("curve.json", b"{}"), r"curve\.json: must be a list"),
        (replaced("curve.json", b"[7]"), r"curve\.json: must be a mapping"),
        (replaced("per_example.json", b"7"), r"per_example\.json: not the score of every example"),
        (without("run.json"), r"it has no run\.json"),
        (without("result.json"), r"result\.json: cannot be read"),
        (without("per_example.json"), "has no scores of examples, and is ok"),
        (without("curve.json"), "no val_score of"),
        (edited("result.json", tset_score=1.0), r"result\.json: tset_score: unknown key; did you mean 'test_score'"),
        (edited("result.json", params="many"), r"result\.json: params: .*integer"),
        (edited("result.json", train_loss="nan"), r"result\.json: train_loss: "),
        (edited("result.json", test_score=0.99), r"per_example\.json: a mean of 0\.\d+, and test_score is 0\.99"),
        (edited("result.json", test_n=1000), r"per_example\.json: 2000 examples, and test_n is 1000"),
        (edited("result.json", val_score=0.99), "no val_score of 0.99 at step"),
        (edited("result.json", tag=None), r"result\.json: tag: None, and quick by its run\.json"),
        (edited("result.json", seed=7), r"result\.json: seed: 7, and 0 by its run\.json"),
        (edited("result.json", run="0123456789"), r"result\.json: run: 0123456789, and "),
        (edited("result.json", status="oom"), r"has per_example\.json, and is oom"),
        (edited("result.json", status="fine"), r"result\.json: status: "),
        (edited("result.json", device="\x1b[31mred"), r"result\.json: has characters that cannot be shown: '\\x1b"),
        (edited("run.json", seed=7), r"run\.json: of softmax-listops-quick-s7-\w+, by its content"),
        (edited("run.json", mixer_hash="0"), r"run\.json: of softmax-listops-quick-s0-\w+, by its content"),
        (edited("run.json", extra=1), r"run\.json: extra: unknown key"),
        (edited("per_example.json", n=3), r"per_example\.json: 3 examples, and test_n is 2000"),
        (edited("per_example.json", n=9999), r"per_example\.json: not the score of every example"),
        (better_hits, r"per_example\.json: a mean of 1, and test_score is"),
        (better_curve, "no val_score of"),
        (moved, r"run\.json: of softmax-listops-quick-s0-\w+, by its content"),
    ],
)
def test_what_does_not_agree_is_refused_whole(
    bundle: Path, tmp_path: Path, spoil: Callable[[Files], None], message: str
) -> None:
    files = files_of(bundle)
    spoil(files)
    with pytest.raises(ConfigError, match=message) as refused:
        merge(written(tmp_path / "b.zip", files), tmp_path / "there", silent)
    assert str(refused.value).startswith(str(tmp_path / "b.zip"))
    assert str(refused.value).isprintable()
    assert not list((tmp_path / "there").glob("*"))
    assert not list(tmp_path.glob("**/evil*"))


def test_the_manifest_is_held_to(bundle: Path, tmp_path: Path) -> None:
    def refused(change: Callable[[Files], None], message: str) -> None:
        files = files_of(bundle)
        change(files)
        with pytest.raises(ConfigError, match=message):
            merge(written(tmp_path / "b.zip", files, hashed=False), tmp_path / "there", silent)

    refused(edited("result.json", wall_s=1.0), r"result\.json: not the file that was packed, its hash is another")
    refused(without("curve.json"), r"curve\.json: missing")
    refused(more("runs/x/result.json"), r"runs/x/result\.json: not in the manifest")
    refused(lambda files: files.pop("manifest.json") and None, r"no manifest\.json in it: not a bundle")
    for said, message in (({"format": 2}, "format: "), ({"files": {"../x": "0" * 64}}, "files"), ({"by": 7}, "by: ")):
        changed = json.dumps({**json.loads(files_of(bundle)["manifest.json"]), **said}).encode()
        refused(more("manifest.json", changed), rf"manifest\.json: {message}")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_links_doubles_and_bombs(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = zipfile.ZipInfo("runs/x/result.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for name, message in ((link, "a link or device"), ("manifest.json", "is in it twice")):
        spoilt = shutil.copy(bundle, tmp_path / "b.zip")
        with zipfile.ZipFile(spoilt, "a") as file:
            file.writestr(name, "/etc/passwd")
        with pytest.raises(ConfigError, match=message):
            merge(spoilt, tmp_path / "there", silent)
    whole = sum(map(len, files_of(bundle).values()))
    for limit, most, message in (("TOTAL_BYTES", whole - 1, "larger than a bundle"), ("COUNT", 10, "has at most 10")):
        with monkeypatch.context() as patch:
            patch.setattr(archive, limit, most)
            with pytest.raises(ConfigError, match=message):
                merge(bundle, tmp_path / "there", silent)
    (tmp_path / "c.zip").write_text("no zip")
    for path, message in (("c.zip", "no bundle, which is a zip or a folder"), ("d.zip", "there is no such file")):
        with pytest.raises(ConfigError, match=message):
            merge(tmp_path / path, tmp_path / "there", silent)
    cut = bytearray(bundle.read_bytes())
    cut[200:400] = bytes(200)
    (tmp_path / "e.zip").write_bytes(cut)
    with pytest.raises(ConfigError, match="cannot be read"):
        merge(tmp_path / "e.zip", tmp_path / "there", silent)


def test_a_folder_with_a_link_is_refused(results: Path, tmp_path: Path) -> None:
    folder = pack(results, tmp_path / "folder", None, silent).out
    row = next(folder.glob("runs/*/result.json"))
    row.rename(tmp_path / "elsewhere")
    row.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="a link or device"):
        merge(folder, tmp_path / "there", silent)


def foreign(results: Path, tmp_path: Path, **changed: str) -> str:
    """A result of other code, among the results; its name."""
    (kept,) = results.glob("runs/softmax-*-s1-*")
    run = store.read_run(kept).model_copy(update={"mixer_hash": "a" * 64, **changed})
    row = dataclasses.replace(store.read_results(kept)[0], **store.columns(run))
    folder = kept.rename(kept.parent / run.folder)
    store.write_json(folder / "run.json", run.model_dump())
    store.write_json(folder / "result.json", row.as_dict())
    return folder.name


@pytest.mark.parametrize(
    ("changed", "mark"),
    [({}, "other version"), ({"mixer": "/home/ann/softmax.py"}, "own file"), ({"model": "mine"}, "other version")],
)
def test_rows_of_other_code_are_kept_and_marked(
    results: Path, tmp_path: Path, changed: dict[str, str], mark: str
) -> None:
    name = foreign(results, tmp_path, **changed)
    merged = merge(pack(results, tmp_path / "b.zip", None, silent).out, tmp_path / "there", silent)
    assert len(merged.added) == 3
    assert merged.marked == {name: f"its mixer is of an {mark}"}
    frame = store.to_dataframe([tmp_path / "there"])
    model = changed.get("model", "softmax")
    assert set(tables.labels(frame)) == {"fnet", "softmax", f"{model}[code=aaaaaaaaaa]"}, "not another seed of ours"
    notes = " ".join(annotate.notes(tables.summary(frame), ["listops"] * 3))
    assert "[code=...]: by code that is not this package's" in notes


def test_where_a_row_came_from_travels_on(bundle: Path, tmp_path: Path) -> None:
    merge(bundle, tmp_path / "one", silent)
    onward = pack(tmp_path / "one", tmp_path / "b.zip", "Bob", silent).out
    merge(onward, tmp_path / "two", silent)
    for path in tmp_path.glob("two/runs/*/bundle.json"):
        came = store.read_json(path)
        assert (came["by"], came["before"]["by"], came["before"]["before"]) == ("Bob", "Ann", None)
    assert len(merge(bundle, tmp_path / "two", silent).equal) == 3, "the way it came does not matter"


KILLED = """
import os, signal, sys
from pathlib import Path
from lra_bench.records.bundle import merge
rename, done = Path.rename, []
def renamed(self, target):
    if len(done) == int(sys.argv[3]): os.kill(os.getpid(), signal.SIGKILL)
    done.append(rename(self, target))
Path.rename = renamed
merge(Path(sys.argv[1]), Path(sys.argv[2]), lambda *_: None)
"""


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_merge_that_is_killed_leaves_whole_runs(bundle: Path, tmp_path: Path, after: int) -> None:
    there = tmp_path / "there"
    died = subprocess.run([sys.executable, "-c", KILLED, str(bundle), str(there), str(after)])
    assert died.returncode == -signal.SIGKILL
    assert (there / ".merge").is_dir(), "it died in the middle"
    assert len(store.read_results(there)) == after
    for folder in store.folders(there):
        check(folder)
    merged = merge(bundle, there, silent)
    assert (len(merged.equal), len(merged.added)) == (after, 3 - after)
    assert sorted(path.name for path in there.iterdir()) == ["runs"]


def test_what_nobody_could_merge_is_left_out(lra: Lra, results: Path, tmp_path: Path) -> None:
    (softmax,) = results.glob("runs/softmax-*-s0-*")
    (softmax / "per_example.json").unlink()
    done = lra("bundle", "results", "--out", "b.zip", "--by", "Ann", "--json")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert (len(said["rows"]), list(said["left_out"])) == (2, [softmax.name])
    assert lra("bundle", "results", "--out", "b.zip").stderr == "lra: b.zip: is there already\n"
    assert lra("bundle", "nothing", "--out", "c.zip").stderr.startswith("lra: nothing: no results here; ")


def test_the_commands(lra: Lra, results: Path, tmp_path: Path) -> None:
    done = lra("bundle", "results", "--out", "b.zip", "--by", "Ann")
    assert (done.returncode, done.stdout) == (0, "b.zip: 3 results\n"), done.stderr
    done = lra("merge", "b.zip", "there")
    assert done.stdout == "there: 3 results added, 0 there already, 0 in conflict; made by Ann\n", done.stderr
    listed = lra("ls", "results", "-o", "there")
    assert "merged from a bundle (Ann, 20" in listed.stdout, listed.stderr
    row = next((tmp_path / "there/runs").glob("fnet*/result.json"))
    store.write_json(row, {**store.read_json(row), "wall_s": 1.0})
    done = lra("merge", "b.zip", "there", "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, len(said["equal"]), list(said["conflicts"])) == (1, 2, [row.parent.name])
    refused = lra("merge", "results", "there")
    assert refused.returncode == 2
    assert refused.stderr.startswith("lra: results: ")
    assert len(refused.stderr.strip().splitlines()) == 1
