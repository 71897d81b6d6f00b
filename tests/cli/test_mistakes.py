"""What people type wrong, and the line that says how it is right; nothing is started, compiled or imported for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from samples import Said

from lra_bench import check, mixers
from lra_bench.config import tasks
from lra_bench.conformance import checks
from lra_bench.errors import ConfigError
from lra_bench.measure.context import Probe, Reach, Shuffled
from lra_bench.mixers import card
from lra_bench.report import effective_context, scaling_fits

LINEAR = ("run", "-m", "linear", "-t", "listops")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prune", "x"), "nothing is taken out: --sparsity 0.5,0.9, --heads 0.5 or --neurons 0.5 say how much"),
        (("prune", "x", "--sparsity", "0,0", "--steps", "9"), "nothing is taken out"),
        (("prune", "x", "--by", "magnitud"), "'magnitud': did you mean 'magnitude'?"),
        (("quantize", "x", "--bits", "8,3"), "--bits 8,3: '3' must be 8 or 4"),
        (("quantize", "x", "--bits", "32"), "--bits 32: '32' must be 8 or 4"),
        (("quantize", "x", "--activations", "4"), "--activations 4: '4' must be 32 or 8"),
        (("run", "-m", "linformer[rank=0]", "-t", "listops"), "linformer.rank: 0; at least 1"),
        (("plan", "-m", "linformer[sharing=x]", "-t", "listops"), "linformer.sharing: 'x'; it can be: none, headwise"),
        (("run", "-m", "bigbird[window=2]", "-t", "listops"), "bigbird.window: 2; an odd number of blocks"),
        ((*LINEAR, "--set", "linear.eps=x"), "no such option"),
        ((*LINEAR, "--set", "lr=1e-3"), "'lr': unknown; did you mean 'optimizer.lr'?"),
        ((*LINEAR, "--set", "length=64"), "'length': unknown; did you mean 'task.length'?"),
        ((*LINEAR, "--set", "steps=6"), "'steps': unknown; did you mean 'training.steps'?"),
        (("run", "-m", "linformer", "-t", "listops", "--set", "rank=6"), "did you mean 'linformer.rank'?"),
        ((*LINEAR, "--set", "optimzer.lr=1"), "did you mean 'optimizer'?"),
        (("sweep", "{configs}/quick.yaml"), "quick.yaml: is a config: -c "),
        (("sweep", "{tasks}/listops.yaml"), "listops.yaml: is a task: -t "),
        (("run", "-m", "linear", "-t", "{configs}/quick.yaml"), "quick.yaml: is a config: -c "),
        ((*LINEAR, "-c", "{configs}/sweeps/quick.yaml"), "quick.yaml: is a sweep of runs: lra sweep "),
        (("sweep", "{configs}/calibration/recall.yaml"), "recall.yaml: is a check of the calibration: lra calibrate "),
        ((*LINEAR, "-c", "{tasks}/listops.yaml"), "listops.yaml: is a task: -t "),
        ((*LINEAR, "-c", "{configs}/techniques/pruned.yaml"), "pruned.yaml: is a technique: -l "),
        ((*LINEAR, "-l", "{configs}/quick.yaml"), "quick.yaml: is a config: -c "),
        ((*LINEAR[:3], "-t", "listops", "-c", "{configs}/search/architecture.yaml"), "is a search space: --space "),
        (("check", "--fast", "{tasks}/listops.yaml"), "--fast: is of everything"),
    ],
)
def test_a_mistake_is_one_line_with_what_is_right(said: Said, arguments: tuple[str, ...], message: str) -> None:
    from lra_bench import config

    folders = {kind: str(config.shipped(kind)) for kind in ("configs", "tasks")}
    code, text = said(*(word.format(**folders) if "{" in word else word for word in arguments))
    assert code == 2
    assert message in text
    assert "Traceback" not in text


def test_a_range_is_held_without_importing_the_mixer(tmp_path: Path) -> None:
    """Where `Config` stands on what only its file has, its own making says what is wrong."""
    model_card = mixers.model_card("linformer")
    before = set(sys.modules)
    with pytest.raises(ConfigError, match=r"^linformer\.rank: -1; at least 1$"):
        mixers.turned(model_card, {"rank": -1})
    assert not {"lra_bench.mixers.linformer"} & (set(sys.modules) - before)
    text = model_card.path.read_text(encoding="utf-8").replace("if self.rank < 1", "if self.rank < jnp.ones(())")
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    assert mixers.turned(card.read(path), {"rank": 0})["rank"] == 0


@pytest.mark.parametrize("name", mixers.names())
def test_no_default_is_out_of_its_own_range(name: str) -> None:
    model_card = mixers.model_card(name)
    defaults = mixers.turned(model_card, {})
    card._config(model_card.path)(**defaults)


def test_a_module_of_another_library_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("import torch.nn as nn\n\n\nclass Mixer(nn.Module):\n    pass\n", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"not a mixer's file; torch is not supported, a mixer is written in JAX; lra new"
    ):
        mixers.model_card(str(path))
    path.write_text("import math\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"Mixer, which is missing; lra new model NAME --family other writes a file"):
        mixers.model_card(str(path))


def test_a_check_that_crashed_is_told_from_one_that_failed(
    said: Said, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def crash(trial: Any) -> tuple[bool, str]:
        raise TypeError("no such thing")

    found = {"crashes": crash, "breaks": lambda trial: (False, "by 3"), "holds": lambda trial: (True, "by 0")}
    monkeypatch.setattr(checks, "CHECKS", found)
    monkeypatch.setenv("LRA_CACHE", str(tmp_path))
    code, text = said("verify", "-m", "linear")
    assert code == 1
    assert text.splitlines() == [
        "ERROR linear 1. crashes: TypeError: no such thing",
        "FAIL  linear 2. breaks: by 3",
        "PASS  linear 3. holds: by 0",
    ]


def test_a_fast_check_makes_and_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixers, "names", lambda: ("linear",))
    monkeypatch.setattr(tasks, "names", lambda _: ("parity",))
    monkeypatch.setattr(check, "runs_once", lambda once: pytest.fail("compiled"))
    monkeypatch.setattr(check, "_examples", lambda spec, source: pytest.fail("examples made"))
    found = [one for one in check.everything(fast=True) if one.kind in ("task", "model")]
    assert all(one.ok for one in found), found
    assert ["traced as" in one.detail or "no examples made" in one.detail for one in found] == [True] * len(found)


def test_doctor_lists_in_words(said: Said) -> None:
    code, text = said("doctor")
    assert code == 0
    assert "['" not in text
    assert "[]" not in text


def test_an_exponent_of_few_lengths_says_so() -> None:
    facts = [
        {
            "model": "linear", "options": {}, "length": length, "status": "ok", "mode": "train", "flops_per_step": 1e9,
            "compiled_bytes": 2**20 * length, "step_ms_p50": 1.0 * length, "laps_ms": [1.0 * length] * 7,
        }
        for length in (512, 1024, 2048, 4096)
    ]  # fmt: skip
    few, enough = scaling_fits.report(facts[:2]).tables[0], scaling_fits.report(facts).tables[0]
    assert few.cells.loc["linear", "time"] == "1.00 of 2"
    assert any(note.startswith("of 2, of 3: an exponent of so few lengths may be far off") for note in few.notes)
    assert enough.cells.loc["linear", "time"].startswith("1.00 (")
    assert not any("so few lengths" in note for note in enough.notes)


@pytest.mark.parametrize(
    ("block", "told"),
    [(1, "none: any order of tokens will do"), (8, "within 8 tokens"), (None, "over more than 16 tokens")],
)
def test_how_far_a_model_looks_is_a_sentence(block: int | None, told: str) -> None:
    shuffled = [Shuffled(size, 0.1, 0.5) for size in (1, 2, 4, 8, 16)]
    found = Probe(32, 5, 1, block, 0.5, [Reach(0, 31, 1.0, 1.0)], shuffled)
    cells = effective_context.report([("run", "accuracy", found)]).tables[0].cells
    assert list(cells.loc["run"]) == ["32", "5 tokens away", "1 token away", told]
