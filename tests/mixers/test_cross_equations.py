"""Cross forms beside their papers' equations, written out in numpy with float64: values and slopes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import coins, normal
from equations import Values, attention, compare, cut, draw, gelu, join, layer_norm, softmax, values

from lra_bench import mixers
from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims, MixerBase

M, L, D, H, K = 7, 11, 6, 2, 4  # places of a target and of a source
DIMS = Dims(D, H, K, 14)
X = normal(3, M + L, D, seed=1)
TARGETS, SOURCES = [M, 4, M], [L, 6, 3]
MASK = jnp.asarray([[*(np.arange(M) < m), *(np.arange(L) < n)] for m, n in zip(TARGETS, SOURCES, strict=True)])

Reads = Callable[[Values, np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Joined(MixerBase):
    """A cross form as a mixer of one text: a target, and behind it the source, where nothing is read."""

    def __init__(self, config: Any, dims: Dims, *, form: Any, rngs: Any) -> None:
        self.cross = form.Cross(config, dims, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array, *, key: jax.Array | None) -> jax.Array:
        y = self.cross(x[:, :M], x[:, M:], mask[:, :M], mask[:, M:], key=key)
        return jnp.pad(y, ((0, 0), (0, L), (0, 0)))


def joined(name: str, dims: Dims = DIMS, **options: Any) -> Joined:
    path = mixers.model_card(name).path
    return draw(partial(Joined, form=mixers.load_cross(path)), mixers.load(path).Config(**options), dims)


def hold(mixer: Joined, reads: Reads, untrained: tuple[str, ...] = ()) -> None:
    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        own = {name.removeprefix("cross."): value for name, value in p.items()}
        return np.concatenate([reads(own, x[:M], x[M:], mask[:M], mask[M:]), np.zeros((L, D))])

    compare(mixer, equation, X, MASK, untrained)


def heads(p: Values, x: np.ndarray, memory: np.ndarray) -> list[np.ndarray]:
    """Queries, keys and values."""
    return [cut(part, H) for part in (x @ p["q"], *np.split(memory @ p["kv"], 2, axis=-1))]


def by_features(p: Values, x: np.ndarray, memory: np.ndarray, mask: np.ndarray, phi: Any, floor: float) -> np.ndarray:
    """With all weights phi(q_i) . phi(k_j)."""
    q, k, v = heads(p, x, memory)
    weights = phi(p, q) @ phi(p, k).swapaxes(-1, -2) * mask
    return join(weights @ v / np.maximum(weights.sum(-1, keepdims=True), floor)) @ p["out"]


def elu(p: Values, x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x + 1, np.exp(x))


def cosines(p: Values, x: np.ndarray) -> np.ndarray:
    angle, x = np.pi / 2 / DIMS.length * np.arange(x.shape[1])[:, None], np.maximum(x, 0)
    return np.concatenate([x * np.cos(angle), x * np.sin(angle)], axis=-1)


def waves(p: Values, x: np.ndarray) -> np.ndarray:
    angle = x / np.linalg.norm(x, axis=-1, keepdims=True) @ (p["features"] * p["sigma"][:, None]).swapaxes(-1, -2)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1) / p["features"].shape[1] ** 0.5


def positive(p: Values, x: np.ndarray) -> np.ndarray:
    x = x / K**0.25
    return np.exp(x @ p["features"].T - np.square(x).sum(-1, keepdims=True) / 2)


def rectified(p: Values, x: np.ndarray) -> np.ndarray:
    return np.maximum(x / K**0.25 @ p["features"].T, 0) + 1e-3


@pytest.mark.parametrize(
    ("name", "options", "phi", "floor"),
    [
        ("rfa", {"features": 6}, waves, 1e-2),
        ("linear", {}, elu, 1e-6),
        ("cosformer", {}, cosines, 1e-6),
        ("performer", {"features": 6}, positive, 0),
        ("performer", {"features": 6, "kernel": "relu"}, rectified, 1e-6),
    ],
)
def test_equations_of_features(name: str, options: dict[str, Any], phi: Any, floor: float) -> None:
    untrained = ("cross.features",) if "features" in options else ()
    hold(
        joined(name, **options),
        lambda p, x, memory, there, mask: by_features(p, x, memory, mask, phi, floor),
        untrained,
    )


def full(p: Values, x: np.ndarray, memory: np.ndarray, there: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return join(attention(*heads(p, x, memory), mask)) @ p["out"]


def low_rank(p: Values, x: np.ndarray, memory: np.ndarray, there: np.ndarray, mask: np.ndarray) -> np.ndarray:
    q, k, v = heads(p, x, memory)
    E, F = (p["rows"][i][..., :L] for i in (0, -1))
    return join(attention(q, E @ (k * mask[:, None]), F @ (v * mask[:, None]), np.True_)) @ p["out"]


def cells(p: Values, x: np.ndarray, memory: np.ndarray, there: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Kernels of 3, a stride of 2."""
    q, k, v = heads(p, x, memory)
    k, v = (np.pad(join(part * mask[:, None]), ((0, 3), (0, 0))) for part in (k, v))
    begins = range(0, L, 2)
    k, v = (
        cut(np.stack([part[n : n + 3].reshape(-1) @ p[name] for n in begins]), H)
        for part, name in ((k, "compress_k"), (v, "compress_v"))
    )
    return join(attention(q, k, v, np.array([mask[n : n + 3].any() for n in begins]))) @ p["out"]


