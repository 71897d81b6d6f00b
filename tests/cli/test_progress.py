"""What is said of runs while they go on, a line each where there is no terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lra_bench import sweeps
from lra_bench.cli.progress import Watch
from lra_bench.config import Run
from lra_bench.launch.engine import Order
from lra_bench.records.schema import Result
from lra_bench.records.store import blank
from lra_bench.sweeps.run import Scheduler


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return sweeps.runs(sweeps.Request("linformer,softmax", "listops", "quick"))


def lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return capfd.readouterr().err.splitlines()


def told(watch: Watch, run: Run, *events: dict[str, Any]) -> None:
    for event in events:
        watch(run, event)


def test_each_result_is_said_as_it_comes(runs: list[Run], capfd: pytest.CaptureFixture[str]) -> None:
    watch, (first, second) = Watch(None, 2), runs
    told(watch, first, {"event": "ended", "status": "ok", "test_score": 0.2464, "error": None})
    assert lines(capfd) == ["linformer on listops: test 24.6 % (1/2)"]
    told(watch, second, {"event": "ended", "status": "oom", "test_score": None, "error": "needs 9 GiB"})
    assert lines(capfd) == ["softmax on listops: oom: needs 9 GiB (2/2)"]


def test_what_was_done_before_is_said_with_its_result(runs: list[Run], capfd: pytest.CaptureFixture[str]) -> None:
    ended = {"event": "ended", "status": "at-chance", "test_score": 0.15, "error": None}
    told(Watch(None, 2), runs[0], {"event": "already", "code": None}, ended)
    (line,) = lines(capfd)
    assert line == "linformer on listops: test 15.0 %, at chance (1/2), done before; --overwrite does it again"
    told(Watch(None, 1), runs[0], {"event": "already", "code": None}, ended)
    assert lines(capfd) == ["linformer on listops: done before; --overwrite does it again"], "its table follows"


def test_what_happens_before_and_after_the_steps_is_said(runs: list[Run], capfd: pytest.CaptureFixture[str]) -> None:
    told(
        Watch(None),
        runs[0],
        {"event": "starting"},
        {"event": "data", "what": "generating examples", "done": 0, "total": 23000},
        {"event": "data", "what": "generating examples", "done": 500, "total": 23000},
        {"event": "compile", "length": 2048},
        {"event": "test", "n": 2000},
        {"event": "timing"},
    )
    said = [line.removeprefix("linformer on listops: ") for line in lines(capfd)]
    assert said == [
        "starting, importing JAX",
        "generating examples, 23,000",
        "compiling, L = 2,048",
        "evaluating test, 2,000 examples",
        "timing the forward pass",
    ]


def test_a_sweep_tells_each_rows_score(runs: list[Run], tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    class Engine:
        at_once, ended = 1, False

        def run(self, run: Run, tell: Any) -> Result:
            return blank(run, "ok", test_score=0.5)

    scheduler = Scheduler(Engine(), Order(tmp_path), lambda run, event: heard.append(event), False, alone=False)  # type: ignore[arg-type]
    scheduler.work(runs)
    assert [(event["event"], event["test_score"]) for event in heard] == [("ended", 0.5), ("ended", 0.5)]
