"""Memory-compressed attention: the convolution token by token, with padding as zeros and cells of padding unseen."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from equations import attention, compare, heads
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.compressed import Config, Mixer


def equation(mixer: Mixer, x: jax.Array, mask: jax.Array) -> jax.Array:
    """One text."""
    Q, K, V = jnp.split(x @ mixer.qkv[...], 3, axis=1)
    joint, kernel, starts = K.shape[1], mixer.kernel, range(0, len(x), mixer.stride)

    def compressed(X: jax.Array, C: jax.Array) -> jax.Array:
        taps = C.reshape(kernel, joint, joint)
        return jnp.stack(
            [sum(X[n + t] * mask[n + t] @ taps[t] for t in range(kernel) if n + t < len(x)) for n in starts]
        )

    K, V = compressed(K, mixer.compress_k[...]), compressed(V, mixer.compress_v[...])
    seen = jnp.array([mask[n : n + kernel].any() for n in starts])
    return (
        jnp.concatenate(list(map(attention, *(heads(X, jnp.eye(joint)) for X in (Q, K, V)), [seen] * 2)), 1)
        @ mixer.out[...]
    )


@pytest.mark.parametrize(("kernel", "stride"), [(3, 3), (4, 2)])
def test_the_equation(kernel: int, stride: int) -> None:
    compare(Mixer(Config(kernel, stride), Dims(8, 2, 4, 14), rngs=nnx.Rngs(0)), equation, 13)


@pytest.mark.parametrize(("knobs", "named"), [({"stride": 0}, "stride"), ({"kernel": 2}, "kernel")])
def test_wrong_knobs(knobs: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**knobs)
