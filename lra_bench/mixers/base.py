"""The contract of a mixer: `x -> y`, both [B, L, D], under a mask [B, L] that is True on real tokens.

Ten conformance checks, held by `lra_bench/conformance` (`lra verify`, `tests/conformance`) for every mixer found:

1. The mask is positional and required. Bidirectional, or the card says so.
2. No leak: changing `x` where the mask is False does not change `y` where it is True.
3. Finite everywhere, on a row with no real token too; gradients too.
4. `y.dtype == x.dtype`; normalizers in float32. Works under jit, vmap and scan.
5. Rows of a batch do not see each other. Same key, same y. Dropout belongs to the block.
6. The card does not lie: work and memory grow with L as the card says, to 32,768 tokens and beyond: by the fastest
   growing term, not by what a short span shows.
7. The exactness condition: where the card names one, the output equals softmax attention's. What it switches off, which
   the card names too, `tests/mixers` hold to a dense equation in float64.
8. How far a text is padded changes nothing, or the card says what it changes.
9. No look ahead: where the card has a causal form, under `dims.causal` no later token changes an earlier y.
10. Decode equals parallel: where it decodes, token by token from the state, and after a prefill, y is that of the
    causal call.

A mixer's file exports `Mixer`, as a rule with `CARD` and `Config` (`card.py` has what stands where they are left out),
and where `CARD.exact_when` names a limit, `limits(dims, rngs=r)`: a list of mixers at that limit. One must equal
softmax attention; of several, each is nearer to it than the one before (random features, more and more of them).

A mixer whose card says `causal_form="yes"` heeds `dims.causal`, and as a rule decodes: `init_state` makes the arrays of
its state, `step` takes one token, `prefill` several. Every token is there then: there is no mask.

What a mixer holds beside its parameters is a `Constant` (drawn once, never changed), a `Memory` (changed by the mixer
itself, in training only, by what it has seen) or an `Auxiliary` (a loss of its own, set at each training call).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float

from lra_bench.kernels.impl import LANES, PADDED, PALLAS, VMEM, XLA, chosen
from lra_bench.mixers.card import Walked


@dataclass(frozen=True)
class Target:
    """What a mixer is compiled for."""

    platform: str = "cpu"  # cpu, gpu or tpu
    refused: frozenset[str] = frozenset()  # implementations that differ from their reference on the device
    capability: str = ""  # of an NVIDIA GPU, as "9.0"

    @classmethod
    def of(cls, device: jax.Device) -> Target:
        """Of a device, here or to be compiled for."""
        return cls(device.platform, capability=getattr(device, "compute_capability", ""))


CPU = Target()


@dataclass(frozen=True)
class Dims:
    """The sizes that the backbone gives to every mixer alike."""

    width: int  # D
    heads: int  # H
    head_width: int  # K
    length: int  # L: the padded length, a `cls` token included
    grid: tuple[int, int] | None = None  # rows and columns of an image, its last rows * columns tokens; None: text
    rotary: bool = False  # queries and keys are turned by their position
    dtype: str = "float32"  # of x
    causal: bool = False  # a token sees none that come after it; asked only of a mixer whose card has such a form
    target: Target = CPU


def implementation(config: Any, dims: Dims, there: Collection[str] | None = None) -> str:
    """What runs of a mixer's options, `Walked` or `Fused`; `xla` of those that leave nothing to choose.

    Args:
        there: what can run, where that is less than the options say: of a causal form without a kernel, for one.
    """
    target = dims.target
    if not isinstance(config, Walked):
        return XLA
    few = config.few if dims.head_width < LANES else None
    refused = target.refused | ({PALLAS} if target.platform == "tpu" and _in_vmem(dims) > VMEM else set())
    return chosen(config.impl, target.platform, there or config.there, refused, few)


def _in_vmem(dims: Dims) -> int:
    """Bytes of a head that the kernel has in a TPU's VMEM: two arrays of all tokens, and three numbers of each."""
    arrays = 2 * max(dims.head_width, LANES) * jnp.dtype(dims.dtype).itemsize
    return dims.length * (arrays + 3 * PADDED)


def named(part: type) -> str:
    """A mixer's class, or its cross form's, as the command line has it."""
    return part.__module__.rpartition(".")[2].replace("_", "-")


class Constant(nnx.Variable[jax.Array]):
    """An array that belongs to the model and is not trained."""


class Memory(nnx.Variable[jax.Array]):
    """An array that a mixer changes itself while it trains, without a gradient: centroids, for one."""


class Auxiliary(nnx.Variable[jax.Array]):
    """A scalar loss of the mixer's own, float32, which training adds to the task's."""


class Dynamics(nnx.Param[jax.Array]):
    """A parameter of a state space's dynamics (A, dt): trained without weight decay, at a rate of at most 1e-3."""


class MixerBase(nnx.Module):
    """What every `Mixer` is. A mixer's file defines `class Mixer(MixerBase)` or lifts one by `heads.py`."""

    impl: str = "xla"  # the implementation that runs, resolved in __init__, written in the row
    longest: int | None = None  # tokens, where it knows of places: longer texts are not decoded; None: of any number
    turns: ClassVar[bool] = False  # has queries and keys of tokens, and turns them where `dims.rotary` asks for it

    def __init__(self, config: Any, dims: Dims, *, rngs: nnx.Rngs) -> None:
        """Make the parameters of one layer. `config` is the `Config` of the mixer's own file."""
        raise NotImplementedError

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        """Mix the tokens. `key` is for mechanisms that draw; None at evaluation, where nothing is drawn anew."""
        raise NotImplementedError

    def init_state(self, batch: int, length: int) -> Any:
        """What is known before the first token: arrays, in all that decoding of up to `length` tokens keeps.

        Raises:
            NotImplementedError: the mixer does not decode.
        """
        raise NotImplementedError(f"{type(self).__module__} does not decode")

    def step(self, state: Any, x: Float[Array, "B D"]) -> tuple[Any, Float[Array, "B D"]]:
        """The state after a further token, and its y: what a causal `__call__` has at its place."""
        raise NotImplementedError(f"{type(self).__module__} does not decode")

    def prefill(self, state: Any, x: Float[Array, "B N D"]) -> tuple[Any, Float[Array, "B N D"]]:
        """The state after a text's first N tokens, of the one that `init_state` makes, and their y; one after another,
        where a mixer knows no faster way."""
        state, y = lax.scan(lambda state, x: self.step(state, x), state, x.swapaxes(0, 1))
        return state, y.swapaxes(0, 1)

    @classmethod
    def decodes(cls) -> bool:
        """Has it `init_state` and `step`?"""
        return cls.init_state is not MixerBase.init_state


class Prefilled(MixerBase):
    """One that decodes by its `prefill`, which goes on from any state: a step is one of a single token."""

    def step(self, state: Any, x: Float[Array, "B D"]) -> tuple[Any, Float[Array, "B D"]]:
        state, y = self.prefill(state, x[:, None])
        return state, y[:, 0]
