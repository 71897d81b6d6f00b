"""Widths that make a model as large, or as dear, as full attention's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import Lra, first_fast

from lra_bench import sweeps
from lra_bench.config import Match, Run
from lra_bench.errors import ConfigError
from lra_bench.launch import local
from lra_bench.runs import build, matched_size
from lra_bench.sweeps import Request
from lra_bench.training.program import parameters


@pytest.fixture(autouse=True)
def inside(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def runs_of(models: str, **more: Any) -> list[Run]:
    return sweeps.runs(Request(models, "short", "tiny", **more))


@given(st.integers(0, 10**6), st.integers(1, 10**4), st.integers(1, 10**8), st.sampled_from((0.8, 1.0, 1.3)))
def test_the_width_found_is_the_nearest(fixed: int, each: int, target: int, power: float) -> None:
    calls: list[int] = []

    def count(n: int) -> float:
        calls.append(n)
        return fixed + each * n**power

    found = matched_size.nearest(count, target)
    few = len(calls)
    around = [n for n in (found - 1, found, found + 1) if n >= 1]
    assert min(abs(count(n) - target) for n in around) == abs(count(found) - target)
    assert power != 1.0 or few <= 8


@pytest.mark.parametrize("what", first_fast("params", "flops"))
def test_a_model_comes_as_near_as_a_width_can(what: str) -> None:
    (run,) = runs_of("fnet")
    (reference,) = runs_of("softmax")
    found = matched_size.matched(run, what)["mlp"]  # type: ignore[arg-type]

    def off(mlp: int) -> float:
        backbone = run.recipe.backbone.model_copy(update={"mlp": mlp})
        sized = run.model_copy(update={"recipe": run.recipe.model_copy(update={"backbone": backbone})})
        if what == "params":
            return abs(parameters(build.model_spec(sized)) - parameters(build.model_spec(reference)))
        return abs(build.work(sized, build.model_spec(sized)) - build.work(reference, build.model_spec(reference)))

    assert found > run.recipe.backbone.mlp, "it has less than full attention"
    assert off(found) <= min(off(found - 1), off(found + 1))


@pytest.mark.slow
def test_full_attention_is_left_as_it_is() -> None:
    (run,) = runs_of("softmax")
    assert (
        matched_size.matched(run, "params")["mlp"]
        == matched_size.matched(run, "flops")["mlp"]
        == run.recipe.backbone.mlp
    )


@pytest.mark.slow
def test_work_is_that_of_the_compiled_step() -> None:
    (run,) = runs_of("linear", settings=("training.accumulate=2",))
    assert build.work(run, build.model_spec(run)) == build.compiled(run)[1]["flops_per_step"]


def test_what_is_too_large_without_an_mlp_says_so() -> None:
    (run,) = runs_of("linformer[rank=500]", length=900)
    found = matched_size.matched(run, "params")
    assert found["mlp"] is None
    assert found["why"].startswith("parameters with an MLP one wide: ")


def answering(monkeypatch: pytest.MonkeyPatch, *widths: int | None) -> list[int]:
    """A child that says these widths; of how many runs it was asked."""
    seen: list[int] = []

    def answers(module: str, runs: list[Run], asked: dict[str, Any], tell: Any) -> list[dict[str, Any]]:
        seen.append(len(runs))
        return [{"mlp": width, "why": "too large"} for width in widths]

    monkeypatch.setattr(local, "answers", answers)
    return seen


def test_a_matched_run_is_another_and_its_id_says_what_it_is_matched_with(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = answering(monkeypatch, 16, 21)
    every = runs_of("softmax,fnet", seeds=(0, 1))
    found = sweeps.matched(every, "params", lambda *_: None)
    assert seen == [2], "once for all seeds"
    assert [run.recipe.backbone.mlp for run in found] == [16, 21, 16, 21]
    assert all(run.match == Match(what="params", mlp=16) for run in found)
    assert len({run.id for run in (*every, *found)}) == 8, "full attention, too, has a result in the matched column"
    assert found[0].tag == "tiny, match params"
    assert sweeps.matched(every, "flops", lambda *_: None)[0].id != found[0].id


def test_one_that_cannot_be_matched_is_left_out_and_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, 16, None)
    said: list[tuple[str, str]] = []
    found = sweeps.matched(runs_of("softmax,fnet"), "params", lambda run, event: said.append((run.model, event["why"])))
    assert [run.model for run in found] == ["softmax"]
    assert said == [("fnet", "too large")]
    answering(monkeypatch, None)
    with pytest.raises(ConfigError, match="--match params: fnet cannot be made so small; too large"):
        sweeps.matched(runs_of("fnet"), "params", lambda *_: None)


def test_the_ratio_is_to_the_backbone_that_full_attention_has() -> None:
    (run,) = runs_of("fnet")
    width = matched_size.matched(run, "params")["mlp"]
    backbone = run.recipe.backbone.model_copy(update={"mlp": width})
    sized = run.model_copy(
        update={
            "recipe": run.recipe.model_copy(update={"backbone": backbone}),
            "match": Match(what="params", mlp=run.recipe.backbone.mlp),
        }
    )
    assert build.compiled(sized)[1]["params_ratio"] == pytest.approx(1.0, abs=0.02)


def test_a_run_of_before_has_the_id_it_had() -> None:
    (run,) = runs_of("softmax")
    kept = run.model_dump()
    del kept["match"]
    assert Run.model_validate(kept).id == run.id


@pytest.mark.sweep
def test_the_command(lra: Lra, here: Path) -> None:
    (here / "two.yaml").write_text("models: fnet,softmax\ntasks: short\nconfig: tiny\nmatch: params\n")
    states = json.loads(lra("sweep", "two.yaml", "--dry-run", "--json").stdout)
    done = lra("run", "-m", "fnet,softmax", "-t", "short", "-c", "tiny", "--match", "params", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {row["run"] for row in rows} == {state["run"] for state in states}
    assert all(abs(row["params_ratio"] - 1) < 0.02 for row in rows)
    told = lra("compare", "--metric", "accuracy").stdout
    assert "short tiny [tiny, match params]" in " ".join(told.split())
