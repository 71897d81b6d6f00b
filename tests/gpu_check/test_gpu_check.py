"""The check of a lent GPU, tried on a CPU: what it imports, what it keeps, how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lra_bench import mixers
from lra_bench.config import Run
from lra_bench.errors import RunFailed
from lra_bench.gpu_check import Lease, OutOfTime, Wanted, parts, verdicts
from lra_bench.gpu_check.__main__ import checked
from lra_bench.gpu_check.ratios import ratios
from lra_bench.launch import local
from lra_bench.measure.asked import Asked
from lra_bench.records import store
from lra_bench.report import scaling

LINEAR = Wanted("listops", models="linear").mixers()[0]

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
    (fact,) = json.loads((tmp_path / "checks.json").read_text(encoding="utf-8"))
    assert fact["model"] == "linear"
    assert all(verdict["passed"] for verdict in fact["verdicts"])
    timed = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    assert {step["model"]: step["standing"] for step in timed} == {"softmax": "unverified", "linear": "passed"}
    assert "trained: linear on listops: " in done.stdout
    assert any((tmp_path / "cache" / "compiled").iterdir())
    again = subprocess.run(asked, capture_output=True, encoding="utf-8", check=False)
    assert "checks: 1 mixers are known, 0 are left" in again.stdout
    assert json.loads((tmp_path / "speed.json").read_text(encoding="utf-8")) == timed


def test_what_is_over_says_so_and_what_fails_spares_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def late(lease: Lease, wanted: Wanted) -> None:
        raise OutOfTime

    monkeypatch.setitem(parts.PARTS, "speed", late)
    monkeypatch.setitem(parts.PARTS, "machine", lambda lease, wanted: lease.keep("machine.json", [{}]))
    assert checked(Lease(tmp_path, 60), Wanted("listops"), ["machine", "speed", "trained"]) == 0
    said = capsys.readouterr().out
    assert "speed: the time is over; the same command resumes" in said
    assert "trained" not in said
    assert checked(Lease(tmp_path, 60), Wanted("listops"), ["sped"]) == 1
    assert "--parts: 'sped' is none of machine, speed" in capsys.readouterr().out


def test_a_process_is_ended_when_the_lease_is_over(tmp_path: Path) -> None:
    with pytest.raises(OutOfTime):
        Lease(tmp_path, 0).tell(LINEAR, {"event": "round"})


def test_what_a_process_notes_is_said_and_kept_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lease, note = Lease(tmp_path, 60), {"event": "note", "said": "pallas is left out on this device: it differs"}
    for _ in range(2):
        lease.tell(LINEAR, note)
    assert lease.kept("notes.json") == [{"model": "linear", "said": note["said"]}]
    assert capsys.readouterr().out.count("linear: pallas is left out on this device: it differs") == 1


def test_its_processes_find_the_package_and_keep_what_they_make_below_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LRA_CACHE", "JAX_COMPILATION_CACHE_DIR", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    given = Lease(tmp_path / "out", 60).environment()
    assert given["LRA_CACHE"] == str(tmp_path / "out" / "cache")
    assert given["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "out" / "cache" / "compiled")
    assert (Path(given["PYTHONPATH"]) / "lra_bench" / "gpu_check").is_dir()
    monkeypatch.setenv("LRA_CACHE", "mine")
    monkeypatch.setenv("PYTHONPATH", "more")
    given = Lease(tmp_path / "out", 60).environment()
    assert (given["LRA_CACHE"], given["PYTHONPATH"].split(os.pathsep)[1:]) == ("mine", ["more"])


STEP = {"run": "a", "model": "linear", "length": 64, "step_ms_p50": 3.0}
GUESS = {"run": "a", "status": "ok", "estimate_ms": 2.0, "dtype": "float32", "binds": "launches"}
WEIGHT = {"flops": 1e6, "hbm_bytes": 9_600_000, "launches": 10, "precision": "tf32"}


@pytest.mark.parametrize(
    ("here", "there", "ratio", "binds"),
    [
        ("mine", "mine", 1.5, "launches"),
        ("NVIDIA H200", "NVIDIA H100 80GB HBM3", 1500.0, "bandwidth"),
        ("NVIDIA H200", "NVIDIA A100-SXM4-80GB", None, None),
    ],
)
def test_measured_over_estimated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], here: str, there: str, ratio: float | None, binds: str | None
) -> None:
    """A step for an H100 is one for an H200, whose memory is faster: 9.6 MB take 2 microseconds there."""
    lease, steps = Lease(tmp_path / "out", 60), [STEP | {"device": here}, STEP | {"device": here, "run": "b"}]
    weight = WEIGHT | {"launches": 0}
    store.write_json(tmp_path / "guesses.json", [GUESS | weight | {"device": there}])
    ratios(lease, steps, tmp_path)
    names = {"model": "linear", "length": 64, "dtype": "float32", "binds": binds, "compiled_for": there}
    expected = [] if ratio is None else [names | {"ratio": pytest.approx(ratio)}]
    assert lease.kept("ratios.json") == expected
    said = capsys.readouterr().out
    line = f"{ratio:.2f} of linear, L = 64, float32; compiled for {there}" if ratio else "no step is both"
    assert line in said
    ratios(lease, steps, tmp_path)
    assert "linear" not in capsys.readouterr().out


class Machine:
    """Its processes: they time runs, or die of those of some models; what they were asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.rates: list[str] = []
        self.opened = 0
        self.deadly: dict[str, str] = {}  # how, by model

    def opens(self, seconds: float) -> dict[str, Any]:
        self.opened += 1
        return {"platform": "gpu", "device": "NVIDIA H200", "devices": 1}

    def times(self, runs: Sequence[Run], asked: Asked, tell: Callable[[Any], None], **_: Any) -> list[dict[str, Any]]:
        self.asked.append([run.model for run in runs])
        self.rates += [runs[0].recipe.backbone.dtype] if asked.peak_rate else []
        for run in runs:
            tell({"event": "compile", "run": run.id, "length": run.task.length})
        for run in runs:
            if self.deadly.get(run.model) != "hangs":
                tell({"event": "prepared", "run": run.id})
        if died := next((run.model for run in runs if run.model in self.deadly), None):
            raise RunFailed(f"lra_bench.speed died of {died}")
        rate = {"ceiling_flops_per_s": 1e15} if asked.peak_rate else {}
        place = {"platform": "gpu", "device": "NVIDIA H200"}
        return [known(run) | place | rate for run in runs]


