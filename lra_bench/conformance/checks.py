"""The conformance checks of `mixers/base.py`, one by one, for any mixer: one that ships or a user's own file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import pairwise, product
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from lra_bench import mixers
from lra_bench.conformance import implementations
from lra_bench.errors import device_at_fault
from lra_bench.kernels.impl import HOPPER
from lra_bench.measure.flops import flops
from lra_bench.measure.memory import compiled_bytes
from lra_bench.mixers import ModelCard
from lra_bench.mixers.base import Dims, MixerBase, Target
from lra_bench.mixers.card import YES
from lra_bench.mixers.heads import HeadsMixer
from lra_bench.training.program import Options, known, runs_once

B, L = 3, 37  # odd: no multiple of a block
SHORT = Dims(width=16, heads=2, head_width=4, length=L)
SPLIT = 17  # places before which later tokens change nothing, and after which decoding goes on from a prefill
FEWEST = 5  # places of padding that a text begins in
FEWER = 24  # places to which a half text is padded besides
CROSSED = 150  # tokens: several tiles of a kernel, the last one not full
SPAN = (2048, 8192, 32768)  # of lengths, whose work and kept arrays are counted; each four times the one before
COMPILED = (2048, 4096)  # between which the compiler's plans of memory are compared
# Counted: narrow, or the projections, linear in L, hide what is not. Planned: wide, or constants hide what grows.
NARROW, WIDE = (Dims(width=2 * k, heads=2, head_width=k, length=0) for k in (8, 128))
EXPONENT, EXACT = 0.2, 2e-5  # how far from the card, and from softmax attention
REST = 0.02  # of the whole at the end of the span: what is less than that beside the linear term does not count
DECODED = 2e-5  # of the largest value, how far decoding may be from the causal call
HALF, TURNED = 0.1, 1e-5  # how far bfloat16 may be, and a transformation, as a share of the largest value
PLANNED: Options = {"xla_backend_optimization_level": "0"}  # the plan of memory is all that is wanted
Array = jax.Array
Held = tuple[bool | None, str]  # whether a check holds, and the figures; None: the card claims nothing


class Verdict(NamedTuple):
    """Whether one check passed, and the figures that say so."""

    check: int
    title: str
    passed: bool
    figures: str
    crashed: bool = False  # the check itself could not be made
    claimed: bool = True  # False: the card claims nothing here that could fail

    @property
    def word(self) -> str:
        """PASS or FAIL; ERROR where the check crashed, N/A where there is nothing to hold."""
        if not self.claimed:
            return "N/A"
        return "PASS" if self.passed else "ERROR" if self.crashed else "FAIL"


def verify(model_card: ModelCard, options: Mapping[str, Any] | None = None) -> Iterator[Verdict]:
    """Hold the mixer, its `options` turned, to the ten conformance checks, one after another.

    What raises counts as failed, and as crashed.

    Products of float32 are full ones, whatever the platform's default: TF32 and bfloat16 are no fault of a mixer's.

    Raises:
        ConfigError: the mixer's file cannot be imported, or there is no such option.
    """
    trial = Trial(model_card, mixers.turned(model_card, options or {}), mixers.load(model_card.path))
    for number, (title, check) in enumerate(CHECKS.items(), 1):
        try:
            with jax.default_matmul_precision("highest"):
                passed, figures = check(trial)
        except Exception as error:
            if fault := device_at_fault(error):
                raise fault from error
            yield Verdict(number, title, False, f"{type(error).__name__}: {error}", crashed=True)
        else:
            yield Verdict(number, title, passed is not False, figures, claimed=passed is not None)


def agree(model_card: ModelCard, options: Mapping[str, Any], platform: str) -> Iterator[Verdict]:
    """Hold each implementation of the mixer against its reference, on a short text on this process's device."""
    module, options = mixers.load(model_card.path), {**options, **model_card.card.short}
    ways = (False, True) if model_card.card.causal_form == YES else (False,)
    target = replace(Target.of(jax.local_devices()[0]), platform=platform)
    for impl, causal in product(implementations.every(module, platform), ways):
        dims = replace(SHORT, head_width=8, length=CROSSED, target=target, causal=causal)
        asked, dims = implementations.fitting(module, {**options, "impl": impl}, dims)
        if (causal or impl == HOPPER) and not implementations.is_there(module, asked, dims):
            continue
        found = implementations.agreement(module, asked, dims)
        title = f"implementation {impl} is {found.reference}'s function{', causally' if causal else ''}"
        yield Verdict(len(CHECKS) + 1, title, found.passed, found.figures)


