"""Trackers are told what the screen is told; none of them can lose a run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from samples import Lra

from lra_bench import config, sweeps, trackers
from lra_bench.config import Run
from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.records.schema import Result
from lra_bench.sweeps import Request
from lra_bench.trackers import base

POINTS = [{"event": "val", "step": step, "train_loss": 2.0 / step, "val_score": step / 100} for step in (4, 8, 12)]
START, ENDED = {"event": "start", "step": 0, "steps": 12}, {"event": "ended", "status": "ok"}


@pytest.fixture
def run(here: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(here)
    return sweeps.runs(Request("linear", "short", "tiny"))[0]


@pytest.fixture
def results(here: Path, run: Run) -> Path:
    """A results folder with the run's row."""
    store.save(here / "results", run, store.blank(run, "ok", test_score=0.25, params=7, dirty=True, device="abacus"))
    return here / "results"


class Kept:
    """A tracker that keeps what it is told."""

    runs: ClassVar[list[Kept]] = []

    def __init__(self, results: Path, run: Run) -> None:
        self.points: list[tuple[int, Mapping[str, float]]] = []
        self.rows: list[Result | None] = []
        self.runs.append(self)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.points.append((step, values))

    def end(self, row: Result | None) -> None:
        self.rows.append(row)


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    Kept.runs.clear()


def told(makers: Mapping[str, base.Make], results: Path, run: Run, events: list[dict[str, Any]]) -> list[str]:
    """The warnings there were when the trackers had been told of the events."""
    warnings: list[str] = []
    with trackers.opened(makers, results, warnings.append) as tell:
        for event in events:
            tell(run, event)
    return warnings


def test_the_curve_and_the_row(results: Path, run: Run) -> None:
    step = {"event": "step", "step": 1, "steps": 12, "loss": 2.0}
    assert not told({"kept": Kept}, results, run, [{"event": "compile"}, START, step, *POINTS, ENDED])
    (tracked,) = Kept.runs
    assert tracked.points == [(p["step"], {"train_loss": p["train_loss"], "val_score": p["val_score"]}) for p in POINTS]
    assert tracked.rows == [store.get(results, run)]


@pytest.mark.parametrize("why", ["already", "wait"])
def test_what_others_ran_is_not_told(results: Path, run: Run, why: str) -> None:
    told({"kept": Kept}, results, run, [{"event": why}, ENDED])
    assert not Kept.runs
    told({"kept": Kept}, results, run, [{"event": why}, START, ENDED])
    assert [tracked.rows for tracked in Kept.runs] == [[store.get(results, run)]], "it was run after all"


def test_what_failed_or_was_stopped_is_ended(results: Path, run: Run) -> None:
    told({"kept": Kept}, results, run, [ENDED])
    told({"kept": Kept}, results, run, [START, POINTS[0]])
    assert [tracked.rows for tracked in Kept.runs] == [[store.get(results, run)], [None]]


@pytest.mark.parametrize("where", ["__init__", "log", "end"])
def test_a_tracker_that_fails_is_one_line_and_harms_nobody(results: Path, run: Run, where: str) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no such\nserver")

    broken = type("Broken", (Kept,), {where: fail, "runs": []})
    warnings = told({"broken": broken, "kept": Kept}, results, run, [START, *POINTS, ENDED, START, *POINTS, ENDED])
    assert warnings == ["--track broken: OSError: no such server; the runs continue without it"]
    assert [len(tracked.points) for tracked in Kept.runs] == [3, 3]
    assert [len(tracked.rows) for tracked in Kept.runs] == [1, 1]


def test_nobody_waits_for_a_tracker(results: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "PATIENCE", 0.1)
    answered = threading.Event()
    slow = type("Slow", (Kept,), {"log": lambda self, step, values: answered.wait(60) and None, "runs": []})
    assert told({"slow": slow}, results, run, [START, *POINTS]) == [
        "slow: still busy after 0 s; what was not sent by now is not"
    ]
    answered.set()


MISSING = """
import sys
sys.modules[sys.argv[1]] = None
from lra_bench import trackers
try: trackers.chosen(sys.argv[1])
except Exception as error: print(type(error).__name__, error)
"""


def test_names() -> None:
    assert trackers.names() == ("mlflow", "tensorboard", "wandb")
    assert trackers.chosen(None) == {}
    assert list(trackers.chosen("tensorboard, tensorboard")) == ["tensorboard"]
    with pytest.raises(ConfigError, match=r"--track tensorbord: no such tracker; did you mean 'tensorboard'\?"):
        trackers.chosen("tensorbord")


