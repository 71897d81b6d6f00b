"""Every implementation of every mixer against its reference, on the device that is here; and that others are caught."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from lra_bench import mixers
from lra_bench.conformance import checks, implementations, trusted
from lra_bench.conformance.implementations import Agreement, agreement, every
from lra_bench.conformance.trusted import refused
from lra_bench.errors import ConfigError, RunFailed
from lra_bench.kernels import impl as kernels
from lra_bench.mixers import card
from lra_bench.mixers.base import Dims, Target
from lra_bench.source_code import imported

DIMS = Dims(width=16, heads=2, head_width=8, length=150)
Case = tuple[str, str, dict[str, Any]]
FAST: list[Case] = [("local", "pallas", {}), ("lru", "batched", {})]  # what `make test` tries
FURTHER: list[Case] = [
    ("local", "pallas", {"dilation": 3, "near_heads": 1}),
    ("longformer", "pallas", {"global_tokens": 0}),
    ("bigbird", "pallas", {"tokens": 3}),
    ("sparse-transformer", "pallas", {"pattern": "stride"}),
    ("reformer", "pallas", {"across": False, "rounds": 1}),
    ("sinkhorn", "pallas", {"cut": 1}),
    ("synthesizer", "batched", {"form": "random"}),
]


def cases() -> Iterator[Case]:
    """A mixer that leaves a choice, and what it can be on a CPU."""
    for model_card in map(mixers.read, mixers.files()):
        said = next((option.meaning for option in model_card.options if option.name == "impl"), "")
        if model_card.path == mixers.reference():
            yield from ((model_card.name, impl, {}) for impl in ("blockwise", "batched", "pallas", "sdpa"))
        elif said:
            yield from ((model_card.name, impl, {}) for impl in ("batched", "pallas") if f"; {impl}, " in said)


def marked(case: Case) -> Any:
    """`make test-rest` tries what is batched, and `make test-all` alone the kernels, which are slow to interpret."""
    return pytest.param(*case, marks=pytest.mark.sweep if case[1] == "pallas" else pytest.mark.slow)


def test_all_are_tried() -> None:
    some = ("softmax", "local", "lru")
    found = {(name, impl) for name in some for impl in every(mixers.load(path(name)), "cpu")}
    assert found == {case[:2] for case in cases() if case[0] in some}


def path(name: str) -> Path:
    return mixers.model_card(name).path


@pytest.mark.parametrize(
    ("name", "impl", "options"), [*FAST, *map(marked, FURTHER), *(marked(case) for case in cases() if case not in FAST)]
)
def test_they_are_one_function(name: str, impl: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """In several parts, the last one not full."""
    monkeypatch.setattr(kernels, "AT_ONCE", 20_000)
    model_card = mixers.model_card(name)
    found = agreement(
        mixers.load(model_card.path), mixers.turned(model_card, model_card.card.short | options) | {"impl": impl}, DIMS
    )
    assert found.passed, found.figures


MINE = """\
from dataclasses import dataclass
import jax.numpy as jnp
from flax import nnx
from lra_bench.mixers.base import MixerBase, implementation
from lra_bench.mixers.card import Fused


@dataclass(frozen=True)
class Config(Fused):
    pass


class Mixer(MixerBase):
    def __init__(self, config, dims, *, rngs):
        self.impl = implementation(config, dims)
        self.scale = nnx.Param(jnp.ones(dims.width))

    def __call__(self, x, mask, *, key):
        if self.impl == "batched":
            raise RuntimeError("no such kernel")
        more = 1e-2 if self.impl.startswith("pallas") else 0.0
        return x * (self.scale[...] + more)
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE, encoding="utf-8")
    return path


def test_one_that_differs_and_one_that_raises_are_caught(mine: Path) -> None:
    module = imported(mine, ConfigError)
    found = {impl: agreement(module, {"impl": impl}, DIMS) for impl in ("xla", "batched", "pallas")}
    assert {impl: one.passed for impl, one in found.items()} == {"xla": True, "batched": False, "pallas": False}
    assert found["batched"].figures == "RuntimeError: no such kernel"