@dataclass(frozen=True)
class Trial:
    """A mixer with options that fit a short text, and what it is asked, compiled once."""

    model_card: ModelCard
    options: dict[str, Any]
    module: ModuleType
    dims: Dims = SHORT

    @cached_property
    def causal(self) -> Trial:
        """The same in its causal form."""
        return replace(self, dims=replace(self.dims, causal=True))

    def make(self, dims: Dims, **turned: Any) -> MixerBase:
        """The mixer at these sizes, with further options turned."""
        return self.module.Mixer(self.module.Config(**self.options | turned), dims, rngs=nnx.Rngs(0))

    @cached_property
    def parts(self) -> tuple[Any, Any, Any]:
        """The short mixer: graph, parameters, and the rest."""
        graph, params, rest = nnx.split(self.make(self.dims, **self.model_card.card.short), nnx.Param, ...)  # type: ignore[misc]
        return graph, params, rest

    def run(self, params: Any, x: Array, mask: Array, key: Array | None) -> Array:
        graph, _, rest = self.parts
        return nnx.merge(graph, params, rest, copy=True)(x, mask, key=key)

    @cached_property
    def pulled(self) -> Callable[[Any, Array, Array, Array], tuple[Array, Any, Array]]:
        """Of parameters, x, mask and dL/dy: y, dL/dparameters, dL/dx."""

        def pull(params: Any, x: Array, mask: Array, g: Array) -> tuple[Array, Any, Array]:
            y, back = jax.vjp(lambda params, x: self.run(params, x, mask, None), params, x)
            return y, *back(g)

        return runs_once(pull)

    @cached_property
    def trained(self) -> Callable[[Array, Array], Array]:
        """y in training, always with the same key."""
        return runs_once(lambda x, mask: self.run(self.parts[1], x, mask, jax.random.key(3)))

    def seen(self, x: Array, mask: Array) -> Array:
        """y at evaluation."""
        return self.pulled(self.parts[1], x, mask, jnp.zeros_like(x))[0]


def text(dtype: Any = jnp.float32) -> tuple[Array, Array]:
    """Three results: full, half, and one without any token."""
    x = jax.random.normal(jax.random.key(1), (B, L, SHORT.width), dtype)
    return x, jnp.arange(L) < jnp.array([L, L // 2, 0])[:, None]


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
        _apart(mask, f(x, mask), f(jnp.where(mask[..., None], x, noise), mask))
        for f in (trial.seen, trial.trained)
        for mask in (at_the_end, in_between)
    )
    return worst == 0, f"largest change {worst:.1e}"


def _apart(mask: Array, a: Array, b: Array) -> float:
    return float(jnp.where(mask[..., None], abs(a - b), 0).max())


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
    rounded = _apart(mask, y, half.astype(jnp.float32)) / size
    rows = x[:, None, None], mask[:, None, None]
    mapped = runs_once(partial(jax.lax.map, lambda row: jax.vmap(once)(*row)))(rows)[:, 0, 0]
    turned = _apart(mask, y, mapped) / size
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


def exponents(trial: Trial) -> Held:
    """6. Work and memory grow with L as the card says, of a causal form too; None, and how they grow, where it claims
    nothing.

    Work is counted from the jaxpr. Memory is the faster of what the backward pass is handed and of the compiler's plan.
    """
    ways = (trial, trial.causal) if trial.model_card.card.causal_form == YES else (trial,)
    found = [_growth(one) for one in ways]
    held = [every for every, _ in found if every is not None]
    return all(held) if held else None, "; causally ".join(figures for _, figures in found)


def _growth(trial: Trial) -> Held:
    """The same of one form, bidirectional or causal."""
    causal = trial.dims.causal
    narrow, wide = replace(NARROW, causal=causal), replace(WIDE, causal=causal)
    time, kept = map(grown, zip(*(_counted(trial, replace(narrow, length=L)) for L in SPAN), strict=True))
    short, long = (_planned(trial, replace(wide, length=L)) for L in COMPILED)
    found = (time, max(kept, math.log2(long / short)))
    pairs = list(zip(("work", "memory"), found, trial.model_card.card.growth(causal), strict=True))
    held = [abs(grows - claim) < EXPONENT for _, grows, claim in pairs if claim is not None]
    said = (f"{what} L^{grows:.2f}, {_claim(claim)}" for what, grows, claim in pairs)
    return all(held) if held else None, "; ".join(said)


def _claim(exponent: float | None) -> str:
    return "no claim" if exponent is None else f"the card says {exponent:g}"


def grown(amounts: Sequence[float]) -> float:
    """The exponent of the fastest growing term of something, of its amounts at the lengths of `SPAN`.

    Of a L + b L^p, f(4 L) - 4 f(L) is b (4^p - 4) L^p, whatever a is: no exponent between 1 and p, which a short span
    shows, will do. If next to nothing is left, all is linear or less. NaN where a constant term hides what is left.
    """
    first, last = (long - 4 * short for short, long in pairwise(amounts))
    if last < REST * amounts[-1]:
        return math.log(amounts[-1] / amounts[-2], 4)
    return math.log(last / first, 4) if first > 0 else math.nan


def _counted(trial: Trial, dims: Dims) -> tuple[float, float]:
    """Operations of the gradient of one text's output, and bytes that its forward pass hands to the backward pass."""
    loss, (params, x, *others) = _loss(trial, dims)

    def both(params: Any, x: Array, *others: Array) -> tuple[Any, Any]:
        value, pull = jax.vjp(lambda params, x: loss(params, x, *others), params, x)
        return pull, pull(jnp.ones_like(value))

    jaxpr, (pull, _) = jax.make_jaxpr(both, return_shape=True)(params, x, *others)
    return flops(jaxpr), sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(pull))


