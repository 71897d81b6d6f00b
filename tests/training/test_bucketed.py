"""Micro-batches sorted by length: the same batch and the same step, of which padding is left out."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import SHORT, Lra
from steps import same, split

from lra_bench import mixers, sweeps
from lra_bench.config import Run
from lra_bench.data.batches import batch_at, by_length, drawn, permutation
from lra_bench.errors import ConfigError
from lra_bench.launch.refusals import refuse
from lra_bench.runs import build
from lra_bench.sweeps import Request
from lra_bench.training import bucketed
from lra_bench.training.bucketed import BucketedProgram, ladder
from lra_bench.training.program import Program

EXAMPLES = split(40)
SORTED = ("training.accumulate=4", "training.length_buckets=3")


@pytest.fixture(autouse=True)
def _short_strides(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setattr(bucketed, "STRIDE", 4)


def asked(model: str, *settings: str, task: str = "short") -> Run:
    (run,) = sweeps.runs(Request(model, task, "tiny", settings=("backbone.dropout=0.0", *settings)))
    return run


def steps(program: Program, count: int) -> tuple[list[float], object]:
    state, losses = jax.tree.map(jnp.copy, program.init), []
    for step in range(count):
        state, loss = program.training.step(state, *program.at(step, [EXAMPLES], permutation))
        losses.append(float(loss))
    return losses, state.params


@pytest.mark.parametrize("model", ["softmax", pytest.param("linformer", marks=pytest.mark.slow)])
def test_a_step_is_the_same_to_rounding(model: str) -> None:
    whole, cut = (build.built(asked(model, *settings)) for settings in ((), SORTED))
    assert isinstance(cut, BucketedProgram)
    assert cut.lengths == (8, 16, 20)
    (losses, params), (others, found) = steps(whole, 3), steps(cut, 3)
    assert others == pytest.approx(losses, rel=1e-5)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.allclose(a, b, atol=1e-5)), params, found)))
    assert not same(params, whole.init.params), "the steps moved them"


@pytest.mark.slow
def test_what_is_computed_is_counted() -> None:
    program = build.built(asked("softmax", *SORTED))
    fed = [program.at(step, [EXAMPLES], permutation) for step in range(5)]
    places = sum(tokens.size for batch in fed for tokens, _, _ in batch)
    facts = program.computed([EXAMPLES], 5)
    assert facts["computed_tokens"] == pytest.approx(places / (5 * 8 * 20))
    assert facts["computed_tokens"] < 0.9
    assert facts["flops_per_step"] < 0.95 * program.training.flops
    assert program.computed([EXAMPLES], 0) == {}


@given(st.integers(1, 5000), st.integers(1, 12))
def test_the_lengths_end_with_the_longest_and_are_at_most_so_many(longest: int, count: int) -> None:
    found = ladder(longest, count)
    assert found[-1] == longest
    assert len(found) <= count
    assert list(found) == sorted(set(found))
    assert all(length % bucketed.STRIDE == 0 for length in found[:-1])


@given(st.integers(0, 30), st.sampled_from([1, 2, 4]))
def test_a_batch_has_its_examples_each_once_and_whole(step: int, parts: int) -> None:
    index = drawn(EXAMPLES, 8, 0, step, permutation)
    cut = by_length(EXAMPLES, index, parts, (8, 12, 20))
    assert sorted(np.concatenate([part for part, _ in cut])) == sorted(index)
    assert all(EXAMPLES.lengths[part].max() <= length for part, length in cut)
    assert [length for _, length in cut] == sorted(length for _, length in cut)
    assert sorted(batch_at(EXAMPLES, 8, 0, step).label) == sorted(EXAMPLES.label[index])


def test_where_padding_counts_it_is_refused() -> None:
    """By the mixer's card, and where nothing is padded."""
    claims = [name for name in mixers.names() if mixers.model_card(name).card.padded_length]
    for name in claims:
        with pytest.raises(ConfigError, match=rf"training\.length_buckets: {name} changes with how far"):
            refuse(asked(name, *SORTED))
    assert 0 < len(claims) < len(mixers.names()) / 2
    with pytest.raises(ConfigError, match="pictures have no padding"):
        refuse(asked("softmax", *SORTED, task="mnist-sequential"))
    with pytest.raises(ConfigError, match="a batch's micro-batches by length: accumulate must be 2 or more"):
        asked("softmax", "training.length_buckets=2")


def test_no_id_moves_where_it_is_not_asked_for() -> None:
    plain, one, three = (asked("softmax", *s) for s in ((), ("training.length_buckets=1",), SORTED))
    assert plain.id == one.id != three.id
    assert "length_buckets" not in plain.recipe.facts()["training"]


@pytest.mark.slow
def test_a_result_says_so(lra: Lra, here: Path) -> None:
    (here / "tasks" / "longer.yaml").write_text(SHORT.replace("20", "150"))
    settings = [part for one in ("training.accumulate=4", "training.length_buckets=4") for part in ("--set", one)]
    done = lra("run", "-m", "softmax", "-t", "longer", "-c", "tiny", "--limit", "64", *settings, "--json")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    assert result["length_buckets"] == 4
    assert 0 < result["computed_tokens"] < 1
