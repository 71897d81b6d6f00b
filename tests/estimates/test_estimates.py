"""Estimates asked for, kept, and put into tables; no compiler for a device that is not here is needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest
from jax.sharding import get_abstract_mesh
from samples import Said

from lra_bench import config, sweeps
from lra_bench.errors import ConfigError
from lra_bench.estimates import estimate
from lra_bench.launch import local
from lra_bench.records import store
from lra_bench.report import estimates
from lra_bench.runs import build

H100 = config.device("h100")


def runs_of(models: str, length: int = 32) -> list[config.Run]:
    request = sweeps.Request(models, "listops", "speed", length=length, settings=("training.batch=2",))
    return list(sweeps.runs(request))


def fact(**changed: Any) -> dict[str, Any]:
    """What is known of a step."""
    return {
        "run": "a", "model": "linear", "options": {}, "task": "listops", "config": "speed", "length": 1024, "batch": 8,
        "dtype": "float32", "matmul": "default", "device": H100.name, "device_bytes": H100.bytes, "impl": "xla",
        "precision": "tf32", "planned_bytes": 2**30, "largest_batch": 600, "fits": True, "launches": 200,
        "loops": [{"trips": 4, "launches": 7}], "hbm_bytes": 10**9, "flops": 10**10, "compute_ms": 0.02,
        "bandwidth_ms": 0.3, "launch_ms": 0.6, "estimate_ms": 0.6, "binds": "launches", "status": "ok", "error": None,
    } | changed  # fmt: skip


@pytest.mark.slow
def test_a_step_is_compiled_for_a_device_and_weighed() -> None:
    """For the CPU that is here, as for one that is not: of shapes alone, with the plan of the program that runs."""
    (run,) = runs_of("linear")
    found = estimate(run, H100, jax.devices()[0])
    step = build.built(run).training
    assert (found["planned_bytes"], found["flops"]) == (step.compiled_bytes, step.flops)
    assert (found["impl"], found["fits"]) == ("xla", True)
    assert found["estimate_ms"] == max(found[f"{part}_ms"] for part in ("compute", "bandwidth", "launch"))
    assert found["largest_batch"] > 1000


def test_a_step_for_a_gpu_is_made_for_that_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, and not for the device of this process."""

    class Made(Exception):
        pass

    class Planned:
        @property
        def training(self) -> Any:
            raise Made(get_abstract_mesh().abstract_device)

    monkeypatch.setattr(sys.modules["lra_bench.estimates.estimate"], "planned", lambda *_: Planned())
    gpu: Any = SimpleNamespace(platform="gpu", compute_capability="9.0")
    with pytest.raises(Made, match="NVIDIA H100"):
        estimate(runs_of("linear")[0], H100, gpu)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that a process was asked for; it knows all."""
    names: list[str] = []

    def answers(module: str, runs: list[config.Run], *_: object) -> list[dict[str, Any]]:
        names.extend(run.model for run in runs)
        return [{"estimate_ms": 1.0, "status": "ok"} for _ in runs]

    monkeypatch.setattr(local, "answers", answers)
    return names


def test_what_is_known_is_not_compiled_again(asked: list[str]) -> None:
    every = runs_of("linear,fnet")
    *_, facts = sweeps.estimated(every, H100, [], lambda *_: None)
    assert asked == ["linear", "fnet"]
    *_, again = sweeps.estimated(every, H100, facts, lambda *_: None)
    assert (len(asked), again) == (2, facts)
    changed, told = [one | {"code_hash": "0123456789"} for one in facts], list[str]()
    *_, kept = sweeps.estimated(every, H100, changed, lambda _, event: told.append(event["said"]))
    assert (len(asked), kept) == (2, changed)
    assert [said.partition(": code")[0] for said in told] == ["kept, and compiled from other code"] * 2
    with pytest.raises(ConfigError, match="estimated for TPU v5 lite, not NVIDIA H100"):
        list(sweeps.estimated(every, H100, [facts[0] | {"device": "TPU v5 lite"}], lambda *_: None))


def test_another_effort_of_the_compiler_is_another_estimate(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    runs = runs_of("linear")
    *_, own = sweeps.estimated(runs, H100, [], lambda *_: None)
    monkeypatch.setenv("JAX_OPTIMIZATION_LEVEL", "O1")
    *_, both = sweeps.estimated(runs, H100, own, lambda *_: None)
    *_, known = sweeps.estimated(runs, H100, both, lambda *_: None)
    assert [one["effort"] for one in known] == [None, "O1"]
    assert asked == ["linear", "linear"]
    growing = estimates.growth([one | fact(length=n) | {"effort": one["effort"]} for one in known for n in (64, 128)])
    assert list(growing.tables[0].cells["effort"]) == ["", "O1"]


@pytest.mark.parametrize("folder", ["speed", "gpu"])
def test_what_was_measured_stands_beside_it(tmp_path: Path, folder: str) -> None:
    steps = [{"run": "a", "device": H100.name, "step_ms_p50": 0.9}, {"run": "b"}]
    store.write_json(tmp_path / folder / "speed.json", steps)
    store.write_json(tmp_path / folder / "machine.json", {"device": H100.name})
    one, other = sweeps.beside([fact(), fact(run="b")], tmp_path)
    assert (one["measured_ms"], other["measured_ms"]) == (0.9, None)
    cells = estimates.planned([one, other]).tables[0].cells
    assert list(cells["measured, ms"]) == ["0.9", ""]
    assert list(cells["binds"]) == ["launches", "launches"]


def test_tables_say_that_they_are_estimates_and_what_does_not_compile() -> None:
    bad = fact(model="fnet", status="error", error="XlaRuntimeError: no") | dict.fromkeys(("impl", "precision"))
    made = estimates.planned([fact(), bad]).tables[0]
    assert "estimates for NVIDIA H100" in made.title
    assert made.notes[0].startswith("estimates, not measurements")
    assert made.cells.loc["fnet", "compiles"] == "no: XlaRuntimeError: no"
    tables = estimates.report([fact(), fact(length=4096, run="c"), bad]).tables
    assert tables[0].cells.loc["linear", "L = 4,096"] == "0.6 launches"
    assert tables[0].cells.loc["fnet", "L = 1,024"] == "error"


def test_those_of_another_effort_of_the_compiler_have_a_table_of_their_own() -> None:
    titles = [table.title for table in estimates.report([fact(), fact(length=2048, effort="O1")]).tables]
    assert len(titles) == 2 * len({title.partition(":")[0] for title in titles})
    assert [title.endswith("products in tf32, XLA's effort O1") for title in titles].count(True) == len(titles) / 2


def test_growth_is_by_example_where_batches_shrink() -> None:
    """Launches twice as many, bytes as many for four times the length and a quarter of the batch: L^0.5 and L^1."""
    facts = [fact(), fact(length=4096, batch=2, launches=400, run="b")]
    (line,) = estimates.growth(facts).numbers.to_dict("records")
    assert line["launches_exponent"] == pytest.approx(0.5)
    assert line["hbm_bytes_exponent"] == pytest.approx(1)
    (table,) = estimates.growth(facts).tables
    assert table.notes[0].startswith("the exponent of L of an example's share, and of a step's launches, ")
    with pytest.raises(ConfigError, match="no model has two lengths"):
        estimates.growth(facts[:1])


def test_the_commands(said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store.write_json(tmp_path / "kept.json", [fact(), fact(length=4096, batch=2, run="b")])
    code, text = said("speed", "--read", "kept.json")
    assert (code, "kernels launched: estimates for NVIDIA H100" in text) == (0, True)
    code, text = said("scale", "kept.json")
    assert (code, "growth with L: NVIDIA H100" in text) == (0, True)
    code, text = said("plan", "-m", "linear", "-t", "listops", "--device", "h10")
    assert (code, "device 'h10': not found; did you mean 'h100'" in text) == (2, True)
    code, text = said("plan", "-m", "linear", "-t", "listops", "--device", "h100", "--jobs", "2")
    assert (code, "plans no jobs" in text) == (2, True)
    code, text = said("speed", "-m", "linear", "--device", "h100", "--peak")
    assert (code, "estimates training steps; no --read, --peak" in text) == (2, True)


def test_what_differs_on_a_device_is_left_out_of_the_model_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU whose kernel is not what it ought to be."""

    def refused(*_: object) -> Iterator[tuple[str, build.Agreement]]:
        yield "pallas", build.Agreement("pallas-triton", "xla", False, "3.0e-01 apart in float32")

    (run,) = runs_of("local")
    assert build.left_out(run) == []
    monkeypatch.setattr(build, "here", lambda: build.Target("gpu"))
    monkeypatch.setattr(build, "refused", refused)
    assert build.model_spec(run).target == build.Target("gpu", frozenset({"pallas"}))
    assert build.abstract(build.model_spec(run)).impl == "batched"
    assert build.left_out(run) == ["pallas is left out on this device: 3.0e-01 apart in float32"]
