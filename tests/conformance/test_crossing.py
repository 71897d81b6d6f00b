"""The conformance checks of `lra_bench/mixers/cross/base.py`, for every cross form; and that broken ones are caught."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lra_bench import mixers
from lra_bench.conformance import crossing
from lra_bench.conformance.crossing import CHECKS, verify

ABLE = [path.stem.replace("_", "-") for path in mixers.files_that_cross()]
FAST = "linear"  # the others' compile for half a minute each


@pytest.mark.parametrize("name", [FAST, *(pytest.param(one, marks=pytest.mark.slow) for one in ABLE if one != FAST)])
def test_every_cross_form_keeps_its_contract(name: str) -> None:
    verdicts = list(verify(mixers.model_card(name)))
    assert len(verdicts) == len(CHECKS)
    assert not [verdict for verdict in verdicts if not verdict.passed]
    claimed = {verdict.title for verdict in verdicts if verdict.claimed}
    growing = mixers.cross(mixers.model_card(name).path).growing == "yes"
    assert ("cross: no look ahead in a growing target" in claimed) == growing


def test_a_mixer_without_a_cross_form_has_nothing_to_keep() -> None:
    assert not list(verify(mixers.model_card("fnet")))


BROKEN = {
    "cross: reads the source": "x",
    "cross: no leak of padding": "x + memory.mean(1, keepdims=True)",
    "cross: finite": "x + (m * memory).sum(1, keepdims=True) / m.sum(1, keepdims=True)",
    "cross: length of the source's padding": "x + (m * memory).sum(1, keepdims=True) / memory.shape[1]",
    "cross: no look ahead in a growing target": "x + (t * x).sum(1, keepdims=True)",
    "cross: decode equals parallel": "x + 2 * (m * memory).sum(1, keepdims=True)",
}


@pytest.mark.parametrize("title", BROKEN)
def test_a_failed_check_is_named(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cross").mkdir()
    (tmp_path / "mine.py").write_text("""
from lra_bench.mixers.base import MixerBase

class Mixer(MixerBase):
    def __init__(self, config, dims, *, rngs):
        pass
""")
    (tmp_path / "cross/mine.py").write_text(f"""
from lra_bench.mixers.cross.base import CrossBase
from lra_bench.mixers.cross.card import CrossCard

CARD = CrossCard(paper="", equation="")

class Cross(CrossBase):
    def __init__(self, config, dims, *, rngs):
        pass

    def __call__(self, x, memory, there, memory_mask, *, key):
        m, t = memory_mask[..., None], there[..., None]
        return {BROKEN[title]}

    def init_memory(self, memory, memory_mask):
        return (memory_mask[..., None] * memory).sum(1, keepdims=True)

    def read(self, kept, x, i):
        return x + kept
""")
    monkeypatch.setattr(crossing, "CHECKS", {title: CHECKS[title]})
    (verdict,) = verify(mixers.model_card(str(tmp_path / "mine.py")))
    assert verdict.word == "FAIL", verdict.figures
    assert re.search(r"\d", verdict.figures)
