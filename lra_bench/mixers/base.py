"""The contract of a mixer: `x -> y`, both [B, L, D], under a mask [B, L] that is True on real tokens.

Seven promises, held by `tests/test_contract.py` for every mixer that is found:

1. The mask is positional and required. Bidirectional, or the card says so.
2. No leak: changing `x` where the mask is False does not change `y` where it is True.
3. Finite everywhere, on a row with no real token too; gradients too.
4. `y.dtype == x.dtype`; normalisers in float32. Works under jit, vmap and scan.
5. Rows of a batch do not see each other. Same key, same y. Dropout belongs to the block.
6. The card does not lie: work and memory grow with L as the card says.
7. The limit case: where the card names one, the output equals softmax attention's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Bool, Float


@dataclass(frozen=True)
class Dims:
    """The sizes that the trunk gives to every mixer alike."""

    width: int  # D
    heads: int  # H
    head_width: int  # K
    length: int  # L: the padded length, a `cls` token included


class MixerBase(nnx.Module):
    """What every `Mixer` is. A mixer's file defines `class Mixer(MixerBase)` or lifts one by `heads.py`."""

    impl: str = "xla"  # the implementation that runs, resolved in __init__, written in the row

    def __init__(self, config: Any, dims: Dims, *, rngs: nnx.Rngs) -> None:
        """Make the parameters of one layer. `config` is the `Config` of the mixer's own file."""
        raise NotImplementedError

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        """Mix the tokens. `key` is for mechanisms that draw; None at evaluation, where nothing is drawn anew."""
        raise NotImplementedError
