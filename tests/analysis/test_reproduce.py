"""A result run again: bit for bit where nothing differs, within what examples can tell where something does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import Lra, ran_own

from lra_bench import mixers, sweeps
from lra_bench.analysis import reproduce
from lra_bench.analysis.reproduce import Ran, Reproduction, compared, finished
from lra_bench.config import Launcher, Run
from lra_bench.errors import ConfigError
from lra_bench.launch.engine import Order
from lra_bench.metrics import ACCURACY
from lra_bench.records import provenance, store

LINEAR = mixers.model_card("linear").path
KEPT = Path(__file__).parents[2] / "results/quick/runs"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of a result that this repository keeps, on 2,000 examples of test."""
    (kept,) = KEPT.glob("linear-listops-quick-s0-*")
    return shutil.copytree(kept, tmp_path / "kept/runs" / kept.name)


def again(run: Path, flipped: int = 0, **columns: Any) -> Reproduction:
    """The run beside itself with so many hits turned over, and other columns of its row."""
    new = shutil.copytree(run, run.parent / "new", dirs_exist_ok=True)
    scores = store.scores(run)
    assert scores is not None
    scores[np.flatnonzero(scores)[:flipped]] = False
    store.save_scores(new, scores, ACCURACY)
    columns = {"test_score": float(scores.mean()), **columns}
    store.write_json(new / "result.json", {**store.read_json(run / "result.json"), **columns})
    return compared(Ran.open(run), Ran.open(new))


def unlike(found: Reproduction) -> list[str]:
    return [line.what for line in (*found.outcome, *found.place) if not line.same]


def test_bit_for_bit(run: Path) -> None:
    found = again(run, started="another day", step_ms_p50=1.0, wall_s=2.0)
    assert (found.verdict, unlike(found)) == ("identical", [])


def test_one_example_is_a_difference_where_all_else_is_the_same(run: Path) -> None:
    found = again(run, flipped=1)
    assert (found.verdict, unlike(found)) == ("differs", ["test_score", "test examples"])
    assert [line.apart for line in found.outcome if line.what == "test examples"] == [1]
    assert again(run, train_loss=1.0).verdict == "differs"


def test_a_new_release_of_the_same_code_is_no_other_place(run: Path) -> None:
    versions = json.loads(store.read_json(run / "result.json")["versions"]) | {"lra-bench": "9.0"}
    found = again(run, flipped=1, versions=json.dumps(versions))
    assert (found.verdict, unlike(found)) == ("differs", ["test_score", "test examples"])


@pytest.mark.parametrize(
    "moved",
    [
        {"device": "abacus"},
        {"versions": '{"jax": "9"}'},
        {"code_hash": "f"},
        {"parts_hash": "f"},
        {"code_hash": None, "commit": "f"},
        {"code_hash": None, "dirty": True},
    ],
)
def test_elsewhere_it_is_held_to_what_examples_can_tell(run: Path, moved: dict[str, Any]) -> None:
    near, far = again(run, flipped=3, **moved), again(run, flipped=60, **moved)
    assert (near.verdict, far.verdict) == ("agrees", "differs")
    assert near.paired is not None
    assert near.paired.p > 0.05
    assert near.paired.difference == pytest.approx(-3 / 2000)
    assert again(run, flipped=3, data_hash="other", **moved).verdict == "differs", "not the same examples"
    assert again(run, flipped=3, params=1, **moved).verdict == "differs", "not the same model"


def test_without_a_promise_of_bits_it_is_held_to_what_examples_can_tell(run: Path) -> None:
    def on_a_gpu(flipped: int, said: bool | None) -> str:
        columns = {"platform": "gpu", "device": "NVIDIA H100", "matmul": "tf32", "deterministic": said}
        store.write_json(run / "result.json", {**store.read_json(run / "result.json"), **columns})
        return again(run, flipped=flipped).verdict

    assert [on_a_gpu(3, said) for said in (False, None, True)] == ["agrees", "agrees", "differs"]
    assert [on_a_gpu(60, said) for said in (False, None, True)] == ["differs"] * 3
    assert on_a_gpu(0, False) == "identical"


def test_what_a_kept_row_does_not_say_of_its_place_is_no_difference(run: Path) -> None:
    store.write_json(
        run / "result.json", {**store.read_json(run / "result.json"), "matmul": None, "deterministic": None}
    )
    assert again(run, flipped=3, matmul="float32", deterministic=True).verdict == "differs"
    store.write_json(run / "result.json", {**store.read_json(run / "result.json"), "matmul": "float32"})
    assert again(run, flipped=3, matmul="tf32").verdict == "agrees"
    there = json.loads(store.read_json(run / "result.json")["environment"]) | {"CUDA_VISIBLE_DEVICES": "1"}
    assert again(run, flipped=3, environment=json.dumps(there)).verdict == "differs", "one GPU is as another"


