"""Architectures: a mixer a layer, under limits; what is too dear is not trained; the front is what none beats."""

from __future__ import annotations

import json
import shlex
import threading
from pathlib import Path
from typing import Any

import pytest
from samples import Lra
from test_search import silent

from lra_bench import config, sweeps
from lra_bench.errors import ConfigError
from lra_bench.launch import local
from lra_bench.search import Question, Study, Trial, kept, trial
from lra_bench.sweeps import Request

SPACE = """\
model: [linear, 'linformer[sharing=none]', softmax]
backbone.layers: {from: 1, to: 3, scale: uniform}
backbone.width: [8, 16, 32]
linformer.rank: [3, 5]
"""
ASKED = Request("", "short", "tiny")


@pytest.fixture(autouse=True)
def _stand_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    (here / "space.yaml").write_text(SPACE)


def question(seed: int = 0, **costs: float | None) -> Question:
    return Question.of_architecture(ASKED, config.space("space.yaml"), seed, costs or {"params": None})


def study(seed: int = 0, **costs: float | None) -> Study:
    return Study.of(question(seed, **costs), Path("search"))


def params(run: Any) -> float:
    return float(run.recipe.backbone.layers * run.recipe.backbone.width**2)


def answered(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Trials that end at once: more is dearer and scores better, softmax more so; the runs that were asked for."""
    asked_for = []

    def answers(module: str, runs: Any, asked: Any, tell: Any, place: Any) -> list[dict[str, Any]]:
        (run,) = runs
        asked_for.append(run)
        facts = {"params": params(run), "compiled_bytes": 2**20, "inference_ms_p50": 0.001 * params(run)}
        if any(most is not None and facts[cost] > most for cost, most in asked["costs"].items()):
            return [facts]
        tell({"event": "step", "step": 12, "steps": 12})
        tell({"event": "val", "step": 4, "val_score": 0.0})
        return [facts | {"val_score": params(run) / 4000 + 0.1 * ("softmax" in run.model)}]

    monkeypatch.setattr(local, "answers", answers)
    return asked_for


def beaten(one: Trial, other: Trial, *costs: str) -> bool:
    """Is the other at least as good in every goal, and better in one?"""
    assert one.val_score is not None
    assert other.val_score is not None
    less = [other.val_score - one.val_score, *(one.costs[cost] - other.costs[cost] for cost in costs)]
    return min(less) >= 0 and max(less) > 0


@pytest.mark.slow
@pytest.mark.parametrize("costs", [{"params": None}, {"params": 1500.0, "inference_ms_p50": 1.0}])
def test_the_front_is_what_none_beats(monkeypatch: pytest.MonkeyPatch, costs: dict[str, float | None]) -> None:
    answered(monkeypatch)
    found = study(**costs).run(20, 1, silent)
    done = [t for t in found.trials if t.state == "done"]
    assert len(found.front) > 1
    assert len(found.front) < len(done)
    for point in found.front:
        assert not any(beaten(point, other, *costs) for other in done)
    for other in done:
        same = [p for p in found.front if (p.val_score, p.costs) == (other.val_score, other.costs)]
        assert same or any(beaten(other, point, *costs) for point in found.front)
    scores = [point.val_score for point in found.front]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.sweep
def test_what_is_over_a_limit_is_not_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch)
    found = study(params=600.0).run(20, 1, silent)
    over = [t for t in found.trials if t.state == "over the limit"]
    assert over
    for t in over:
        assert t.steps == 0
        assert t.val_score is None
        assert t.costs["params"] > 600
    assert all(t.costs["params"] <= 600 for t in found.trials if t.state == "done")
    assert all(t.costs["params"] <= 600 for t in found.front)
    assert found.tuned.steps == 12 * sum(t.steps > 0 for t in found.trials)


@pytest.mark.slow
def test_the_sampler_is_told_how_far_over_the_limit_a_trial_is(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch)
    asked = study(params=600.0)
    found = asked.run(15, 1, silent)
    told = {t.number: t.constraints for t in asked._opened().trials}
    for ours in found.trials:
        assert told[ours.number] == {"params": pytest.approx(ours.costs["params"] / 600 - 1)}


@pytest.mark.slow
def test_each_layer_has_a_mixer_and_options_are_of_mixers_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch)
    asked = study()
    found = asked.run(25, 1, silent)
    depths = set()
    for t in found.trials:
        layers = [key for key in t.settings if key.startswith("model.")]
        run = asked.question.asked(t.settings)
        depths.add(len(layers))
        assert len(layers) == t.settings["backbone.layers"] == run.recipe.backbone.layers
        assert ("linformer.rank" in t.settings) == ("linformer" in run.model)
        ranks = {one.options["rank"] for one in run.mixer_specs if one.model == "linformer"}
        assert ranks <= {t.settings.get("linformer.rank")}
        assert all(one.options["sharing"] == "none" for one in run.mixer_specs if one.model == "linformer")
    assert depths == {1, 2, 3}
    assert any("+" in asked.question.asked(t.settings).model for t in found.trials)


@pytest.mark.sweep
def test_the_same_architecture_is_tried_once_and_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for = answered(monkeypatch)
    found = study(params=300.0).run(30, 1, silent)
    assert len({run.id for run in asked_for}) == len(asked_for) == len(found.trials) == 30
    every = study(params=300.0)._opened().trials
    repeats = [t for t in every if "repeat" in t.user_attrs]
    assert len(repeats) == len(every) - 30 > 0
    assert any(t.values for t in repeats)
    assert study(params=300.0).run(30, 1, silent) == found


@pytest.mark.sweep
def test_what_is_tried_just_now_is_not_tried_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (Path.cwd() / "space.yaml").write_text("model: [linear, softmax]\n")
    both = threading.Barrier(2, timeout=30)
    running: list[str] = []

    def answers(module: str, runs: Any, asked: Any, tell: Any, place: Any) -> list[dict[str, Any]]:
        assert runs[0].id not in running
        running.append(runs[0].id)
        if len(running) <= 2:
            both.wait()
        return [{"params": 1.0, "compiled_bytes": 1, "val_score": 0.5}]

    monkeypatch.setattr(local, "answers", answers)
    assert len(study().run(20, 2, silent).trials) == len(running) == 2


@pytest.mark.sweep
def test_a_point_of_the_front_is_run_by_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch)
    asked = study()
    first = kept(asked, asked.run(4, 1, silent))
    found = asked.run(20, 1, silent)
    points = kept(asked, found)
    assert json.loads((asked.folder / "front.json").read_text()) == points
    assert {Path(point["config"]).name for point in points} == {file.name for file in asked.folder.glob("*.yaml")}
    assert {point["number"] for point in first} != {point["number"] for point in points}
    for point in points:
        words = shlex.split(point["command"])
        said = dict(zip(words[2::2], words[3::2], strict=True))
        (run,) = sweeps.runs(Request(said["-m"], said["-t"], said["-c"]))
        wanted = asked.question.asked(point["settings"])
        assert (run.recipe, run.mixer_specs) == (wanted.recipe, wanted.mixer_specs)
        assert run.tuned == found.tuned


@pytest.mark.slow
def test_a_trial_that_costs_too_much_is_not_trained(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LRA_CACHE", str(cache))
    run = sweeps.runs(Request("softmax+linear", "short", "tiny", settings=("backbone.layers=2",)))[0]

    def ran(**costs: float | None) -> tuple[dict[str, Any], list[str]]:
        events: list[str] = []
        folder = tmp_path / str(len(costs))
        return trial.tried(run, folder, costs, lambda event, **_: events.append(event), lambda step: False), events

    facts, events = ran(params=None, inference_ms_p50=1e6)
    assert "step" in events
    assert facts["inference_ms_p50"] > 0
    over, events = ran(params=facts["params"] - 1)
    assert "step" not in events
    assert "val_score" not in over
    assert over["params"] == facts["params"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("backbone.width: [8]", r"model: must be a list of the models that a layer may be of"),
        ("model: {from: 1, to: 2, scale: log}", r"model: must be a list of the models"),
        ("model: [linaer]", r"'linaer'.*did you mean 'linear'"),
        ("model: ['lin*']", r"model: lin\*: must be one model"),
        ("model: [linear]\nlinformer.rank: [3]", r"'linformer': unknown"),
        ("model: [linformer]\nlinformer.rnak: [3]", r"linformer\.rnak=3: no such option; did you mean 'rank'"),
        ("model: [linear]\nmultitask.tasks: [a]", r"multitask\.tasks: a search is of settings of the recipe"),
    ],
)
def test_a_wrong_space_is_one_line(text: str, message: str) -> None:
    Path("space.yaml").write_text(f"{text}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        question()


def test_times_are_not_taken_side_by_side() -> None:
    with pytest.raises(ConfigError, match=r"--max-ms: .*--jobs 1"):
        study(inference_ms_p50=1.0).run(2, 2, silent)


@pytest.mark.sweep
def test_a_search_through_the_command(lra: Lra, here: Path) -> None:
    asked = ("search", "-t", "short", "-c", "tiny", "--space", "space.yaml", "--max-params", "9000", "--max-ms", "1000")
    done = lra(*asked, "--trials", "3", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert len(said["trials"]) == 3
    assert said["limits"] == {"params": 9000, "inference_ms_p50": 1000}
    point = said["front"][0]
    run = lra(*shlex.split(point["command"])[1:], "--json")
    assert run.returncode == 0, run.stderr
    (row,) = json.loads(run.stdout)
    assert row["params"] == point["costs"]["params"] <= 9000
    assert row["val_score"] == point["val_score"]
    assert (row["tuning_trials"], row["tuning_steps"]) == (3, said["tuned"]["steps"])
    shown = lra(*asked, "--show")
    assert point["command"] in shown.stdout
    assert "the Pareto front" in shown.stdout