def known(run: Run) -> dict[str, Any]:
    names = {"run": run.id, "model": run.model, "options": run.turned, "length": run.task.length}
    said = {"status": "ok", "error": None, "compiled_bytes": 2**20, "flops_per_step": 1e9}
    return names | said | {"mode": "train", "step_ms_p50": 1.0, "laps_ms": [1.0]}


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    there = Machine()
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(local, "machine", there.opens)
    monkeypatch.setattr(local, "measure", there.times)
    return there


FEW = Wanted("listops", models="axial,fnet,linear", lengths=(64, 32), dtypes=("bfloat16", "float32"), estimates=Path())


def leased(out: Path, wanted: Wanted = FEW) -> list[dict[str, Any]]:
    lease = Lease(out, 60)
    assert checked(lease, wanted, ["speed", "lengths"]) == 0
    return lease.kept("speed.json")


def test_the_first_length_comes_first_and_what_is_known_starts_no_process(tmp_path: Path, lent: Machine) -> None:
    facts = leased(tmp_path)
    assert lent.asked == [["softmax", "axial", "fnet", "linear"]] * 4
    assert [(fact["length"], fact["dtype"]) for fact in facts[::4]] == [
        (64, "bfloat16"), (64, "float32"), (32, "bfloat16"), (32, "float32"),
    ]  # fmt: skip
    assert lent.rates == ["bfloat16", "float32"], "the best rate is measured once"
    assert all(fact["ceiling_flops_per_s"] == 1e15 for fact in facts)
    assert lent.opened == 1
    assert leased(tmp_path) == facts
    assert (len(lent.asked), lent.opened) == (4, 1)


