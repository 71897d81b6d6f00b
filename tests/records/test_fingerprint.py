"""What a run is: its settings, its data's content, and the code that made its numbers."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from samples import TINY, Lra, started

from lra_bench import data, mixers, source_code, sweeps
from lra_bench.config import Run
from lra_bench.errors import DataError
from lra_bench.measure.clocks import Stopwatch
from lra_bench.records import fingerprint, store
from lra_bench.runs import execute
from lra_bench.runs.build import Fallback
from lra_bench.runs.execute import of_another_basis
from lra_bench.sweeps import Request

LABELS = ("good", "bad")
TASK = """\
version: 1
title: Own reviews
source: table
args: {text: text, text_b: null, label: label, answer: class, classes: 'bad,good'}
folder: DATA
length: 32
classes: 2
splits: {train: 48, val: 8, test: 8}
"""


def written(folder: Path, labels: tuple[str, str] = LABELS) -> Path:
    """A table of texts, labeled by whether a letter is in them."""
    folder.mkdir(exist_ok=True)
    with (folder / "train.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows([f"text number {n} {'aaaa' if n % 2 else 'zzzz'}", labels[n % 2]] for n in range(64))
    return folder


@pytest.fixture
def own(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a task of the user's own data, in which one stands."""
    written(here / "reviews")
    (here / "tasks/mine.yaml").write_text(TASK.replace("DATA", "../reviews"))
    monkeypatch.chdir(here)
    return here


def run_of(**asked: Any) -> Run:
    (run,) = sweeps.runs(replace(Request("linear", "mine", "tiny"), **asked))
    return run


def test_other_data_under_the_same_path_are_another_run(own: Path) -> None:
    before = run_of()
    written(own / "elsewhere")
    moved = run_of(settings=(f"task.folder={own / 'elsewhere'}",))
    assert (moved.id, moved.changed) == (before.id, None), "the same files lie elsewhere"
    store.write_json(store.folder(own, before) / "run.json", before.model_dump())
    assert not store.on_other_data(own, before)
    written(own / "reviews", ("bad", "good"))
    after = run_of()
    assert after.id != before.id
    assert after.without_content.id == before.without_content.id
    assert store.on_other_data(own, after) == [store.folder(own, before)]
    with pytest.raises(DataError, match="its files have changed since this run was asked for"):
        data.prepare(before.task)


def test_what_stands_on_old_data_is_another_run_too(own: Path) -> None:
    asked = {"techniques": "distilled", "settings": ("distill.teacher=softmax",)}
    before = run_of(**asked)
    written(own / "reviews", ("bad", "good"))
    after = run_of(**asked)
    assert {run.id for run in before.needs}.isdisjoint(run.id for run in after.needs)


@pytest.mark.parametrize(
    "same",
    [
        {"settings": ("tag=another",)},
        {"settings": ("training.checkpoint_every=7",)},
        {"settings": ("task.title=Another", "task.paper=none")},
        {"settings": ("training.batch=8",)},
        {"config": "twin"},
    ],
)
def test_what_decides_no_number_is_in_no_id(own: Path, same: dict[str, Any]) -> None:
    (own / "configs/twin.yaml").write_text(TINY.replace("tag: tiny", "tag: twin"))
    assert run_of(**same).id == run_of().id
    assert run_of(settings=("training.batch=4",)).id != run_of().id


def test_the_same_under_another_configs_name_is_found(own: Path) -> None:
    (own / "configs/twin.yaml").write_text(TINY)
    first, twin = run_of(), run_of(config="twin")
    assert first.folder != twin.folder
    store.save(own, first, store.blank(first, "nan"))
    row = store.done(own, twin)
    assert row is not None
    assert row.run == twin.id
    assert store.done(own, run_of(seeds=(1,), config="twin")) is None


