"""Cards: what an alias says of itself, options that a card names, and a certificate's being of one card."""

from __future__ import annotations

from pathlib import Path

import pytest

from lra_bench import mixers
from lra_bench.conformance import record
from lra_bench.errors import ConfigError


def test_an_alias_has_a_paper_of_its_own() -> None:
    block, dilated, own = (mixers.sheet(name).card for name in ("block-local", "dilated", "local"))
    assert (block.paper, block.year) == ("1911.02972", 2019)
    assert dilated.paper == own.paper == "2004.05150"
    assert dilated.title == "Local window, dilation = 2, near_heads = 1"
    assert "global" in own.differs
    assert "global" not in block.differs


@pytest.mark.parametrize(
    ("says", "otherwise", "message"),
    [
        ('causal="causal"', 'causal="casual"', "causal: 'casual' is no option; did you mean 'causal'"),
        ('segment="segment"', 'segment="segments"', "segment: 'segments' is no option; did you mean 'segment'"),
        ("short={", 'alias_cards={"xl": {}}, short={', "alias_cards: 'xl' is no alias"),
        (
            "short={",
            'aliases={"xl": {}}, alias_cards={"xl": {"papers": ""}}, short={',
            "no such field of a card: papers",
        ),
    ],
)
def test_a_card_names_what_there_is(says: str, otherwise: str, message: str, tmp_path: Path) -> None:
    path, source = tmp_path / "mine.py", mixers.sheet("transformer-xl").path.read_text()
    assert says in source
    path.write_text(source.replace(says, otherwise, 1))
    with pytest.raises(ConfigError) as refused:
        mixers.read(path)
    assert message in str(refused.value)


def test_a_certificate_is_of_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))
    path, source = tmp_path / "mine.py", mixers.sheet("linear").path.read_text()
    path.write_text(source)
    record.keep(path, {}, "cpu", [{"check": 6, "passed": True}])
    assert record.standing(path, {}, "cpu") == record.PASSED
    path.write_text(source.replace("time=1.0", "time=2.0"))
    assert record.standing(path, {}, "cpu") == record.UNVERIFIED
