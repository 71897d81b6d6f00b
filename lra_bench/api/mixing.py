"""A mixer by itself, for a model of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flax import nnx

from lra_bench import mixers
from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims, MixerBase
from lra_bench.runs.build import choice, here


def mixer(
    name: str | Path,
    *,
    width: int,
    heads: int,
    length: int,
    seed: int = 0,
    grid: tuple[int, int] | None = None,
    rotary: bool = False,
    **options: Any,
) -> MixerBase:
    """One layer's token mixer, with its parameters drawn: `y = mixer(x, mask, key=None)`.

    `x` and `y` are [B, L, D], float32 or bfloat16; `mask` [B, L] is True where there is a token; `key` is for mixers
    that draw in training (`None`: nothing is drawn). It is an `nnx.Module` without a residual connection or a norm.

    Args:
        name: a mixer's name, or the path of a mixer's file.
        width: D, the width of a token's vector.
        heads: H, the number of heads, each of width D / H.
        length: L, the padded length that the mixer is made for.
        seed: of the parameters.
        grid: rows and columns of an image, for mixers that know of two dimensions; `None`: a text.
        rotary: turn queries and keys by their positions (arXiv 2104.09864).
        options: the mixer's own hyperparameters, as `lra show NAME` lists them.

    Raises:
        ConfigError: there is no such mixer or option, a value is out of its range, or D is no multiple of H.
    """
    if width % heads:
        raise ConfigError(f"width {width}: is no multiple of heads {heads}")
    model_card = mixers.model_card(str(name))
    chosen = choice(model_card.path, mixers.turned(model_card, options))
    if rotary and not chosen.mixer.turns:
        raise ConfigError(f"{model_card.name}: has no queries and keys to turn by their positions")
    dims = Dims(width, heads, width // heads, length, grid, rotary, target=here())
    return chosen.mixer(chosen.options, dims, rngs=nnx.Rngs(seed))
