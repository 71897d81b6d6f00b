"""The ten conformance checks of `lra_bench/mixers/base.py`, for every mixer that is found; and that broken ones are
caught."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lra_bench import mixers
from lra_bench.conformance import checks, complexity, record
from lra_bench.conformance.checks import CHECKS, verify
from lra_bench.conformance.complexity import SPAN, exponents, grown
from lra_bench.conformance.exactness import limit
from lra_bench.conformance.trial import Trial
from lra_bench.kernels.softmax_attention import softmax_attention_reference

GROWTH = "complexity"


def only(monkeypatch: pytest.MonkeyPatch, wanted: Callable[[str], bool]) -> None:
    """Hold mixers to the checks whose titles are `wanted`."""
    assert len(CHECKS) == 10
    assert GROWTH in CHECKS
    monkeypatch.setattr(checks, "CHECKS", {title: CHECKS[title] for title in CHECKS if wanted(title)})


# One mixer of each family, whose programs compile fast.
FAST = (
    "softmax", "local", "longformer", "transformer-xl", "routing", "linear", "fnet", "funnel", "linformer", "lru",
    "set-transformer", "synthesizer",
)  # fmt: skip


def test_one_mixer_of_each_family_is_fast() -> None:
    families = {name: mixers.model_card(name).card.family for name in mixers.names()}
    assert {families[name] for name in FAST} == set(families.values())


def few(others: pytest.MarkDecorator) -> list[Any]:
    """Some mixers, and the others with a mark."""
    return [name if name in FAST else pytest.param(name, marks=others) for name in mixers.names()]


@pytest.mark.parametrize("name", few(pytest.mark.slow))
def test_the_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what `test_growth_with_length` holds."""
    only(monkeypatch, lambda title: title != GROWTH)
    verdicts = list(verify(mixers.model_card(name)))
    assert len(verdicts) == 9
    assert not [verdict for verdict in verdicts if not verdict.passed]


@pytest.mark.slow
@pytest.mark.parametrize("name", few(pytest.mark.sweep))
def test_growth_with_length(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, lambda title: title == GROWTH)
    (verdict,) = verify(mixers.model_card(name))
    assert verdict.passed, verdict.figures


BROKEN = {
    1: ("return x * m + jnp.cumsum(x * m, axis=1)", "sees nothing that comes after"),
    2: ("return x + x.mean(1, keepdims=True)", "LRA's: padding is in the mean"),
    3: ("return x + (x * m).sum(1, keepdims=True) / m.sum(1, keepdims=True)", "no token, no mean"),
    4: ("return jnp.float32(x) + jnp.float32(x * m).sum(1, keepdims=True)", "always float32"),
    5: ("return x + (x * m).sum((0, 1))", "rows see each other"),
    6: ("i = jnp.arange(x.shape[1])\n        near = (abs(i[:, None] - i) < 9) * jnp.einsum('bld,bmd->blm', x, x)\n"
        "        return jnp.einsum('blm,bmd->bld', near, x * m)", "a dense product under a mask"),
    8: ("return x + (x * m).sum(1, keepdims=True) / x.shape[1]", "a mean over padding too"),
    9: ("return x + jnp.roll(x * m, -1, axis=1)", "sees the next token, causal or not"),
    10: ("return x + jnp.pad(x * m, ((0, 0), (1, 0), (0, 0)))[:, :-1]", "what it decodes is without the one before"),
}  # fmt: skip