def _planned(trial: Trial, dims: Dims) -> float:
    loss, arguments = _loss(trial, dims)
    step = jax.grad(loss, argnums=(0, 1))
    return compiled_bytes(jax.jit(step).lower(*arguments).compile(known(PLANNED)))


def _loss(trial: Trial, dims: Dims) -> tuple[Callable[..., Array], tuple[Any, ...]]:
    """A sum of one text's output, and shapes for its arguments: nothing is run."""
    graph, params, rest = nnx.split(nnx.eval_shape(lambda: trial.make(dims)), nnx.Param, ...)  # type: ignore[misc]
    x = jax.ShapeDtypeStruct((1, dims.length, dims.width), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, dims.length), jnp.bool_)

    def loss(params: Any, x: Array, rest: Any, mask: Array, g: Array) -> Array:
        return (nnx.merge(graph, params, rest, copy=True)(x, mask, key=None) * g).sum()

    return loss, (params, x, rest, mask, x)


def limit(trial: Trial) -> Held:
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


def padded_length(trial: Trial) -> Held:
    """8. How far a text is padded changes nothing, or the card says what it changes; None where it claims nothing."""
    x, mask = text()
    y = trial.seen(x, mask)[1:, :FEWER]
    z = runs_once(lambda x, mask: trial.run(trial.parts[1], x, mask, None))(x[1:, :FEWER], mask[1:, :FEWER])
    change = _apart(mask[1:, :FEWER], y, z) / float(abs(y[0]).max())
    figures = f"padded to {FEWER}, not {L}: off by {change:.1e} of the largest"
    claim = trial.model_card.card.padded_length
    if claim is None:
        return None, figures
    return (change < EXACT) == (not claim), f"{figures}; the card says {claim or 'nothing'}"


def no_look_ahead(trial: Trial) -> Held:
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
        _apart(there, f(x, seen), f(jnp.where(changed[..., None], noise, x), seen))
        for f in (causal.seen, causal.trained)
        for seen, changed in ((mask, later | ~mask), (mask, jnp.broadcast_to(later, mask.shape)))
    )
    held = before > 0 and after == 0 and worst == 0
    return held, f"largest change by later tokens {worst:.1e}; slope before {before:.1e}, after {after:.1e}"


def decoded(trial: Trial) -> Held:
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
    apart = [float(abs(runs_once(partial(run, first=first))(x) - y).max()) / size for first in (0, SPLIT)]
    figures = f"off by {apart[0]:.1e} of the largest, after a prefill by {apart[1]:.1e}"
    return max(apart) < DECODED, figures


def _no_form(trial: Trial) -> str:
    return trial.model_card.card.causal_form or "the card says nothing of a causal form"


def _error(mixer: MixerBase, dims: Dims, *, padded: bool) -> float:
    """How far the mixer is from softmax attention with the same projections, of the largest value."""
    assert isinstance(mixer, HeadsMixer), "only a mixer of queries, keys and values has this limit"
    x, mask = text()
    mask = mask if padded else jnp.ones_like(mask)
    y, z = runs_once(partial(mixer, key=None))(x, mask), _softmax(dims)(mixer.qkv[...], mixer.out[...], x, mask)
    return _apart(mask, y, z) / float(abs(z).max())


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


CHECKS: dict[str, Callable[[Trial], Held]] = {
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
