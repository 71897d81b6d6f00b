"""Long-short attention: segments, projections over true tokens, two norms, one softmax."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import Values, attention, compare, cut, draw, join, layer_norm, softmax, texts

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.long_short import Config, Mixer, Segments


def near(length: int, width: int) -> np.ndarray:
    """[i, j]: j is in i's segment, or among the width / 2 on either side of it."""
    segment, side = np.arange(length)[:, None] // width, width // 2
    j = np.arange(length)
    return (j >= segment * width - side) & (j < (segment + 1) * width + side)


@pytest.mark.parametrize(("window", "rank"), [(4, 3), (5, 0)])
def test_the_equation(window: int, rank: int) -> None:
    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        Q, K, V = np.split(x @ p["qkv"], 3, axis=1)
        seen = near(len(x), window) & mask
        if rank:
            P = softmax((x @ p["gather"]).T, mask)
            far = (join([part @ X for part, X in zip(np.split(P, 2), cut(X), strict=True)]) for X in (K, V))
            K, V = (
                np.concatenate([layer_norm(X, *norm(p, "near")), layer_norm(F, *norm(p, "far"))])
                for X, F in zip((K, V), far, strict=True)
            )
            seen = np.concatenate([seen, np.full((len(x), rank), mask.any())], axis=1)
        return join(attention(cut(Q), cut(K), cut(V), seen)) @ p["out"]

    compare(draw(Mixer, Config(window, rank), Dims(8, 2, 4, 14)), equation, *texts(13, 8))


def test_the_causal_equation() -> None:
    """Segments of 3 tokens, 2 rows each: the rows of those before a token's own, and its latest 4 tokens."""
    config = Config(window=4, segment=3, segment_rank=2)

    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        Q, K, V = np.split(x @ p["qkv"], 3, axis=1)
        i = np.arange(len(x))
        seen, rows = [mask & (i <= i[:, None]) & (i > i[:, None] - 4)], {"K": [], "V": []}
        for first in range(0, len(x), 3):
            here = slice(first, first + 3)
            P = softmax((x[here] @ p["gather"]).T, mask[here])
            for name, X in (("K", K), ("V", V)):
                rows[name].append(join(part @ X for part, X in zip(np.split(P, 2), cut(X[here]), strict=True)))
            seen.append(np.repeat((first + 3 <= i[:, None]) & mask[here].any(), 2, axis=1))
        K, V = (
            np.concatenate([layer_norm(X, *norm(p, "near")), *(layer_norm(F, *norm(p, "far")) for F in rows[name])])
            for name, X in (("K", K), ("V", V))
        )
        return join(attention(cut(Q), cut(K), cut(V), np.concatenate(seen, axis=1))) @ p["out"]

    compare(draw(Mixer, config, Dims(8, 2, 4, 14, causal=True)), equation, *texts(13, 8))


def norm(p: Values, name: str) -> tuple[np.ndarray, np.ndarray]:
    return p[f"{name}.scale"], p[f"{name}.bias"]


@pytest.mark.parametrize("width", [1, 8, 50, 64, 100, 128, 300])
def test_no_pair_is_left_out_of_the_table(width: int) -> None:
    pattern, i = Segments(width), np.arange(330)
    table = pattern.table(6, 6)
    met = (table[:, :, None] == np.arange(6)).any(1)[i[:, None] // 64, i // 64]
    seen = np.asarray(pattern.bias(jnp.asarray(i)[:, None], jnp.asarray(i))) == 0
    np.testing.assert_array_equal(seen, near(330, width))
    assert not (seen & ~met).any()
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in table)


def test_the_kernel_compiles_for_a_tpu_that_is_not_here() -> None:
    """Where it lowers a sign, as of floor division, Mosaic asks the device that is here for its generation."""
    place = jnp.arange(64, dtype=jnp.int32)
    written = str(jax.make_jaxpr(Segments(8).bias)(place[:, None], place))
    assert "rem" in written
    assert "sign" not in written


@pytest.mark.parametrize(
    ("options", "named"), [({"window": 0}, "window"), ({"rank": -1}, "rank"), ({"segment": 0}, "segment")]
)
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
