"""The seven promises of `lra_bench/mixers/base.py`, for every mixer that is found; and that broken ones are caught."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lra_bench import mixers
from lra_bench.contract import PROMISES, verify
from lra_bench.kernels.softmax_attention import softmax_attention_reference


@pytest.mark.parametrize("name", mixers.names())
def test_the_contract(name: str) -> None:
    verdicts = list(verify(mixers.sheet(name)))
    assert len(verdicts) == len(PROMISES) == 7
    assert not [verdict for verdict in verdicts if not verdict.held]


BROKEN = {
    1: ("return x * m + jnp.cumsum(x * m, axis=1)", "sees nothing that comes after"),
    2: ("return x + x.mean(1, keepdims=True)", "LRA's: padding is in the mean"),
    3: ("return x + (x * m).sum(1, keepdims=True) / m.sum(1, keepdims=True)", "no token, no mean"),
    4: ("return jnp.float32(x) + jnp.float32(x * m).sum(1, keepdims=True)", "always float32"),
    5: ("return x + (x * m).sum((0, 1))", "rows see each other"),
    6: ("i = jnp.arange(x.shape[1])\n        near = (abs(i[:, None] - i) < 9) * jnp.einsum('bld,bmd->blm', x, x)\n"
        "        return jnp.einsum('blm,bmd->bld', near, x * m)", "a dense product under a mask"),
}  # fmt: skip


@pytest.mark.parametrize("promise", BROKEN)
def test_a_broken_promise_is_named(promise: int, tmp_path: Path) -> None:
    body, _ = BROKEN[promise]
    path = tmp_path / "mine.py"
    path.write_text(f'''
from dataclasses import dataclass
import jax.numpy as jnp
from lra_bench.mixers.base import MixerBase
from lra_bench.mixers.card import Card

CARD = Card(title="", family="fixed-pattern", paper="", equation="", year=2026, time=1.0, memory=1.0, exact_when="",
            differs="")

@dataclass(frozen=True)
class Config:
    """None."""

class Mixer(MixerBase):
    def __init__(self, config, dims, *, rngs):
        pass

    def __call__(self, x, mask, *, key):
        m = mask[..., None].astype(x.dtype)
        {body}
''')
    broken = {verdict.promise for verdict in verify(mixers.sheet(str(path))) if not verdict.held}
    assert promise in broken


def test_the_limit_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    source = mixers.sheet("local").path.read_text()
    path.write_text(source.replace("window=dims.length", "window=dims.length - 2"))
    assert [verdict.promise for verdict in verify(mixers.sheet(str(path))) if not verdict.held] == [7]


def test_the_oracle_is_the_equation() -> None:
    q, k, v = jax.random.normal(jax.random.key(4), (3, 1, 1, 5, 4))
    weights = np.exp(np.asarray(q[0, 0] @ k[0, 0].T) / 2)
    weights[:, 4] = 0
    mask = jnp.array([[True, True, True, True, False]])
    y = softmax_attention_reference(q, k, v, mask)[0, 0]
    np.testing.assert_allclose(y, weights / weights.sum(1, keepdims=True) @ np.asarray(v[0, 0]), rtol=1e-5)
