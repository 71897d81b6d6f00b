"""A step that does not fit is tried with the same batch in more micro-batches, then with layers computed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lra_bench import sweeps
from lra_bench.config import Run, Training
from lra_bench.errors import RunFailed
from lra_bench.measure.clocks import Stopwatch
from lra_bench.runs import build, execute
from lra_bench.runs.build import Fallback
from lra_bench.shapes import Split
from lra_bench.sweeps import Request

SPLIT = Split(np.ones((8, 1, 20), np.uint8), np.full((8, 1), 20, np.int32), np.zeros(8, np.int32))


@pytest.fixture
def run(here: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(here)
    settings = ("backbone.layers=2", "backbone.dropout=0.0")
    return sweeps.runs(Request("linear", "short", "tiny", settings=settings))[0]


def fallbacks(run: Run, devices: int = 1, **training: Any) -> list[Fallback]:
    changed = Training(**run.recipe.training.model_dump() | training)
    return list(build.ladder(run.recipe.model_copy(update={"training": changed}), devices))


def there(monkeypatch: pytest.MonkeyPatch, fits: Any, memory: int = 1 << 40) -> list[Fallback]:
    """Only programs that `fits` says have the memory; what was compiled."""
    tried: list[Fallback] = []
    compiled = build.compiled

    def noted(run: Run, train: Split, stock: Any) -> Any:
        tried.append(Fallback(run.recipe.training.accumulate, run.recipe.backbone.remat))
        return compiled(run, train, stock)

    def enough(program: Any) -> build.Short | None:
        return None if fits(tried[-1]) else build.Short(300, memory)

    monkeypatch.setattr(build, "compiled", noted)
    monkeypatch.setattr(build, "lacking", enough)
    return tried


def test_the_ladder_halves_slices_while_devices_can_share_one_then_computes_again(run: Run) -> None:
    assert fallbacks(run) == [(1, False), (2, False), (4, False), (8, False), (8, True)]
    assert fallbacks(run, devices=4) == [(1, False), (2, False), (2, True)]
    assert fallbacks(run, batch=12, accumulate=3) == [(3, False), (6, False), (12, False), (12, True)]
    one = run.recipe.model_copy(update={"backbone": run.recipe.backbone.model_copy(update={"layers": 1})})
    assert not any(fallback.remat for fallback in build.ladder(one, 1)), "of a single layer nothing is saved"


@pytest.mark.slow
def test_what_fits_is_as_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = there(monkeypatch, lambda fallback: True)
    _, facts, fallback = build.fitting(run, SPLIT, None, lambda *_, **__: None)
    assert (tried, fallback, facts["fallback"]) == ([(1, False)], (1, False), None)


@pytest.mark.slow
def test_slices_that_cannot_be_enough_are_not_compiled(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.Program, "training", property(lambda self: Planned()))
    tried = there(monkeypatch, lambda fallback: fallback.remat, memory=100)
    said: list[str] = []
    _, facts, fallback = build.fitting(run, SPLIT, None, lambda event, **facts: said.append(event))
    assert tried == [(1, False), (4, False), (8, True)], "3 times too much: 2 slices are too few"
    assert (fallback, facts["accumulate"], facts["fallback"]) == ((8, True), 8, "accumulate 8, remat")
    assert said == ["short", "short"]


class Planned:
    """Three times what is there, of every program."""

    compile_s, flops, compiled_bytes = 0.0, 1.0, 300


@pytest.mark.slow
def test_what_fits_in_no_way_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.Program, "training", property(lambda self: Planned()))
    there(monkeypatch, lambda fallback: False)
    with pytest.raises(RunFailed, match=r"as planned, of 1024\.0 GiB there; nor do more micro-batches help"):
        build.fitting(run, SPLIT, None, lambda *_, **__: None)


@pytest.mark.slow
def test_the_same_batch_in_slices_learns_the_same_and_goes_on_so(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))
    whole = execute.execute(run, tmp_path / "whole", lambda *_, **__: None, lambda _: False, Stopwatch(), fresh=False)
    there(monkeypatch, lambda fallback: fallback.accumulate >= 4)
    sliced = execute.execute(run, tmp_path / "sliced", lambda *_, **__: None, lambda _: False, Stopwatch(), fresh=False)
    assert (whole.fallback, whole.accumulate) == (None, 1)
    assert (sliced.fallback, sliced.accumulate, sliced.batch) == ("accumulate 4", 4, 8)
    assert sliced.train_loss == pytest.approx(whole.train_loss, rel=1e-4)
    assert execute.first_fallback(tmp_path / "sliced", fresh=False) == (4, False)
    assert execute.first_fallback(tmp_path / "sliced", fresh=True) is None
    again = execute.execute(run, tmp_path / "sliced", lambda *_, **__: None, lambda _: False, Stopwatch(), fresh=False)
    assert again.test_score == sliced.test_score
