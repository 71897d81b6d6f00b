"""The conformance checks of `mixers/base.py`, one by one, for any mixer: one that ships or a user's own file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp

from lra_bench import mixers
from lra_bench.conformance import implementations, trusted
from lra_bench.conformance.causality import decoded, no_look_ahead
from lra_bench.conformance.complexity import exponents
from lra_bench.conformance.exactness import limit
from lra_bench.conformance.trial import EXACT, SHORT, L, Trial, apart, text
from lra_bench.conformance.verdict import Shown, Verdict, verdicts
from lra_bench.kernels.impl import HOPPER, KERNELS, OF_16_BITS
from lra_bench.mixers import ModelCard
from lra_bench.mixers.base import Target
from lra_bench.mixers.card import YES
from lra_bench.training.program import runs_once

FEWEST = 5  # places of padding that a text begins in
FEWER = 24  # places to which a half text is padded besides
CROSSED = 150  # tokens: several tiles of a kernel, the last one not full
HALF, TURNED = 0.1, 1e-5  # how far bfloat16 may be, and a transformation, as a share of the largest value


def verify(model_card: ModelCard, options: Mapping[str, Any] | None = None) -> Iterator[Verdict]:
    """Hold the mixer, its `options` turned, to the ten conformance checks, one after another.

    Raises:
        ConfigError: the mixer's file cannot be imported, or there is no such option.
    """
    trial = Trial(model_card, mixers.turned(model_card, options or {}), mixers.load(model_card.path))
    return verdicts(CHECKS, trial, first=1)


def agree(model_card: ModelCard, options: Mapping[str, Any], platform: str) -> Iterator[Verdict]:
    """Hold each implementation of the mixer against its reference, on a short text on this process's device: in
    float32, and a kernel of the device in bfloat16, where it is another one."""
    module, options = mixers.load(model_card.path), {**options, **model_card.card.short}
    ways = (False, True) if model_card.card.causal_form == YES else (False,)
    target = replace(Target.of(jax.local_devices()[0]), platform=platform)
    each = [(impl, dtype) for impl in implementations.every(module, platform) for dtype in _held_in(impl, platform)]
    for (impl, dtype), causal in product(each, ways):
        dims = replace(SHORT, head_width=8, length=CROSSED, dtype=dtype, target=target, causal=causal)
        asked, dims = implementations.fitting(module, {**options, "impl": impl}, dims)
        if (causal or impl == HOPPER) and not implementations.is_there(module, asked, dims):
            continue
        found = implementations.agreement(module, asked, dims)
        numbers, form = " in bfloat16" if dtype == "bfloat16" else "", ", causally" if causal else ""
        title = f"implementation {impl} is {found.reference}'s function{numbers}{form}"
        yield Verdict(len(CHECKS) + 1, title, found.passed, found.figures)


def kept(model_card: ModelCard) -> Iterator[Verdict]:
    """What runs found of the mixer's implementations on this process's device, at their own sizes, and kept."""
    plain = mixers.turned(model_card, {})
    for case, found in trusted.known(model_card.path):
        sizes = [f"width {case['width']}", f"{case['heads']} heads of {case['head_width']}", case["dtype"]]
        forms = [form for form in ("rotary", "causal") if case[form]]
        turned = [f"{name}={value}" for name, value in case["options"].items() if value != plain.get(name)]
        title = f"implementation {found.impl} is {found.reference}'s function, by the first run on this device with "
        yield Verdict(len(CHECKS) + 1, title + ", ".join([*sizes, *forms, *turned]), found.passed, found.figures)


def _held_in(impl: str, platform: str) -> Iterator[str]:
    if impl not in OF_16_BITS:
        yield "float32"
    if impl in KERNELS and platform != "cpu":
        yield "bfloat16"


def directions(trial: Trial) -> tuple[bool, str]:
    """1. The gradient of one output reaches tokens before it, and after it unless the card says causal."""
    x, mask = text()
    g = jnp.zeros_like(x).at[0, L // 2].set(1.0)
    slope = abs(trial.pulled(trial.parts[1], x, mask, g)[2][0]).max(-1)
    before, after = float(slope[: L // 2].max()), float(slope[L // 2 + 1 :].max())
    causal = trial.model_card.card.is_causal(trial.options)
    return before > 0 and (after == 0) == causal, f"slope before {before:.1e}, after {after:.1e}"


def no_leak(trial: Trial) -> tuple[bool, str]:
    """2. What stands where the mask is False changes nothing where it is True, at evaluation and in training.

    Wherever that is: at the end of a text, and in between, as a picture's black is where it is padding.
    """
    x, at_the_end = text()
    in_between = at_the_end & jax.random.bernoulli(jax.random.key(4), 0.7, at_the_end.shape)
    noise = 1e3 * jax.random.normal(jax.random.key(2), x.shape)
    worst = max(
        apart(mask, f(x, mask), f(jnp.where(mask[..., None], x, noise), mask))
        for f in (trial.seen, trial.trained)
        for mask in (at_the_end, in_between)
    )
    return worst == 0, f"largest change {worst:.1e}"


def finite(trial: Trial) -> tuple[bool, str]:
    """3. Values and gradients are finite, for inputs a hundred times too large, for a result without a token, and where
    a text begins in padding; of a causal form too."""
    x, mask = text()
    count = 0
    for one in (trial, trial.causal) if trial.model_card.card.can_be_causal else (trial,):
        for scale, there in ((1.0, mask), (1e2, mask), (1.0, mask.at[:, :FEWEST].set(False))):
            leaves = jax.tree.leaves(one.pulled(one.parts[1], scale * x, there, jnp.ones_like(x)))
            count += sum(int((~jnp.isfinite(leaf)).sum()) for leaf in leaves)
    return count == 0, f"{count} numbers that are not finite"


def dtypes(trial: Trial) -> tuple[bool, str]:
    """4. y has x's dtype; bfloat16 is near float32; vmap, within a scan, changes nothing."""
    x, mask = text()
    once = partial(trial.run, trial.parts[1], key=None)
    y, half = trial.seen(x, mask), runs_once(once)(x.astype(jnp.bfloat16), mask)
    size = float(abs(jnp.where(mask[..., None], y, 0)).max())
    rounded = apart(mask, y, half.astype(jnp.float32)) / size
    rows = x[:, None, None], mask[:, None, None]
    mapped = runs_once(partial(jax.lax.map, lambda row: jax.vmap(once)(*row)))(rows)[:, 0, 0]
    turned = apart(mask, y, mapped) / size
    kept = y.dtype == x.dtype and half.dtype == jnp.bfloat16 and y.shape == x.shape
    said = f"{y.dtype}, {half.dtype}; bfloat16 off by {rounded:.1e}, vmap and scan by {turned:.1e}, of the largest"
    return kept and rounded < HALF and turned < TURNED, said


