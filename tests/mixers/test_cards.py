"""Cards: what an alias says of itself, options that a card names, and a certificate's being of one card."""

from __future__ import annotations

from pathlib import Path

import pytest
from samples import Said

from lra_bench import mixers, sweeps
from lra_bench.cli import cards
from lra_bench.conformance import record
from lra_bench.errors import ConfigError
from lra_bench.sweeps.speed import _beside


def test_an_alias_has_a_paper_of_its_own() -> None:
    block, dilated, own = (mixers.model_card(name).card for name in ("block-local", "dilated", "local"))
    assert (block.paper, block.year) == ("1911.02972", 2019)
    assert dilated.paper == own.paper == "2004.05150"
    assert dilated.title == "Local window, dilation = 2, near_heads = 1"
    assert "global" in own.differs
    assert "global" not in block.differs


def test_a_card_names_the_fastest_public_form() -> None:
    assert [name for name in mixers.names() if not mixers.model_card(name).card.public] == []


@pytest.mark.parametrize(
    ("says", "otherwise", "message"),
    [
        ('causal="causal"', 'causal="casual"', "causal: 'casual' is no option; did you mean 'causal'"),
        ('segment="segment"', 'segment="segments"', "segment: 'segments' is no option; did you mean 'segment'"),
        ("short={", 'alias_cards={"xl": {}}, short={', "alias_cards: 'xl' is no alias"),
        ("short={", 'causal_growth={"tme": 2.0}, short={', "causal_growth: 'tme'; did you mean 'time'"),
        (
            "short={",
            'aliases={"xl": {}}, alias_cards={"xl": {"papers": ""}}, short={',
            "no such field of a card: papers",
        ),
    ],
)
def test_a_card_names_what_there_is(says: str, otherwise: str, message: str, tmp_path: Path) -> None:
    path, source = tmp_path / "mine.py", mixers.model_card("transformer-xl").path.read_text()
    assert says in source
    path.write_text(source.replace(says, otherwise, 1))
    with pytest.raises(ConfigError) as refused:
        mixers.read(path)
    assert message in str(refused.value)


def test_a_certificate_is_of_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))
    path, source = tmp_path / "mine.py", mixers.model_card("linear").path.read_text()
    path.write_text(source)
    record.keep(path, {}, "cpu", [{"check": 6, "passed": True}])
    assert record.standing(path, {}, "cpu") == record.PASSED
    path.write_text(source.replace("time=1.0", "time=2.0"))
    assert record.standing(path, {}, "cpu") == record.UNVERIFIED


BARE = "from lra_bench.mixers import wrap\n\nMixer = wrap.function(lambda q, k, v, mask: v)\n"


def test_a_file_without_a_card_claims_nothing_by_its_values(tmp_path: Path) -> None:
    path = tmp_path / "my_own.py"
    path.write_text(BARE)
    model_card = mixers.model_card(str(path))
    assert (model_card.name, model_card.options, mixers.turned(model_card, {})) == ("my-own", (), {})
    card = model_card.card
    assert (card.title, card.family, card.paper, card.exact_when) == ("my-own", "other", "", "")
    assert (card.year, card.time, card.memory) == (None, None, None)
    assert mixers.load(path).Config() == mixers.NoOptions()
    with pytest.raises(ConfigError, match=r"my-own\.scale: no such option"):
        mixers.turned(model_card, {"scale": 2})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Attention = 1\n", "a mixer's file defines Mixer, which is missing; lra new model"),
        (f"import torch\n{BARE}", "torch is not supported, a mixer is written in JAX; lra new model"),
        (f"{BARE}CARD: Card = Card()\n", r"CARD must be CARD = Card\(...\)"),
        (f"from cards import CARD\n{BARE}", r"CARD must be CARD = Card\(...\)"),
        (f"{BARE}CARD = None\n", r"CARD must be CARD = Card\(...\)"),
        (f"from options import Config\n{BARE}", "Config must be a class of this file"),
        (f"{BARE}def Config():\n    pass\n", "Config must be a class of this file"),
    ],
)
def test_what_is_wrong_with_a_file_is_not_taken_for_no_claim(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        mixers.read(path)


def test_no_claim_is_shown_as_one_with_no_wrong_values(said: Said, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(BARE)
    code, text = said("show", path)
    assert (code, "None" in text, "arXiv" in text) == (0, False, False)
    assert cards.grown(mixers.read(path).card.time) == "no claim"


def test_a_hybrid_claims_what_all_of_its_mixers_claim_by_their_values(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    Path("mine.py").write_text(BARE, encoding="utf-8")
    asked = [
        sweeps.runs(sweeps.Request(models, "short", "tiny", settings=("backbone.layers=2",)))[0]
        for models in ("linear+softmax", "linear+mine.py")
    ]
    facts = _beside([{"step_ms_p50": 1.0} for _ in asked], asked)
    assert [fact["card_time"] for fact in facts] == [2.0, None]