def test_a_column_says_what_changes_the_run_whatever_the_order(own: Path) -> None:
    def changed(*settings: str, model: str = "linear") -> str | None:
        return run_of(models=model, settings=settings).changed

    both = "training.batch=4 training.steps=20"
    assert changed("training.steps=20", "training.batch=4") == changed("training.batch=4", "training.steps=20") == both
    assert changed("training.steps=12") is None, "as it is without"
    assert changed("training.steps=4", "training.steps=20") == "training.steps=20", "the last one counts"
    linear, linformer = sweeps.runs(Request("linear,linformer", "mine", "tiny", settings=("linformer.rank=8",)))
    assert (linear.changed, linear.id) == (None, run_of().id)
    assert linformer.changed is None
    assert linformer.id == run_of(models="linformer[rank=8]").id
    assert run_of(length=16).changed == run_of(settings=("task.length=16",)).changed == "task.length=16"


def test_a_config_that_is_edited_has_another_hash_and_a_model_or_a_technique_has_not(own: Path) -> None:
    before = run_of().config_hash
    same = (run_of(models="softmax[impl=plain]"), run_of(techniques="continued"), run_of(settings=("tag=x",)))
    assert {run.config_hash for run in same} == {before}
    assert run_of(techniques="continued").recipe.training.steps != run_of().recipe.training.steps
    (own / "configs/tiny.yaml").write_text(TINY.replace("lr: 1.0e-2", "lr: 2.0e-2"))
    assert run_of().config_hash != before


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package's code."""
    return shutil.copytree(source_code.PACKAGE, tmp_path / "lra_bench", ignore=shutil.ignore_patterns("__pycache__"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def kept_run(model: str) -> Run:
    (run,) = sweeps.runs(Request(model, "listops", "quick"))
    return run


def test_the_hashes_are_of_the_code_that_a_run_goes_through(package: Path) -> None:
    """Attention's scale, the optimizer, a source and a remark; another mixer's kernel is no business of the run."""
    run = kept_run("linear")

    def moved() -> set[str]:
        now = fingerprint.of(run, package)
        return {column for column in now if now[column] != before[column]}

    before = fingerprint.of(run, package)
    assert before == fingerprint.of(run), "wherever the package lies"
    edit(package / "mixers/linear.py", "from __future__", "# A remark.\nfrom __future__")
    edit(package / "mixers/linear.py", "CARD = Card(", "CARD = Card(\n    # another card\n")
    edit(package / "kernels/lsh_attention.py", "import jax\n", "import jax\n\nUNUSED = 1\n")
    assert moved() == set()
    path = package / "kernels/linear_attention.py"
    text = path.read_text(encoding="utf-8")
    edit(path, "import jax\n", "import jax\n\nMORE = 1\n")
    assert moved() == {"parts_hash"}
    path.write_text(text)
    edit(package / "training/optimizer.py", "import jax", "MORE = 1\nimport jax")
    assert moved() == {"code_hash"}
    for scores in ("runs/scoring.py", "runs/lengths.py", "runs/limits.py"):
        before = fingerprint.of(run, package)
        edit(package / scores, "import annotations", "import annotations\n\nMORE = 1")
        assert moved() == {"code_hash"}
    edit(package / "data/sources/synthetic/listops.py", "\nimport", "\nMORE = 1\nimport")
    assert moved() == {"code_hash", "parts_hash"}


def test_the_users_own_files_that_a_mixer_imports_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = Path(shutil.copy(mixers.model_card("linear").path, tmp_path / "mine.py"))
    alone = mixers.code(mine)
    edit(mine, "\nfrom dataclasses", "\nfrom helping.deep import scale\nfrom dataclasses")
    (tmp_path / "helping").mkdir()
    (tmp_path / "helping/deep.py").write_text("import continued\nscale = 2.0\n")
    (tmp_path / "continued.py").write_text("more = 1\n")
    first = mixers.code(mine)
    (tmp_path / "continued.py").write_text("# said\nmore = 1\n")
    assert mixers.code(mine) == first != alone
    (tmp_path / "continued.py").write_text("more = 2\n")
    assert mixers.code(mine) != first


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ({}, None),
        ({"code_hash": "0"}, "trained by code 0"),
        ({"jax": "0.1"}, "trained by jax 0.1"),
        ({"data_hash": "0"}, "trained by data 0"),
        (None, "nothing is known of"),
    ],
)
def test_half_trained_by_other_code_or_on_other_data_begins_anew(
    tmp_path: Path, then: dict[str, str] | None, words: str | None
) -> None:
    basis = fingerprint.full(kept_run("linear")) | {"data_hash": "1"}
    said: list[str] = []

    def tell(event: str, **facts: str) -> None:
        said.append(facts["said"])

    assert not of_another_basis(tmp_path, basis, tell), "nothing is half trained"
    (tmp_path / "checkpoints/4").mkdir(parents=True)
    if then is not None:
        store.write_json(tmp_path / "basis.json", basis | then)
    assert of_another_basis(tmp_path, basis, tell) == (words is not None)
    assert [words in line for line in said] == ([True] if words else [])