@pytest.mark.parametrize(
    ("how", "after"),
    [
        ("hangs", [["softmax", "fnet", "linear"], ["softmax", "axial"]]),
        ("crashes", [["softmax"], ["softmax", "axial"], ["softmax", "fnet"], ["softmax", "linear"]]),
    ],
)
def test_a_model_that_takes_its_process_with_it_spares_the_others(
    tmp_path: Path, lent: Machine, capsys: pytest.CaptureFixture[str], how: str, after: list[list[str]]
) -> None:
    wanted, lent.deadly = replace(FEW, lengths=(64,), dtypes=("float32",)), {"axial": how}
    facts = {fact["model"]: fact for fact in leased(tmp_path, wanted)}
    assert lent.asked == [["softmax", "axial", "fnet", "linear"], *after]
    assert {name: fact["status"] for name, fact in facts.items()} == {
        "softmax": "ok", "axial": "error", "fnet": "ok", "linear": "ok",
    }  # fmt: skip
    assert "axial, L = 64, float32: error: lra_bench.speed died of axial" in capsys.readouterr().out
    scaling.report(list(facts.values()))
    lent.asked.clear()
    for _ in range(2):
        leased(tmp_path, wanted)
    assert lent.asked == [["softmax", "axial"]], "it is tried once more, and then no more"


def test_a_model_that_died_is_in_a_process_of_its_own_from_then_on(tmp_path: Path, lent: Machine) -> None:
    lent.deadly = {"axial": "hangs"}
    leased(tmp_path, replace(FEW, lengths=(64,)))
    assert lent.asked[3:] == [["softmax", "fnet", "linear"], ["softmax", "axial"]]


def test_without_the_reference_the_others_are_timed_alone(tmp_path: Path, lent: Machine) -> None:
    wanted, lent.deadly = replace(FEW, lengths=(64,), dtypes=("float32",)), {"softmax": "hangs"}
    facts = leased(tmp_path, wanted)
    assert lent.asked == [["softmax", "axial", "fnet", "linear"], ["softmax"], ["axial", "fnet", "linear"]]
    assert [fact.get("reference_ms") for fact in facts] == [None] * 4


def test_a_mixer_that_has_changed_is_timed_again(tmp_path: Path, lent: Machine) -> None:
    facts = leased(tmp_path, replace(FEW, lengths=(64,), dtypes=("float32",)))
    store.write_json(tmp_path / "speed.json", [fact | {"parts_hash": "older"} for fact in facts[2:3]] + facts[:2])
    leased(tmp_path, replace(FEW, models="axial,fnet", lengths=(64,), dtypes=("float32",)))
    assert lent.asked[1:] == [["softmax", "fnet"]]


def test_models_are_named_with_options_and_by_files(tmp_path: Path, lent: Machine) -> None:
    own = tmp_path / "fnet.py"
    own.write_text(mixers.model_card("fnet").path.read_text(encoding="utf-8"), encoding="utf-8")
    wanted = replace(FEW, models=f"local[window=64,dilation=2],{own}", trained="local[window=64,dilation=2],fnet")
    assert [run.turned.get("window") for run in wanted.steps(64, "float32")[1:]] == [64, None]
    assert wanted.steps(64, "float32")[2].mixer_specs[0].file == own
    assert [run.model for run in wanted.mixers()] == ["local", "fnet"]
    assert [run.turned.get("dilation") for run in wanted.training()] == [2, None]


def test_a_mixer_that_takes_its_process_with_it_spares_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def answers(module: str, runs: Sequence[Run], of: Any, tell: Callable[[Any], None], **_: Any) -> None:
        asked.append([run.model for run in runs])
        for run in runs:
            if run.model == "fnet":
                raise RunFailed("died of fnet")
            tell({"event": "verdicts", "run": run.id, "model": run.model, "verdicts": [{"passed": True}]})

    monkeypatch.setattr(local, "answers", answers)
    monkeypatch.setattr(verdicts, "cores", lambda: 1)
    for _ in range(3):
        checked(Lease(tmp_path, 60), FEW, ["kernels"])
    assert asked == [["axial", "fnet", "linear"], ["linear"], ["fnet"]]
    assert {fact["model"]: fact["status"] for fact in Lease(tmp_path, 60).kept("kernels.json")} == {
        "axial": "ok", "fnet": "error", "linear": "ok",
    }  # fmt: skip
    assert "fnet, L = 64, float32: error: died of fnet" in capsys.readouterr().out


def test_a_process_that_is_ended_with_the_lease_is_no_failure(
    tmp_path: Path, lent: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, lent.deadly = Lease(tmp_path, 60), {"axial": "hangs"}
    monkeypatch.setattr(lease, "tell", lambda *_: setattr(lease, "seconds", 0))
    assert checked(lease, FEW, ["speed"]) == 0
    assert lease.kept("speed.json") == []