def test_what_cannot_be_held_to_its_row(run: Path) -> None:
    row = store.read_json(run / "result.json")
    store.write_json(run / "result.json", row | {"status": "oom"})
    with pytest.raises(ConfigError, match="oom; only a run that finished, or diverged"):
        finished(run)
    store.write_json(run / "result.json", row)
    (run / "per_example.json").unlink()
    with pytest.raises(ConfigError, match=r"has no per_example\.json"):
        finished(run)
    (run / "result.json").unlink()
    with pytest.raises(ConfigError, match="has no result yet"):
        finished(run)


def test_it_is_run_as_it_was(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, str | None]] = []

    def ran(runs: list[Run], launcher: Launcher, order: Order, tell: object) -> None:
        folder = store.folder(order.results, runs[0])
        fallback = folder / "fallback.json"
        asked.append((order.jobs, fallback.read_text() if fallback.exists() else None))
        shutil.copytree(run, folder, dirs_exist_ok=True)

    monkeypatch.setattr(sweeps, "run", ran)
    assert reproduce.again(finished(run), print).verdict == "identical"
    store.write_json(run / "result.json", store.read_json(run / "result.json") | {"jobs": 3})
    (run / "fallback.json").write_text("[2, false]")
    reproduce.again(finished(run), print)
    reproduce.again(finished(run), print, jobs=2, keep=tmp_path / "new")
    assert asked == [(1, None), (3, "[2, false]"), (2, "[2, false]")]
    with pytest.raises(ConfigError, match=r"--keep .*: has a result of this run already"):
        reproduce.again(finished(run), print, keep=tmp_path / "new")


def test_a_run_by_its_folder_its_name_or_its_id(run: Path) -> None:
    results = run.parents[1]
    for said in (str(run), run.name, run.name.rpartition("-")[2]):
        assert store.find(said, results) == run
    with pytest.raises(ConfigError, match=f"no folder, and no run in .*; did you mean '{run.name}'"):
        store.find(run.name[:-2], results)
    with pytest.raises(ConfigError, match="it has 1; lra ls results"):
        store.find("0123456789", results)


def test_whose_code_a_mixer_is(run: Path, tmp_path: Path) -> None:
    kept = store.read_run(run)
    here = kept.with_mixers([kept.mixer_specs[0].model_copy(update={"mixer_hash": mixers.code(LINEAR)})])
    assert provenance.of(here) == "here", "wherever its file lay"
    assert provenance.as_here(here).mixer == "lra_bench/mixers/linear.py", "and nothing says where it lies here"
    assert provenance.as_here(here).files == [mixers.model_card("linear").path]
    older = here.model_copy(update={"mixer_hash": "0"})
    assert provenance.of(older) == "other version"
    assert provenance.as_here(older).id == here.id
    gone = older.model_copy(update={"model": "linea"})
    with pytest.raises(ConfigError, match="this version has no such mixer; did you mean 'linear'"):
        provenance.as_here(gone)
    own = older.model_copy(update={"mixer": str(tmp_path / "linear.py")})
    assert provenance.of(own) == "own file", "whatever its name is"
    with pytest.raises(ConfigError, match="a file of its user's own, which is not here"):
        provenance.as_here(own)
    shutil.copy(mixers.model_card("softmax").path, own.mixer)
    assert provenance.as_here(own).mixer_hash == provenance.hash_of(mixers.model_card("softmax").path)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of a finished run of a mixer of the user's own."""
    return ran_own(tmp_path_factory.mktemp("ran"), cache)


@pytest.mark.slow
def test_the_command_says_whether_it_is_the_same(lra: Lra, ran: Path, tmp_path: Path) -> None:
    done = lra("reproduce", ran.name, "-o", ran.parents[1], "--keep", "kept", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["verdict"], found["paired"]["p"]) == ("identical", 1.0)
    assert found["run"]["old"] == found["run"]["new"]
    assert store.find(ran.name, tmp_path / "kept")
    refused = lra("reproduce", ran, "--keep", ran.parents[1])
    assert refused.returncode == 2
    assert "has a result of this run already" in refused.stderr


@pytest.mark.slow
def test_a_mixer_that_has_changed_is_run_as_it_is(lra: Lra, ran: Path) -> None:
    mine, row = ran.parents[2] / "mine.py", store.read_json(ran / "result.json")
    before = mine.read_text()
    try:
        mine.write_text(f"{before}\nMORE = 1\n")
        store.write_json(ran / "result.json", row | {"params": 7})
        done = lra("reproduce", ran)
    finally:
        mine.write_text(before)
        store.write_json(ran / "result.json", row)
    assert done.returncode == 1, done.stderr
    assert f"{ran.name}: not the same" in done.stdout
    assert "mine.py has changed since; it was run as it is now" in done.stdout
    assert "other than then: " in done.stdout


def test_what_is_no_run_is_one_line_and_exit_code_2(lra: Lra) -> None:
    done = lra("reproduce", "nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("lra: nothing: no folder, and no run in results/runs")
    assert len(done.stderr.strip().splitlines()) == 1
