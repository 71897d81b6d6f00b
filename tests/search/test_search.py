"""Settings are searched for on val alone; a study that is killed goes on; results of its recipe say what it cost."""

from __future__ import annotations

import json
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from samples import Lra, started

from lra_bench import config, sweeps
from lra_bench.errors import ConfigError
from lra_bench.launch import gpus, local
from lra_bench.launch.place import Place
from lra_bench.records import fingerprint
from lra_bench.search import Question, Study, kept, record, trial
from lra_bench.sweeps import Request

RATES = "optimizer.lr: {from: 1.0e-4, to: 1.0e-1, scale: log}\nbackbone.dropout: [0.0, 0.5]\n"
ASKED = Request("linear", "short", "tiny")


@pytest.fixture(autouse=True)
def _stand_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    (here / "rates.yaml").write_text(
        "optimizer.lr: {from: 1.0e-4, to: 1.0e-1, scale: log}\nbackbone.dropout: [0.0, 0.5]\n"
    )


def study(request: Request = ASKED, space: str = "rates.yaml", seed: int = 0) -> Study:
    return Study.of(Question(request, config.space(space), seed), Path("tune"))


def answered(monkeypatch: pytest.MonkeyPatch, score: Any, looks: int = 3) -> None:
    """Trials that end at once, with a score that is a function of the run and the look."""

    def answers(module: str, runs: Any, asked: Any, tell: Any, place: Any) -> list[dict[str, Any]]:
        (run,) = runs
        for look in range(1, looks + 1):
            tell({"event": "step", "step": 4 * look, "steps": 12})
            tell({"event": "val", "step": 4 * look, "val_score": score(run, look)})
        return [{"val_score": score(run, looks)}]

    monkeypatch.setattr(local, "answers", answers)


def test_trials_side_by_side_are_on_gpus_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "seen", lambda: gpus.Gpus("CUDA_VISIBLE_DEVICES", ("5", "7")))
    on, seen = set[str](), list[str]()

    def answers(module: str, runs: Any, asked: Any, tell: Any, place: Place) -> list[dict[str, Any]]:
        gpu = place.environment()["CUDA_VISIBLE_DEVICES"]
        assert gpu not in on, "two at once"
        on.add(gpu)
        time.sleep(0.05)
        on.remove(gpu)
        seen.append(gpu)
        return [{"val_score": 0.5}]

    monkeypatch.setattr(local, "answers", answers)
    found = study().run(6, 2, silent)
    assert {trial.state for trial in found.trials} == {"done"}
    assert set(seen) == {"5", "7"}


def silent(run: Any, event: Any) -> None:
    pass


def test_a_study_of_other_code_or_data_is_not_taken_up_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch, lambda run, look: 0.5)
    before, said = study(), list[str]()
    before.run(2, 1, silent)
    of = fingerprint.of
    monkeypatch.setattr(fingerprint, "of", lambda run, *more: of(run, *more) | {"code_hash": "0123456789"})
    after = study()
    assert after.folder != before.folder
    found = after.run(1, 1, lambda run, event: said.append(event.get("said", "")))
    assert len(found.trials) == 1
    now = of(after.question.run)["code_hash"]
    assert (
        f"{before.folder.name}, the same study, is not resumed: its trials are of code {now} (now 0123456789)" in said
    )


@pytest.mark.slow
def test_the_best_on_val_is_found_and_the_budget_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch, lambda run, look: run.recipe.optimizer.lr)
    found = study().run(6, 1, silent)
    assert len(found.trials) == 6
    assert found.best is not None
    assert found.best.val_score == max(t.settings["optimizer.lr"] for t in found.trials if t.state == "done")
    assert found.tuned.steps == sum(t.steps for t in found.trials)
    assert found.tuned.pruned == sum(t.state == "pruned" for t in found.trials)
    assert study().run(6, 1, silent) == found
    assert len(study().run(8, 1, silent).trials) == 8


def test_poor_trials_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def score(run: Any, look: int) -> float:
        if look == 1:
            asked.append(run)
        return 1.0 - 0.1 * len(asked) + 0.01 * look

    answered(monkeypatch, score)
    found = study().run(7, 1, silent)
    states = [t.state for t in sorted(found.trials)]
    assert states == ["done"] * 5 + ["pruned"] * 2
    assert {t.steps for t in found.trials if t.state == "pruned"} == {4}


def test_a_lower_score_is_the_better_where_the_metric_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch, lambda run, look: run.recipe.optimizer.lr)
    found = study(Request("linear", "adding", "tiny")).run(5, 1, silent)
    assert found.best is not None
    assert found.best.val_score == min(t.settings["optimizer.lr"] for t in found.trials)


@pytest.mark.slow
def test_a_trial_that_is_refused_or_fails_spares_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("widths.yaml").write_text("backbone.width: [16, 15]\n", encoding="utf-8")
    answered(monkeypatch, lambda run, look: 0.5)
    found = study(space="widths.yaml", seed=1).run(6, 1, silent)
    failed = [t for t in found.trials if t.state == "failed"]
    assert failed
    assert all("15 wide cannot be cut into 2 heads" in str(t.why) for t in failed)
    assert found.best is not None