def test_a_state_of_another_basis_is_gone_before_the_new_basis_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two, the next session would go on from it."""
    (tmp_path / "checkpoints/4").mkdir(parents=True)
    store.write_json(tmp_path / "basis.json", {"code_hash": "0"})
    program = SimpleNamespace(objective=SimpleNamespace(units=None))
    doubles: dict[str, Any] = {
        "all_examples": ([{"train": None}], "1"), "dependencies": None, "fitting": (program, {}, Fallback(1, False)),
    }  # fmt: skip
    for name, given in doubles.items():
        monkeypatch.setattr(execute, name, lambda *_, given=given, **__: given)

    def killed(folder: Path, *, fresh: bool) -> None:
        assert (folder, fresh) == (tmp_path / "checkpoints", True)
        raise SystemExit

    monkeypatch.setattr(execute.checkpoint, "opened", killed)
    with pytest.raises(SystemExit):
        execute.execute(kept_run("linear"), tmp_path, lambda *_, **__: None, lambda _: False, Stopwatch(), fresh=False)
    assert store.read_json(tmp_path / "basis.json") == {"code_hash": "0"}


@pytest.mark.slow
def test_changed_labels_are_trained_on_anew_and_other_code_is_told(own: Path, cache: Path, lra: Lra) -> None:
    """A run stopped half way, its labels exchanged, run again, its labels exchanged back; and its code changed."""
    long = ("--set", "training.steps=3000", "--set", "training.checkpoint_every=1")
    process = started(own, cache, "run", "-m", "linear", "-t", "mine", "-c", "tiny", *long)
    assert process.stderr is not None
    while not list(own.glob("results/runs/*/checkpoints/*/_CHECKPOINT_METADATA")):
        assert process.poll() is None, process.communicate()
    os.killpg(process.pid, signal.SIGINT)
    process.communicate()
    written(own / "reviews", ("bad", "good"))
    run = ("run", "-m", "linear", "-t", "mine", "-c", "tiny")
    found = lra(*run, "--set", "training.steps=40")
    assert found.returncode == 0, found.stderr
    assert "resuming" not in found.stderr
    found = lra(*run)
    (folder,) = [path for path in own.glob("results/runs/*/result.json") if json.loads(path.read_text())["steps"] == 12]
    written(own / "reviews")
    found = lra(*run, "--json")
    assert f"{folder.parent.name} is not reused: what it was trained on has changed since" in found.stderr
    (row,) = json.loads(found.stdout)
    assert row["code_hash"] == fingerprint.of(run_of())["code_hash"]
    assert "done before;" in lra(*run).stderr
    assert "its files have changed" in lra("predict", folder.parent, "tasks/mine.yaml").stderr
    (folder,) = [path for path in own.glob("results/runs/*/result.json") if row["run"] in path.parent.name]
    folder.write_text(json.dumps(row | {"code_hash": "0123456789"}))
    found = lra(*run)
    assert "done before, by other code: code 0123456789 (now" in found.stderr
    assert "(other code)" in found.stdout
    assert "by code 0123456789" in lra(*run, "--dry-run").stdout
