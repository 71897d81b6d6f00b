"""How far a model looks: exactly as far as it can, and no farther."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import Lra, first_fast

from lra_bench import sweeps
from lra_bench.analysis import effective_context
from lra_bench.analysis.effective_context import Band
from lra_bench.analysis.effective_context.gradients import ProbedModel, _order
from lra_bench.data.batches import in_order
from lra_bench.errors import ConfigError
from lra_bench.measure.context import Probe
from lra_bench.runs.build import built
from lra_bench.runs.execute import examples
from lra_bench.runs.loaded import Trained
from lra_bench.sweeps import Request

N = 12


@pytest.fixture(autouse=True)
def inside(here: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setenv("LRA_CACHE", str(cache))


def model(name: str, *settings: str, task: str = "short", length: int = 40) -> Trained:
    """Untrained: how far it can look does not hang on that."""
    (run,) = sweeps.runs(Request(name, task, "tiny", length=length, settings=settings))
    splits, _ = examples(run, lambda *_, **__: None)
    program = built(run, splits["train"])
    return Trained(run, program, program.init.params, program.init.rest, splits)


def found(run: Trained, n: int = N) -> Probe:
    return effective_context.probe(run, n, 6, 0, lambda *_: None)


def test_bands_and_blocks_cover_the_length() -> None:
    assert effective_context.bands(6) == [Band(0, 0), Band(1, 1), Band(2, 3), Band(4, 5)]
    for length in (1, 2, 7, 64, 100):
        assert [d for near, far in effective_context.bands(length) for d in range(near, far + 1)] == list(range(length))
    assert effective_context.blocks(9) == [1, 2, 4]


@pytest.mark.parametrize(("layers", "kernel", "reach"), first_fast((2, 5, 4), (1, 5, 2), (1, 9, 4)))
def test_a_convolution_is_seen_to_reach_as_far_as_it_does(layers: int, kernel: int, reach: int) -> None:
    run = model("conv-local", f"conv-local.kernel={kernel}", f"backbone.layers={layers}", "backbone.pool=mean")
    seen = found(run)
    assert seen.farthest == reach
    assert seen.within <= reach
    for part in seen.reaches:
        assert (part.gradient > 0) == (part.near <= reach)
        assert (part.moved > 0) == (part.near <= reach), "nothing beyond its reach moves it, not by a rounding"
    assert sum(part.gradient for part in seen.reaches) == pytest.approx(1)


def test_a_place_of_the_models_own_shifts_no_distance() -> None:
    run = model("conv-local", "conv-local.kernel=5", "backbone.pool=cls")
    assert found(run).farthest == 2


@pytest.mark.slow
def test_attention_reaches_everything_and_padding_nothing() -> None:
    run = model("softmax")
    batch = next(in_order(run.splits["test"], N))
    probed = ProbedModel.of(run, batch, 3, np.random.default_rng(0))
    assert (probed.read < probed.mask.sum(-1)).all(), "places of true tokens"
    u = np.float32(
        np.random.default_rng(2).standard_normal((N, 16))
    )  # not all ones: what the last norm leaves has mean 0
    slopes = np.asarray(probed._slopes(probed.tokens, probed.mask, probed.read[0], u))
    assert (slopes[probed.mask] > 0).all()
    assert (slopes[~probed.mask] == 0).all()
    assert not probed.mask.all()
    longest = max(probed._distance(place)[probed.mask].max() for place in range(3))
    assert effective_context.probe(run, N, 3, 0, lambda *_: None).farthest == longest
    seen = found(run)
    assert found(run) == seen, "the same seed, the same figures"


def test_shuffled_blocks_hold_together_and_padding_stays() -> None:
    order = _order(11, 3, 14, np.random.default_rng(1))
    assert sorted(order) == list(range(14))
    assert order[9:].tolist() == [9, 10, 11, 12, 13], "what makes no whole block, and padding"
    starts = order[:9:3]
    assert sorted(starts) == [0, 3, 6]
    assert all(order[i * 3 : i * 3 + 3].tolist() == [s, s + 1, s + 2] for i, s in enumerate(starts))


@pytest.mark.slow
def test_a_model_without_order_reads_no_longer_blocks_than_one() -> None:
    run = model("softmax", "backbone.positions=none", "backbone.pool=mean")
    seen = found(run)
    assert seen.context == 1
    assert seen.shuffled[0].changed == 0
    ordered = model("softmax", "backbone.positions=sinusoidal", "backbone.pool=mean")
    logits = ProbedModel.of(ordered, next(in_order(ordered.splits["test"], N)), 1, np.random.default_rng(0))
    moved = logits._logits(np.flip(logits.batch.tokens, -1).copy()) - logits._as_they_are
    assert np.abs(moved).max() > 0


@pytest.mark.slow
def test_answers_of_every_kind_are_told_apart() -> None:
    run = model("linear")
    probed = ProbedModel.of(run, next(in_order(run.splits["test"], N)), 1, np.random.default_rng(0))
    same = probed._as_they_are
    assert not probed._others(same).any()
    assert probed._others(-same).mean() > 0.5
    from lra_bench.metrics import BITS, EXACT_MATCH, SQUARED_ERROR, TOKEN_ACCURACY

    for metric in (BITS, EXACT_MATCH, SQUARED_ERROR, TOKEN_ACCURACY):
        other = dataclasses.replace(probed, metric=metric)
        assert not other._others(same).any()
        assert other._others(-same).any()


def test_patches_are_refused() -> None:
    with pytest.raises(ConfigError, match="a vector stands for 2 symbols: not probed"):
        found(model("softmax", "backbone.patch=2"))


@pytest.mark.sweep
def test_the_command(lra: Lra, here: Path) -> None:
    settings: list[Any] = ["--set", "conv-local.kernel=3", "--set", "backbone.layers=2"]
    done = lra("run", "-m", "conv-local", "-t", "short", "-c", "tiny", *settings)
    assert done.returncode == 0, done.stderr
    run = next((here / "results/runs").iterdir())
    (told,) = json.loads(lra("probe", run, "--examples", "8", "--json").stdout)
    assert (told["farthest"], told["length"]) == (2, 20)
    assert len(told["reaches"]) == 6
    assert "order that" in lra("probe", run, "--examples", "8").stdout
    assert "95% of the gradient within" in lra("probe", run, "--examples", "8", "--format", "md").stdout
    wrong = lra("probe", here)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
