"""A mixer's causal form: what it must not see, and that it decodes."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from lra_bench.conformance.trial import Array, L, Trial, apart, text
from lra_bench.conformance.verdict import Shown
from lra_bench.training.program import runs_once

SPLIT = 17  # places before which later tokens change nothing, and after which a prefill is decoded from
DECODED = 2e-5  # of the largest value, how far decoding may be from the causal call


def no_look_ahead(trial: Trial) -> Shown:
    """9. Under `dims.causal` no later token changes y, nor has y a slope by it, at evaluation and in training; what
    stands in padding changes nothing either."""
    if not trial.model_card.card.can_be_causal:
        return None, _no_form(trial)
    causal = trial.causal
    x, mask = text()
    noise = 1e3 * jax.random.normal(jax.random.key(2), x.shape)
    g = jnp.zeros_like(x).at[:, SPLIT - 1].set(1.0)
    slope = abs(causal.pulled(causal.parts[1], x, mask, g)[2])
    before, after = float(slope[0, :SPLIT].max()), float(slope[:, SPLIT:].max())
    later = jnp.arange(L) >= SPLIT
    there = mask & ~later
    worst = max(
        apart(there, f(x, seen), f(jnp.where(changed[..., None], noise, x), seen))
        for f in (causal.seen, causal.trained)
        for seen, changed in ((mask, later | ~mask), (mask, jnp.broadcast_to(later, mask.shape)))
    )
    held = before > 0 and after == 0 and worst == 0
    return held, f"largest change by later tokens {worst:.1e}; slope before {before:.1e}, after {after:.1e}"


def decoded(trial: Trial) -> Shown:
    """10. Token by token from the state, and after a prefill of some tokens, y is that of the causal call."""
    card = trial.model_card.card
    if not card.can_be_causal:
        return None, _no_form(trial)
    if not trial.module.Mixer.decodes():
        return None, "the mixer does not decode"
    causal = trial.causal
    x, _ = text()
    y = causal.seen(x, jnp.ones(x.shape[:2], bool))
    graph, params, rest = causal.parts

    def run(x: Array, first: int) -> Array:
        mixer = nnx.merge(graph, params, rest, copy=True)
        state, made = mixer.init_state(len(x), L), []
        if first:
            state, begun = mixer.prefill(state, x[:, :first])
            made.append(begun)
        _, others = jax.lax.scan(mixer.step, state, x[:, first:].swapaxes(0, 1))
        return jnp.concatenate([*made, others.swapaxes(0, 1)], axis=1)

    size = float(abs(y).max())
    whole, after = (float(abs(runs_once(partial(run, first=first))(x) - y).max()) / size for first in (0, SPLIT))
    figures = f"off by {whole:.1e} of the largest, after a prefill by {after:.1e}"
    return max(whole, after) < DECODED, figures


def _no_form(trial: Trial) -> str:
    return trial.model_card.card.causal_form or "the card says nothing of a causal form"
