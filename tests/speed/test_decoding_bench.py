"""What `lra speed --mode decode` times: a token after others, written where the state is."""

from __future__ import annotations

from typing import Any

import pytest
from samples import first_fast

from lra_bench import sweeps
from lra_bench.config import Run
from lra_bench.model import decoding
from lra_bench.speed.decoding import LAP, DecodingBench, decoder, planned_bytes
from lra_bench.speed.largest import largest_batch
from lra_bench.sweeps import Request
from lra_bench.training.program import abstract

CAUSAL = ("backbone.causal=true", "backbone.positions=none")


def asked(model: str, length: int, batch: int = 1) -> Run:
    settings = (*CAUSAL, f"training.batch={batch}")
    return sweeps.runs(Request(model, "listops", "speed", length=length, settings=settings))[0]


def kept(run: Run) -> int:
    found = decoder(run, "decode")
    return decoding.state_bytes(decoding.state_shapes(found.spec, 1, found.room))


@pytest.mark.parametrize(
    "model", first_fast("softmax", "reformer", "routing", "sinkhorn", "strided", "memory-tokens", "compressed", "hyena")
)
def test_a_token_copies_nothing_that_is_kept_of_the_others(model: str) -> None:
    """A step that copied the keys and values of all tokens would plan for them twice."""
    short, long = asked(model, 2048), asked(model, 8192)
    grows = planned_bytes(long, "decode") - planned_bytes(short, "decode")
    assert grows < 1.3 * (kept(long) - kept(short))


def test_a_token_copies_no_weights() -> None:
    """They come of all layers together: a step that cut each layer's out would plan for all of them again."""
    wide = ("backbone.width=256", "backbone.mlp=512", "training.batch=1", *CAUSAL)
    run = sweeps.runs(Request("softmax", "listops", "speed", length=16, settings=wide))[0]
    found = decoder(run, "decode")
    weights = decoding.stepping(abstract(found.spec))[1]
    state = decoding.state_shapes(found.spec, 1, found.room)
    held = decoding.state_bytes((weights, state))
    assert held > 2**22
    assert planned_bytes(run, "decode") < 1.1 * held


@pytest.mark.parametrize(("length", "places"), [(300, range(300 - LAP, 300)), (5, range(5))])
def test_a_lap_is_of_the_last_tokens_of_a_text(length: int, places: range) -> None:
    """Of all that a mixer does at every n-th token there is as much in one lap as in another."""
    bench, read = DecodingBench(asked("softmax", length), "decode"), []
    step = bench.made.step

    def watched(weights: Any, state: Any, tokens: Any) -> Any:
        read.append(int(state.place))
        return step(weights, state, tokens)

    bench.made = bench.made._replace(step=watched)
    for _ in range(2):
        bench.once()
    assert read == [*places, *places]
    assert len(bench.laps.ms) == 1


def test_a_lap_can_be_made_to_take_no_longer_than_so() -> None:
    bench = DecodingBench(asked("softmax", 64), "decode")
    assert bench.shorten(3600.0) is None
    assert bench.shorten(1e-9) == 1
    for _ in range(2):
        bench.once()
    assert int(bench._state.place) == 64, "it is the last token"
    assert len(bench.laps.ms) == 1


@pytest.mark.parametrize("mode", ["decode", "prefill"])
def test_the_largest_batch_is_the_most_that_the_plan_has_room_for(mode: str) -> None:
    room = 8 * 2**20
    found = largest_batch(asked("linear", 64), room, mode)
    fits, more = (planned_bytes(asked("linear", 64, batch), mode) for batch in (found, found + found // 10))
    assert found > 10
    assert fits <= room < more


def test_a_prompt_of_one_token_is_timed() -> None:
    bench = DecodingBench(asked("softmax", 1), "prefill")
    for _ in range(3):
        bench.once()
    assert len(bench.laps.ms) == 2, "the first is not counted"
