"""What `lra speed --mode decode` times: a token after others, written where the state is."""

from __future__ import annotations

import pytest
from samples import first_fast

from lra_bench import sweeps
from lra_bench.config import Run
from lra_bench.model import decoding
from lra_bench.speed.decoding import decoder, planned_bytes
from lra_bench.sweeps import Request

CAUSAL = ("backbone.causal=true", "backbone.positions=none", "training.batch=1")


def asked(model: str, length: int) -> Run:
    return sweeps.runs(Request(model, "listops", "speed", length=length, settings=CAUSAL))[0]


def kept(run: Run) -> int:
    found = decoder(run, "decode")
    return decoding.state_bytes(decoding.state_shapes(found.spec, 1, found.room))


@pytest.mark.parametrize(
    "model", first_fast("softmax", "reformer", "routing", "sinkhorn", "strided", "memory-tokens", "compressed")
)
def test_a_token_copies_nothing_that_is_kept_of_the_others(model: str) -> None:
    """A step that copied the keys and values of all tokens would plan for them twice."""
    short, long = asked(model, 2048), asked(model, 8192)
    grows = planned_bytes(long, "decode") - planned_bytes(short, "decode")
    assert grows < 1.3 * (kept(long) - kept(short))
