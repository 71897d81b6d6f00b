"""The limit at which a mixer is softmax attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise

import jax.numpy as jnp
from flax import nnx

from lra_bench import mixers
from lra_bench.conformance.trial import EXACT, SHORT, Array, Trial, apart, text
from lra_bench.conformance.verdict import Shown
from lra_bench.mixers.base import Dims, MixerBase
from lra_bench.mixers.card import YES
from lra_bench.mixers.heads import HeadsMixer
from lra_bench.training.program import runs_once


def limit(trial: Trial) -> Shown:
    """7. At the limit that the card names the output equals softmax attention's, or comes nearer step by step; None
    where it names none."""
    card = trial.model_card.card
    if not card.exact_when:
        return None, "the card names none"
    if trial.model_card.name in card.aliases:
        return True, f"that of {mixers.read(trial.model_card.path).name}"
    ways = (False, True) if card.causal_form == YES else (False,)
    found = [_at_limit(trial, causal) for causal in ways]
    held = all(held for held, _ in found)
    figures = "; causally ".join(figures for _, figures in found)
    left = f"; which is without {card.exact_without}: see tests/mixers" if card.exact_without else ""
    return held, f"{card.exact_when}: off by {figures} of the largest{left}"


def _at_limit(trial: Trial, causal: bool) -> tuple[bool, str]:
    """Whether the limit is softmax attention, and how far it is from that; causally from a causal one."""
    padded, dims = trial.model_card.card.exact_padded, replace(SHORT, causal=causal)
    errors = [_error(mixer, dims, padded=padded) for mixer in trial.module.limits(dims, rngs=nnx.Rngs(0))]
    nearer = all(after < before for before, after in pairwise(errors))
    held = errors[0] < EXACT if len(errors) == 1 else nearer
    return held, ", ".join(f"{error:.1e}" for error in errors)


def _error(mixer: MixerBase, dims: Dims, *, padded: bool) -> float:
    """How far the mixer is from softmax attention with the same projections, of the largest value."""
    assert isinstance(mixer, HeadsMixer), "only a mixer of queries, keys and values has this limit"
    x, mask = text()
    mask = mask if padded else jnp.ones_like(mask)
    y, z = runs_once(partial(mixer, key=None))(x, mask), _softmax(dims)(mixer.qkv[...], mixer.out[...], x, mask)
    return apart(mask, y, z) / float(abs(z).max())


@cache
def _softmax(dims: Dims) -> Callable[[Array, Array, Array, Array], Array]:
    """Softmax attention of the projections `qkv` and `out`, x and mask: y."""
    module = mixers.load(mixers.reference())
    graph, params = nnx.split(module.Mixer(module.Config(), dims, rngs=nnx.Rngs(0)))

    def attend(qkv: Array, out: Array, x: Array, mask: Array) -> Array:
        exact: HeadsMixer = nnx.merge(graph, params, copy=True)
        exact.qkv[...], exact.out[...] = qkv, out
        return exact(x, mask, key=None)

    return runs_once(attend)