def landmarks(p: Values, x: np.ndarray, memory: np.ndarray, there: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Means of segments of 2, and the pseudo-inverse itself."""
    q, k, v = heads(p, x, memory)

    def means(a: np.ndarray, real: np.ndarray) -> np.ndarray:
        parts = [a[:, n : n + 2][:, real[n : n + 2]] for n in range(0, len(real), 2) if real[n : n + 2].any()]
        return np.stack([part.mean(1) for part in parts], axis=1)

    q_mean, k_mean = means(q, there), means(k, mask)
    A = softmax(q_mean @ k_mean.swapaxes(-1, -2) / K**0.5, np.True_)
    return join(attention(q, k_mean, np.linalg.pinv(A) @ attention(q_mean, k, v, mask), np.True_)) @ p["out"]


def along(p: Values, x: np.ndarray, memory: np.ndarray, there: np.ndarray, mask: np.ndarray, seen: Any) -> np.ndarray:
    q, k, v = heads(p, x, memory)
    return (
        join(attention(q, k, v, seen(np.arange(M)[:, None], np.arange(L), there.sum(), mask.sum()) & mask)) @ p["out"]
    )


def diagonal(i: np.ndarray, j: np.ndarray, m: int, n: int) -> np.ndarray:
    return abs(j - np.round(i * n / m)) <= 2


def dilated(i: np.ndarray, j: np.ndarray, m: int, n: int) -> np.ndarray:
    apart = abs(j - np.round(i * n / m))
    return np.stack([apart <= 2, (apart <= 6) & (apart % 3 == 0)])


def blocks(i: np.ndarray, j: np.ndarray, m: int, n: int) -> np.ndarray:
    return j // 4 == np.round(i * n / m) // 4


def growing(i: np.ndarray, j: np.ndarray, m: int, n: int) -> np.ndarray:
    return abs(j - np.minimum(i, n - 1)) <= 2


@pytest.mark.parametrize(
    ("name", "options", "reads"),
    [
        ("local", {"window": 2}, partial(along, seen=diagonal)),
        ("local", {"window": 2, "dilation": 3, "near_heads": 1}, partial(along, seen=dilated)),
        ("local", {"window": 4, "form": "block"}, partial(along, seen=blocks)),
        ("softmax", {}, full),
        ("softmax", {"impl": "batched"}, full),
        ("linformer", {"rank": 3}, low_rank),
        ("linformer", {"rank": 3, "sharing": "none"}, low_rank),
        ("compressed", {"kernel": 3, "stride": 2}, cells),
    ],
)
def test_equations_of_queries_and_keys(name: str, options: dict[str, Any], reads: Reads) -> None:
    hold(joined(name, **options), reads)


def test_the_equation_of_a_window_on_a_growing_target() -> None:
    """Its center is the place itself, up to the source's last token: its length is not known."""
    hold(joined("local", replace(DIMS, causal=True), window=2), partial(along, seen=growing))


def test_the_equation_of_landmarks() -> None:
    """At values alone: two landmarks of a target are nearly one, and the slopes of the inverse are steep."""
    mixer = joined("nystromformer", landmarks=7, kernel=0, steps=60)
    with jax.default_matmul_precision("highest"):
        y = np.float64(jax.jit(partial(mixer, key=None))(X, MASK))
    own = {name.removeprefix("cross."): value for name, value in values(mixer).items()}
    for made, x, mask in zip(y, np.float64(X), np.asarray(MASK), strict=True):
        exact = landmarks(own, x[:M], x[M:], mask[:M], mask[M:])
        np.testing.assert_allclose(made[:M][mask[:M]], exact[mask[:M]], atol=2e-3)


def multihead(p: Values, name: str, x: np.ndarray, y: np.ndarray, mask: Any = np.True_) -> np.ndarray:
    kv = p[f"{name}.kv"]
    read = join(attention(*(cut(a, H) for a in (x @ p[f"{name}.q"], y @ kv[0], y @ kv[-1])), mask))
    return read @ p[f"{name}.out"] if f"{name}.out" in p else read


def norm(p: Values, name: str, x: np.ndarray) -> np.ndarray:
    return layer_norm(x, p[f"{name}.scale"], p[f"{name}.bias"])


def dense(p: Values, name: str, x: np.ndarray) -> np.ndarray:
    return x @ p[f"{name}.kernel"] + p[f"{name}.bias"]


def latents(p: Values, x: np.ndarray, memory: np.ndarray, there: np.ndarray, mask: np.ndarray) -> np.ndarray:
    z = p["latents"]
    for name, context, seen in (("reading", memory, mask), ("blocks.0", None, np.True_)):
        normal = norm(p, f"{name}.before_attention", z)
        z = z + multihead(p, f"{name}.attention", normal, normal if context is None else context, seen)
        z = z + dense(p, f"{name}.down", gelu(dense(p, f"{name}.up", norm(p, f"{name}.before_mlp", z))))
    return multihead(p, "answer", x, norm(p, "norm", z))


def packed(p: Values, x: np.ndarray, memory: np.ndarray, there: np.ndarray, mask: np.ndarray) -> np.ndarray:
    angle = np.arange(len(p["rows"]))[:, None] / 10000 ** (np.arange(0, D, 2) / D)
    places = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(-1, D)
    asked = norm(p, "norm", D**0.5 * p["rows"] + places)
    return multihead(p, "unpack", x, multihead(p, "pack", asked, memory, mask))


def induced(p: Values, x: np.ndarray, memory: np.ndarray, there: np.ndarray, mask: np.ndarray) -> np.ndarray:
    a = norm(p, "before_rff", p["points"] + multihead(p, "gather", p["points"], memory, mask))
    return multihead(p, "give", x, norm(p, "after_rff", a + np.maximum(dense(p, "rff", a), 0)))


@pytest.mark.parametrize(
    ("name", "options", "reads"),
    [
        ("set-transformer", {"points": 3}, induced),
        ("luna", {"packed": 3}, packed),
        ("luna", {"packed": 3, "tied": False}, packed),
        ("perceiver", {"latents": 3, "blocks": 1}, latents),
    ],
)
def test_equations_of_rows_between_source_and_target(name: str, options: dict[str, Any], reads: Reads) -> None:
    hold(joined(name, **options), reads)


def test_a_wrong_form_of_attention_is_refused() -> None:
    for name, options, said in (
        ("softmax", {"impl": "splash"}, "of one text"),
        ("local", {"impl": "pallas"}, "pallas"),
    ):
        with pytest.raises(ConfigError, match=said):
            joined(name, **options)


def test_holes_in_a_source_are_not_seen() -> None:
    mask = MASK.at[:, M:].set(coins(3, L, seed=5))
    for name in ("softmax", "compressed"):
        mixer = joined(name)
        y, z = (mixer(jnp.where(mask[..., None], X, fill), mask, key=None) for fill in (0.0, 9.0))
        np.testing.assert_array_equal(*(np.where(mask[:, :M, None], one[:, :M], 0) for one in (y, z)))