@pytest.mark.parametrize("name", trackers.names())
def test_what_is_not_installed_is_named(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", MISSING, name], capture_output=True, text=True)
    assert done.stdout.startswith(f"ConfigError --track {name}: "), done.stderr
    assert done.stdout.endswith(f"; pip install 'lra-bench[{name}]' brings it\n")


def test_a_sweep_names_its_trackers(here: Path) -> None:
    for said, found in (("", None), ("track: tensorboard,wandb\n", "tensorboard,wandb")):
        (here / "m.yaml").write_text(f"models: linear\ntasks: short\n{said}")
        assert config.sweep(here / "m.yaml").track == found


def events_in(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def scalars(events: Any, name: str) -> list[tuple[int, float]]:
    return [(scalar.step, scalar.value) for scalar in events.Scalars(name)]


def test_tensorboard(results: Path, run: Run) -> None:
    assert not told(trackers.chosen("tensorboard"), results, run, [START, POINTS[0]])
    assert not told(trackers.chosen("tensorboard"), results, run, [START, *POINTS[1:], ENDED]), "taken up again"
    found = events_in(results / "tensorboard" / run.folder)
    assert scalars(found, "train_loss") == [(p["step"], pytest.approx(p["train_loss"])) for p in POINTS]
    assert scalars(found, "val_score") == [(p["step"], pytest.approx(p["val_score"])) for p in POINTS]
    assert scalars(found, "row/test_score") == [(12, 0.25)]
    (text,) = (event.tensor_proto.string_val[0].decode() for event in found.Tensors("row"))
    assert json.loads(text.strip("`\n"))["device"] == "abacus"
    assert b"recipe.training.steps" in found.summary_metadata["_hparams_/session_start_info"].plugin_data.content


@pytest.mark.slow
def test_mlflow(results: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install 'lra-bench[mlflow]'")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    makers = trackers.chosen("mlflow")
    assert not told(makers, results, run, [START, POINTS[0]])
    assert not told(makers, results, run, [START, *POINTS[1:], ENDED]), "taken up again"
    assert not told(makers, results, run, [START, ENDED]), "done anew"
    client = mlflow.MlflowClient(f"sqlite:///{results}/mlflow.db")
    again, tracked = client.search_runs([client.get_experiment_by_name("lra").experiment_id])
    assert (again.info.status, tracked.info.status, tracked.info.run_name) == ("FINISHED", "FINISHED", run.folder)
    assert tracked.data.params["recipe.training.steps"] == "12"
    assert (tracked.data.metrics["row.test_score"], tracked.data.tags["row.device"]) == (0.25, "abacus")
    curve = client.get_metric_history(tracked.info.run_id, "val_score")
    assert [(point.step, point.value) for point in curve] == [(p["step"], p["val_score"]) for p in POINTS]


@pytest.mark.slow
def test_wandb(results: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="pip install 'lra-bench[wandb]'")
    makers = trackers.chosen("wandb")
    for mode, n in (("disabled", 0), (None, 1)):
        monkeypatch.setenv("WANDB_MODE", mode) if mode else monkeypatch.delenv("WANDB_MODE", raising=False)
        assert not told(makers, results, run, [START, *POINTS, ENDED])
        kept = list(results.glob(f"wandb/offline-run-*-{run.id}/run-{run.id}.wandb"))
        assert len(kept) == n
    said = (run.folder, "(?<!row.)train_loss", "(?<!row.)val_score", "row.test_score", "abacus")
    deadline = time.monotonic() + 30  # wandb's own process may write a moment later
    while (missing := unsaid(kept[0], said)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not missing


def unsaid(file: Path, patterns: Sequence[str]) -> list[str]:
    """What stands nowhere in the file."""
    content = file.read_bytes()
    return [pattern for pattern in patterns if not re.search(pattern.encode(), content)]


@pytest.mark.slow
def test_the_command_tells_a_tracker_of_the_curve_that_it_keeps(lra: Lra, here: Path) -> None:
    (here / "m.yaml").write_text("models: linear\ntasks: short\nconfig: tiny\ntrack: tensorboard\n")
    done = lra("sweep", "m.yaml")
    assert done.returncode == 0, done.stderr
    (run,) = (here / "results/runs").iterdir()
    found, row = events_in(here / "results/tensorboard" / run.name), store.read_json(run / "result.json")
    curve = [(point["step"], pytest.approx(point["val_score"])) for point in store.read_json(run / "curve.json")]
    assert scalars(found, "val_score") == curve
    assert scalars(found, "row/test_score") == [(12, pytest.approx(row["test_score"]))]
    before = {path.name for path in here.glob("results/tensorboard/*/*")}
    again = lra("sweep", "m.yaml")
    assert again.returncode == 0, again.stderr
    assert {path.name for path in here.glob("results/tensorboard/*/*")} == before, "done before, not told again"


@pytest.mark.slow
def test_a_tracker_that_fails_loses_no_run(lra: Lra, here: Path) -> None:
    (here / "results").mkdir()
    (here / "results/tensorboard").write_text("no folder")
    done = lra("run", "-m", "linear", "-t", "short", "-c", "tiny", "--track", "tensorboard", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["test_n"] == 21
    assert [line for line in done.stderr.splitlines() if "--track" in line] == [
        next(line for line in done.stderr.splitlines() if line.endswith("; the runs continue without it"))
    ]


def test_a_tracker_that_is_not_there_is_one_line(lra: Lra, here: Path) -> None:
    done = lra("run", "-m", "linear", "-t", "short", "-c", "tiny", "--track", "wanbd")
    assert (done.returncode, done.stderr) == (2, "lra: --track wanbd: no such tracker; did you mean 'wandb'?\n")
    assert not (here / "results").exists()