def test_trials_that_were_killed_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch, lambda run, look: 0.5)
    whole = study()
    lr, kept = 0.0123, whole._opened()
    kept.enqueue_trial({"optimizer.lr": lr, "backbone.dropout": 0.5})
    begun = kept.ask()
    begun.suggest_float("optimizer.lr", 1e-4, 1e-1, log=True)
    begun.suggest_categorical("backbone.dropout", [0.0, 0.5])
    found = whole.run(2, 1, silent)
    assert len(found.trials) == 2
    assert lr in [t.settings["optimizer.lr"] for t in found.trials]


@pytest.mark.slow
def test_a_trial_never_reads_test(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LRA_CACHE", str(cache))
    read: list[str] = []

    class Watched(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            read.append(name)
            return super().__getitem__(name)

    whole = trial.examples
    monkeypatch.setattr(trial, "examples", lambda run, tell: (Watched(whole(run, tell)[0]), ""))
    events: list[str] = []
    facts = trial.tried(
        sweeps.runs(ASKED)[0], tmp_path / "kept", {}, lambda event, **_: events.append(event), lambda step: False
    )
    assert set(read) == {"train", "val"}
    assert "test" not in events
    assert 0 <= facts["val_score"] <= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.lr: 3", r"space\.yaml:1: optimizer\.lr: must be a list of values, or"),
        ("optimizer.lr: []", r"space\.yaml:1: optimizer\.lr: must be a list of values, or"),
        ("optimizer.lr: {from: 2, to: 1, scale: log}", r"space\.yaml:1: optimizer\.lr.*from 2 to 1: must rise"),
        ("optimizer.lr: {from: 1, to: 2}", r"space\.yaml:1: optimizer\.lr: scale: missing"),
        ("optimizer.lr: {from: 1, to: 2, scale: lg}", r"space\.yaml:1: optimizer\.lr: scale"),
        ("optimizer.rate: [1]", r"optimizer\.rate: unknown key"),
        ("linear.rank: [1]", r"linear\.rank=1: no such option"),
        ("task.length: [1]", r"task\.length: a search is of settings of the recipe and options of the model"),
    ],
)
def test_a_wrong_space_is_one_line(text: str, message: str) -> None:
    Path("space.yaml").write_text(f"{text}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        study(space="space.yaml")


def test_several_runs_are_no_study() -> None:
    with pytest.raises(
        ConfigError, match="a study is of one model on one task, with one seed and one technique, not of 2"
    ):
        study(Request("linear,linformer", "short", "tiny"))


def test_a_study_is_of_what_is_trained_alone() -> None:
    with pytest.raises(ConfigError, match=r"distilled from softmax.*: depends on another run"):
        study(Request("linear", "short", "tiny", settings=("distill.teacher=softmax",)))


def test_a_tuned_recipe_is_the_best_trial(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    answered(monkeypatch, lambda run, look: run.recipe.optimizer.lr)
    own = (here / "configs/tiny.yaml").read_text()
    (here / "configs/own.yaml").write_text(f"{own}tasks: {{short: {{optimizer: {{lr: 0.5}}}}}}\n")
    asked = Request(
        "linformer", "short", "own", settings=("backbone.width=8", "task.length=24", "linformer.rank=5"), limit=9
    )
    ran = study(asked)
    found = ran.run(3, 1, silent)
    (point,) = kept(ran, found)
    words = shlex.split(point["command"])
    assert words[:3] == ["lra", "run", "-m"]
    said = dict(zip(words[2::2], words[3::2], strict=True))
    again = Request(said["-m"], said["-t"], said["-c"], settings=(said["--set"],), limit=int(said["--limit"]))
    (run,) = sweeps.runs(again)
    assert found.best is not None
    wanted = ran.question.asked(found.best.settings)
    assert (run.recipe, run.task, run.options, run.limit) == (
        wanted.recipe,
        wanted.task,
        wanted.options,
        wanted.limit,
    )
    assert run.tuned == found.tuned


@pytest.mark.sweep
def test_a_study_through_the_command_killed_and_taken_up(lra: Lra, here: Path, cache: Path) -> None:
    asked = (
        "tune", "-m", "linear", "-t", "short", "-c", "tiny", "--space", "rates.yaml", "--trials", "3",
        "--set", "training.steps=300", "--set", "training.checkpoint_every=20",
    )  # fmt: skip
    child = started(here, cache, *asked)
    until = time.monotonic() + 120
    while not list(here.glob("results/tune/*/trials/*/*/_CHECKPOINT_METADATA")) and time.monotonic() < until:
        time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    child.wait()
    (folder,) = (here / "results/tune").iterdir()
    with record.quiet():
        kept = optuna.load_study(study_name="study", storage=f"sqlite:///{folder / 'study.db'}")
    begun = [t.params for t in kept.trials if t.state.name == "RUNNING"]
    assert begun
    done = lra(*asked, "--json")
    assert done.returncode == 0, done.stderr
    assert "resuming from step" in done.stderr
    said = json.loads(done.stdout)
    assert len(said["trials"]) == said["tuned"]["trials"] == 3
    assert begun[0] in [t["settings"] for t in said["trials"]]
    run = lra("run", "-m", "linear", "-t", "short", "-c", said["config"], "--json")
    assert run.returncode == 0, run.stderr
    (row,) = json.loads(run.stdout)
    assert (row["tuning_trials"], row["tuning_steps"], row["steps"]) == (3, said["tuned"]["steps"], 300)
    assert row["val_score"] == said["best"]["val_score"]
    budget = lra("compare", "results", "--budget", "--format", "md")
    assert f"3, {said['tuned']['steps']:,} steps" in budget.stdout
    shown = lra(*asked, "--show")
    assert "evaluated on val alone" in shown.stdout