def rows(trial: Trial) -> tuple[bool, str]:
    """5. The same key gives the same y, and a result does not depend on the others."""
    x, mask = text()
    other = x.at[1:].set(7.0), mask.at[1:].set(True)
    again = float(abs(trial.trained(x, mask) - trial.trained(x, mask)).max())
    mates = max(float(abs(f(x, mask)[0] - f(*other)[0]).max()) for f in (trial.trained, trial.seen))
    return again == 0 and mates == 0, f"same key, change {again:.1e}; other examples, change {mates:.1e}"


def padded_length(trial: Trial) -> Shown:
    """8. How far a text is padded changes nothing, or the card says what it changes; None where it claims nothing."""
    x, mask = text()
    y = trial.seen(x, mask)[1:, :FEWER]
    z = runs_once(lambda x, mask: trial.run(trial.parts[1], x, mask, None))(x[1:, :FEWER], mask[1:, :FEWER])
    change = apart(mask[1:, :FEWER], y, z) / float(abs(y[0]).max())
    figures = f"padded to {FEWER}, not {L}: off by {change:.1e} of the largest"
    claim = trial.model_card.card.padded_length
    if claim is None:
        return None, figures
    return (change < EXACT) == (not claim), f"{figures}; the card says {claim or 'nothing'}"


CHECKS: dict[str, Callable[[Trial], Shown]] = {
    "sees tokens before and after, or the card says causal": directions,
    "no leak of padding": no_leak,
    "finite": finite,
    "dtype and transformations": dtypes,
    "independent examples, same key same output": rows,
    "complexity": exponents,
    "exactness condition": limit,
    "length of padding": padded_length,
    "no look ahead": no_look_ahead,
    "decode equals parallel": decoded,
}