def test_what_differs_is_left_out_where_nobody_asked_for_it(
    mine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on a GPU, where this one's kernel and its batched form are not what they ought to be."""
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))
    on_gpu = replace(DIMS, target=Target("gpu"))
    assert [name for name, _ in refused(mine, {"impl": "auto"}, on_gpu)] == ["pallas", "batched"]
    assert list(refused(mine, {"impl": "pallas"}, on_gpu)) == []
    assert list(refused(mine, {"impl": "auto"}, DIMS)) == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_mixer_that_has_nothing_left_says_what_can_be_asked_for(
    dtype: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trusted, "agreement", lambda *_: Agreement("", "plain", False, "0.3 from plain"))
    on_gpu = replace(DIMS, dtype=dtype, target=Target("gpu"))
    said = r"softmax: .*batched, 0\.3 from plain.*; impl: .*blockwise.*, plain"
    with pytest.raises(RunFailed, match=said):
        list(refused(path("softmax"), {"impl": "auto"}, on_gpu))
    assert [name for name, _ in refused(path("local"), {"impl": "auto"}, on_gpu)] == ["pallas", "batched"]


@pytest.mark.parametrize(
    ("name", "platform", "held"),
    [
        (
            "softmax",
            "gpu",
            {"blockwise": ["float32"], "pallas": ["float32", "bfloat16"], "cudnn": ["bfloat16"], "sdpa": ["float32"]},
        ),
        ("softmax", "cpu", {"blockwise": ["float32"], "pallas": ["float32"]}),
        ("local", "tpu", {"pallas": ["float32", "bfloat16"], "batched": ["float32"]}),
    ],
)
def test_kernels_of_a_device_are_held_in_16_bits_too(
    name: str, platform: str, held: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """cuDNN's, which has no float32, in them alone; and it has no causal form."""
    asked: list[tuple[str, str, bool]] = []

    def agreement(_: Any, options: dict[str, Any], dims: Dims) -> Agreement:
        asked.append((options["impl"], dims.dtype, dims.causal))
        return Agreement(options["impl"], "plain", True, "0 apart")

    monkeypatch.setattr(implementations, "agreement", agreement)
    verdicts = list(checks.agree(mixers.model_card(name), {}, platform))
    for impl, dtypes in held.items():
        assert [dtype for one, dtype, causal in asked if (one, causal) == (impl, False)] == dtypes
    assert len({verdict.title for verdict in verdicts}) == len(asked)
    assert ("cudnn", "bfloat16", True) not in asked


def test_a_verdict_is_kept_for_the_code_that_it_is_of(
    mine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))
    on_gpu, asked = replace(DIMS, target=Target("gpu")), []
    good = Agreement("pallas-triton", "xla", True, "0 apart")
    monkeypatch.setattr(trusted, "agreement", lambda *_: asked.append(1) or good)
    for _ in range(2):
        assert list(refused(mine, {"impl": "auto"}, on_gpu)) == []
    assert len(asked) == 1
    mine.write_text(MINE.replace("1e-2", "1e-3"), encoding="utf-8")
    assert list(refused(mine, {"impl": "auto"}, on_gpu)) == []
    assert len(asked) == 2


ROUNDS = """
        if jax.config.jax_default_matmul_precision != "highest" and self.impl.startswith("pallas"):
            return x * (self.scale[...] + OFF)
        return x * self.scale[...]
"""


@pytest.mark.parametrize(("off", "passes"), [("5e-3", True), ("1e-1", False)])
def test_a_kernel_is_tried_with_the_products_that_a_step_has(mine: Path, off: str, passes: bool) -> None:
    """On a GPU that is another kernel than one whose products are in full."""
    head = MINE[: MINE.index("        if self.impl")].replace("import jax.numpy", "import jax\nimport jax.numpy")
    mine.write_text(head + ROUNDS.replace("OFF", off), encoding="utf-8")
    module = imported(mine, ConfigError)
    found = agreement(module, {"impl": "pallas"}, replace(DIMS, target=Target("gpu")))
    assert found.passed == passes
    assert found.figures == f"0.0e+00 from xla in float32, {float(off):.1e} with products of default precision"
    assert agreement(module, {"impl": "pallas"}, DIMS).figures == "0.0e+00 from xla in float32"