@pytest.mark.parametrize("check", BROKEN)
def test_a_failed_check_is_named(check: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body, _ = BROKEN[check]
    path = tmp_path / "mine.py"
    path.write_text(f'''
from dataclasses import dataclass
import jax.numpy as jnp
from lra_bench.mixers.base import MixerBase
from lra_bench.mixers.card import Card

CARD = Card(title="", family="fixed-pattern", paper="", equation="", year=2026, time=1.0, memory=1.0, exact_when="",
            differs="", causal_form="yes")

@dataclass(frozen=True)
class Config:
    """None."""

class Mixer(MixerBase):
    def __init__(self, config, dims, *, rngs):
        pass

    def __call__(self, x, mask, *, key):
        m = mask[..., None].astype(x.dtype)
        {body}

    def init_state(self, batch, length):
        return jnp.zeros(())

    def step(self, state, x):
        return state, x
''')
    only(monkeypatch, lambda title: title == [*CHECKS][check - 1])
    (verdict,) = verify(mixers.model_card(str(path)))
    assert not verdict.passed


@pytest.mark.parametrize(
    ("claims", "word", "figures"),
    [
        ({}, "N/A", r"work L\^1.00, no claim; memory L\^1.00, no claim"),
        ({"time": 1.0}, "PASS", r"work L\^1.00, the card says 1; memory L\^1.00, no claim"),
        ({"memory": 2.0}, "FAIL", r"work L\^1.00, no claim; memory L\^1.00, the card says 2"),
    ],
)
def test_what_is_not_claimed_neither_passes_nor_fails(
    claims: dict[str, float], word: str, figures: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LRA_CACHE", str(tmp_path))
    only(monkeypatch, lambda title: title == GROWTH)
    monkeypatch.setattr(complexity, "_counted", lambda _, dims: (dims.length, dims.length))
    monkeypatch.setattr(complexity, "_planned", lambda _, dims: dims.length)
    path = tmp_path / "mine.py"
    path.write_text("from lra_bench.mixers import wrap\nMixer = wrap.function(lambda q, k, v, mask: v)\n")
    model_card = mixers.model_card(str(path))
    (verdict,) = verify(replace(model_card, card=replace(model_card.card, **claims)))
    assert verdict.word == word
    assert re.fullmatch(figures, verdict.figures)
    record.keep(path, {}, "cpu", [verdict._asdict()])
    assert (record.standing(path, {}, "cpu") == record.PASSED) == verdict.passed == (word != "FAIL")


def test_the_limit_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, lambda title: title == [*CHECKS][6])
    path = tmp_path / "mine.py"
    source = mixers.model_card("local").path.read_text()
    path.write_text(source.replace("window=dims.length", "window=dims.length - 2"))
    (verdict,) = verify(mixers.model_card(str(path)))
    assert not verdict.passed


@pytest.mark.parametrize("share", [0.0, 1e-3, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("power", [1.5, 2.0, 3.0])
def test_between_the_linear_term_and_a_faster_one_no_exponent_is_found(share: float, power: float) -> None:
    """The rest counts from a fiftieth of the whole, and then with its own exponent, however small its share."""
    amounts = [L * (1 + share * (L / SPAN[0]) ** (power - 1)) for L in SPAN]
    assert grown(amounts) == pytest.approx(power if share else 1.0, abs=0.01 if share != 1e-3 else 2 * power)
    assert not 1.2 < grown(amounts) < power - 0.2


def test_what_grows() -> None:
    assert grown([L * math.log2(L) for L in SPAN]) == pytest.approx(1)
    assert grown([L + 1e3 for L in SPAN]) == pytest.approx(1, abs=0.1)
    assert math.isnan(grown([L + 1e-4 * L**2 + 1e4 for L in SPAN]))


@pytest.mark.slow
def test_a_fitted_exponent_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between 2,048 and 4,096 tokens sinkhorn's work grows like L^1.21, and from 16,384 on like L^1.7."""
    model_card = mixers.model_card("sinkhorn")
    trial = Trial(model_card, mixers.turned(model_card, {}), mixers.load(model_card.path))
    once = cache(partial(complexity._counted, trial))
    monkeypatch.setattr(complexity, "_counted", lambda _, dims: once(dims))
    monkeypatch.setattr(complexity, "_planned", lambda _, dims: dims.length)
    assert exponents(trial)[0]
    for claim in ({"time": 1.2}, {"time": 1.7}, {"memory": 1.0}):
        other = replace(trial, model_card=replace(model_card, card=replace(model_card.card, **claim)))
        assert not exponents(other)[0], claim


def rounding(exact: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A platform's product, whose operands have TF32's ten bits where nobody asks for more."""

    def product(a: jax.Array, b: jax.Array, *rest: object, **more: object) -> jax.Array:
        if jax.config.jax_default_matmul_precision in (None, "default"):
            a, b = (jax.lax.reduce_precision(x, 8, 10) if x.dtype == jnp.float32 else x for x in (a, b))
        return exact(a, b, *rest, **more)

    return product


def test_products_are_full_ones_whatever_the_platforms_default_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("jax._src.lax.lax", "jax.lax"):
        monkeypatch.setattr(f"{module}.dot_general", rounding(jax.lax.dot_general))
    monkeypatch.setattr(checks, "CHECKS", {"exactness condition": limit})
    model_card = mixers.model_card("compressed")
    held, figures = limit(Trial(model_card, mixers.turned(model_card, {}), mixers.load(model_card.path)))
    assert not held, f"this platform would not round: {figures}"
    assert next(verify(model_card)).passed


@pytest.mark.parametrize("causal", [False, True])
def test_a_card_follows_its_option(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CHECKS", {"both ways": checks.directions})
    model_card = mixers.model_card("transformer-xl")
    assert model_card.card.is_causal(mixers.turned(model_card, {"causal": causal})) == causal
    verdict = next(verify(model_card, {"causal": causal}))
    assert verdict.passed, verdict.figures


def test_what_a_limit_leaves_out_is_held_to_its_equation() -> None:
    """By a dense one in float64, in tests/mixers."""
    folder = Path(__file__).parents[1] / "mixers"
    for model_card in map(mixers.read, mixers.files()):
        if model_card.card.exact_without:
            assert "    compare(" in (folder / f"test_{model_card.path.stem}.py").read_text(), model_card.name


def test_the_oracle_is_the_equation() -> None:
    q, k, v = jax.random.normal(jax.random.key(4), (3, 1, 1, 5, 4))
    weights = np.exp(np.asarray(q[0, 0] @ k[0, 0].T) / 2)
    weights[:, 4] = 0
    mask = jnp.array([[True, True, True, True, False]])
    y = softmax_attention_reference(q, k, v, mask)[0, 0]
    np.testing.assert_allclose(y, weights / weights.sum(1, keepdims=True) @ np.asarray(v[0, 0]), rtol=1e-5)


@pytest.mark.parametrize(
    ("growth", "word"), [({}, "FAIL"), ({"time": 2.0}, "PASS"), ({"time": 2.0, "memory": 2.0}, "FAIL")]
)
def test_a_causal_form_is_held_to_what_the_card_says_of_it(
    growth: dict[str, float], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it does L^2 work where the other form does L."""
    only(monkeypatch, lambda title: title == GROWTH)
    monkeypatch.setattr(complexity, "_counted", lambda _, dims: (dims.length ** (2 if dims.causal else 1), dims.length))
    monkeypatch.setattr(complexity, "_planned", lambda _, dims: dims.length)
    model_card = mixers.model_card("local")
    (verdict,) = verify(replace(model_card, card=replace(model_card.card, causal_growth=growth)))
    assert verdict.word == word
    assert "work L^1.00, the card says 1; memory L^1.00, the card says 1; causally work L^2.00" in verdict.figures
