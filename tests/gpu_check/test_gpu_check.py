"""The check of a lent GPU, tried on a CPU: what it imports, what it keeps, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lra_bench.gpu_check import Lease, OutOfTime, Wanted, parts
from lra_bench.gpu_check.__main__ import checked

BARE = """\
import importlib.metadata as metadata, re, sys

def closure(names):
    found, left = set(), list(names)
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name in found:
            continue
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        left += [re.match(r"[\\w.-]+", need)[0] for need in needs if "extra ==" not in need]
    return found

there = closure(["jax", "flax", "optax", "orbax-checkpoint", "numpy", "pydantic", "pyyaml", "jaxtyping", "flatbuffers"])
mine = metadata.packages_distributions()

class Refused:
    def find_spec(self, name, path=None, target=None):
        owners = {re.sub(r"[-_.]+", "-", one).lower() for one in mine.get(name.partition(".")[0], [])}
        if owners and not owners & (there | {"lra-bench", "setuptools"}):
            raise ImportError(f"{name}: is not there")

sys.meta_path.insert(0, Refused())
"""


def bare(code: str) -> subprocess.CompletedProcess[str]:
    """Run where nothing is installed but what a GPU machine has and `make wheelhouse` brings."""
    return subprocess.run([sys.executable, "-c", BARE + code], capture_output=True, encoding="utf-8", check=False)


@pytest.mark.slow
def test_what_trains_times_and_checks_needs_few_libraries() -> None:
    modules = "gpu_check.__main__, runs.execute, speed.__main__, conformance.__main__, measure.machine"
    done = bare("".join(f"import lra_bench.{name}\n" for name in modules.split(", ")))
    assert done.returncode == 0, done.stderr
    refused = bare("import pandas")
    assert "pandas: is not there" in refused.stderr


@pytest.mark.slow
def test_end_to_end_and_again(tmp_path: Path) -> None:
    """Tiny sizes on a CPU; what is kept is not done again."""
    asked = [
        *(
            sys.executable,
            "-m",
            "lra_bench.gpu_check",
            "-t",
            "listops",
            "--out",
            str(tmp_path),
            "-m",
            "linear",
            "-n",
            "64",
        ),
        *("--tokens", "128", "--rounds", "1", "--dtypes", "float32", "--train", "linear", "-c", "quick"),
        *("--set", "training.steps=2", "--set", "training.eval_every=2"),
    ]
    done = subprocess.run(asked, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (fact,) = json.loads((tmp_path / "conformance.json").read_text(encoding="utf-8"))
    assert fact["model"] == "linear"
    assert all(verdict["passed"] for verdict in fact["verdicts"])
    timed = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    assert {step["model"] for step in timed} == {"softmax", "linear"}
    assert "trained: linear on listops: " in done.stdout
    again = subprocess.run(asked, capture_output=True, encoding="utf-8", check=False)
    assert "conformance: 1 mixers are known, 0 are left" in again.stdout
    assert json.loads((tmp_path / "speed.json").read_text(encoding="utf-8")) == timed


def test_what_is_over_says_so_and_what_fails_spares_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def late(lease: Lease, wanted: Wanted) -> None:
        raise OutOfTime

    monkeypatch.setitem(parts.PARTS, "speed", late)
    monkeypatch.setitem(parts.PARTS, "machine", lambda lease, wanted: lease.keep("machine.json", [{}]))
    assert checked(Lease(tmp_path, 60), Wanted("listops"), ["machine", "ratios", "speed", "trained"]) == 0
    said = capsys.readouterr().out
    assert "measured over estimated: no step is both" in said
    assert "speed: the time is over; the same command resumes" in said
    assert "trained" not in said
    assert checked(Lease(tmp_path, 60), Wanted("listops"), ["sped"]) == 1
    assert "--parts: 'sped' is none of machine, conformance" in capsys.readouterr().out


def test_a_process_is_ended_when_the_lease_is_over(tmp_path: Path) -> None:
    with pytest.raises(OutOfTime):
        Lease(tmp_path, 0).tell(None, {})  # type: ignore[arg-type]


def test_measured_over_estimated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = {"run": "a", "model": "linear", "length": 64, "device": "H100", "step_ms_p50": 3.0}
    guess = {"run": "a", "device": "H100", "status": "ok", "estimate_ms": 2.0, "dtype": "float32"}
    lease = Lease(tmp_path / "out", 60)
    lease.keep("speed.json", [step, step | {"run": "b"}])
    (tmp_path / "h100.json").write_text(json.dumps([guess]), encoding="utf-8")
    parts.ratios(lease, Wanted("listops", estimates=tmp_path))
    assert lease.kept("ratios.json") == [{"model": "linear", "length": 64, "dtype": "float32", "ratio": 1.5}]
    assert "1.50" in capsys.readouterr().out