def test_a_verdict_is_not_waited_for_by_others(mine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A kernel that hangs keeps its own verdict alone from being made."""
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))
    both = Barrier(2, timeout=5)

    def together(*_: Any) -> Agreement:
        both.wait()
        return Agreement("pallas-triton", "xla", True, "0 apart")

    monkeypatch.setattr(trusted, "agreement", together)
    each = [replace(DIMS, target=Target("gpu"), width=width) for width in (16, 32)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda dims: list(refused(mine, {"impl": "auto"}, dims)), each)) == [[], []]


DIES = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from lra_bench.conformance import trusted
from lra_bench.mixers.base import Dims, Target
trusted.agreement = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
dims = Dims(width=16, heads=2, head_width=8, length=150, target=Target("gpu"))
list(trusted.refused(Path(sys.argv[1]), {"impl": "auto"}, dims))
"""


@pytest.mark.slow
def test_a_kernel_that_took_two_processes_with_it_is_not_tried_again(
    mine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("LRA_CACHE", str(cache))
    for _ in range(2):
        child = subprocess.run([sys.executable, "-c", DIES, mine], env={**os.environ, "JAX_PLATFORMS": "cpu"})
        assert child.returncode == -signal.SIGKILL
    good = Agreement("pallas-triton", "xla", True, "0 apart")
    monkeypatch.setattr(trusted, "agreement", lambda *_: good)
    on_gpu = replace(DIMS, target=Target("gpu"))
    (trials,) = (cache / "agreements").glob("*.trials")
    (left_out,) = refused(mine, {"impl": "auto"}, on_gpu)
    said = f"2 processes that tried it here did not come back; without {trials} it is tried again"
    assert left_out == ("pallas", Agreement("pallas-triton", "xla", False, said))
    assert said in [verdict.figures for verdict in checks.kept(mixers.read(mine))]
    trials.unlink()
    assert list(refused(mine, {"impl": "auto"}, on_gpu)) == []


def test_what_runs_found_is_shown(mine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of the code that is there now: what was found before a change is not."""
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))
    on_gpu = replace(DIMS, target=Target("gpu"), dtype="bfloat16")
    assert len(list(refused(mine, {"impl": "auto"}, on_gpu))) == 2
    shown = {verdict.title: verdict for verdict in checks.kept(mixers.read(mine))}
    said = "is xla's function, by the first run on this device with width 16, 2 heads of 8, bfloat16"
    assert shown.keys() == {f"implementation {impl} {said}" for impl in ("pallas-triton", "batched")}
    assert not any(verdict.passed for verdict in shown.values())
    mine.write_text(MINE.replace("1e-2", "1e-3"), encoding="utf-8")
    assert list(checks.kept(mixers.read(mine))) == []


def test_a_trial_that_the_user_interrupts_is_made_again(
    mine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))
    on_gpu, asked = replace(DIMS, target=Target("gpu")), list[int]()

    def interrupted(*_: Any) -> Agreement:
        asked.append(1)
        if len(asked) <= 3:
            raise KeyboardInterrupt
        return Agreement("pallas-triton", "xla", True, "0 apart")

    monkeypatch.setattr(trusted, "agreement", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            list(refused(mine, {"impl": "auto"}, on_gpu))
    assert list(refused(mine, {"impl": "auto"}, on_gpu)) == []


def test_options_of_the_implementation_are_read_from_the_source() -> None:
    by_name = {
        name: {o.name: o for o in mixers.model_card(name).options} for name in ("local", "lru", "linear", "softmax")
    }
    assert "pallas" in by_name["local"]["impl"].meaning
    assert by_name["lru"]["impl"].meaning != by_name["local"]["impl"].meaning
    assert "impl" not in by_name["linear"]
    with pytest.raises(ConfigError, match=r"lru\.impl: 'pallas'; it can be: auto, xla, batched"):
        mixers.turned(mixers.model_card("lru"), {"impl": "pallas"})
    assert card.BY_PLATFORM["Fused"].there != card.BY_PLATFORM["Walked"].there
