"""`lra new` and `lra verify`: what is written passes as it stands, and a certificate says what held."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from samples import Lra

from lra_bench import check, data, mixers, templates
from lra_bench.config import tasks
from lra_bench.conformance.checks import CHECKS


@pytest.mark.slow
def test_a_new_mixer_passes_as_it_stands(lra: Lra, tmp_path: Path) -> None:
    made = lra("new", "model", "my-mean", "--family", "kernel")
    assert made.returncode == 0, made.stderr
    test = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_mean.py"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert test.returncode == 0, test.stdout
    certificate = lra("verify", "-m", "my_mean.py", "--json")
    assert certificate.returncode == 0, certificate.stderr
    verdicts = json.loads(certificate.stdout)
    assert [v["check"] for v in verdicts] == list(range(1, len(CHECKS) + 1))
    assert all(v["passed"] for v in verdicts)
    assert "L^1.0" in verdicts[5]["figures"]


def test_a_check_that_fails_exits_1(lra: Lra, tmp_path: Path) -> None:
    source = mixers.model_card("linear").path.read_text()
    (tmp_path / "leaky.py").write_text(source.replace("q, k, v, mask, ", "q, k, v, jnp.ones_like(mask), ").replace(
        "from jaxtyping", "import jax.numpy as jnp\nfrom jaxtyping"
    ))  # fmt: skip
    said = lra("verify", "-m", "leaky.py")
    assert said.returncode == 1
    assert "FAIL  leaky 2. no leak of padding" in said.stdout
    assert "PASS  leaky 6." in said.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("mine", "--family", "kernle"), "kernel"),
        (("linear", "--family", "kernel"), "ships with the package"),
        (("2fast", "--family", "kernel"), "begins with a letter"),
        (("taken", "--family", "kernel"), "taken.py: is there already"),
    ],
)
def test_what_cannot_be_new(lra: Lra, tmp_path: Path, arguments: tuple[str, ...], named: str) -> None:
    (tmp_path / "taken.py").write_text("mine")
    said = lra("new", "model", *arguments)
    assert said.returncode == 2
    assert named in said.stderr
    assert (tmp_path / "taken.py").read_text() == "mine"
    assert not list(tmp_path.glob("test_*.py"))


TABLE = "text,label\n" + "".join(f"number {i},{'odd' if i % 2 else 'even'}\n" for i in range(1000))


def test_a_new_task_over_a_table_is_checked_and_shown(lra: Lra, tmp_path: Path) -> None:
    made = lra("new", "task", "parities", "--from", "csv")
    assert made.returncode == 0, made.stderr
    assert lra("check", "tasks/parities.yaml").returncode == 2, "there is no table yet"
    (tmp_path / "tasks/train.csv").write_text(TABLE)
    checked = lra("check", "tasks/parities.yaml")
    assert checked.returncode == 0, checked.stdout
    shown = lra("data", "show", "parities", "--n", "1", "--json")
    assert json.loads(shown.stdout)[0]["streams"][0].startswith("number ")


@pytest.mark.parametrize("source", data.names())
def test_a_new_task_over_any_source_says_what_the_source_wants(source: str, tmp_path: Path) -> None:
    path = templates.task("mine", source, tmp_path)
    spec = tasks.load(str(path))
    assert (spec.name, spec.title, spec.source) == ("mine", "mine", source)
    data.arguments(spec)
    assert tasks.variants(str(path)) == ()
    unsaid = [line for line in path.read_text().splitlines() if line.startswith("# ")][1:]
    assert any(line.startswith("# seed: 0 ") for line in unsaid)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("mine", "--from", "tabel"), "did you mean 'table'?"),
        (("listops", "--from", "table"), "there is a task of that name"),
        (("2fast", "--from", "table"), "begins with a letter"),
        (("taken", "--from", "table"), "taken.yaml: is there already"),
    ],
)
def test_what_cannot_be_a_new_task(lra: Lra, tmp_path: Path, arguments: tuple[str, ...], named: str) -> None:
    (tmp_path / "taken.yaml").write_text("mine")
    said = lra("new", "task", *arguments, "--folder", ".")
    assert said.returncode == 2
    assert named in said.stderr
    assert (tmp_path / "taken.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("clases: 10", "classes: 10", ":6: clases: unknown key; did you mean 'classes'?"),
        ("classes: ten", "classes: 10", ":6: classes: Input should be a valid integer"),
        (
            "args: {distence: null, decoys: true}",
            "args: {distance: null, decoys: true}",
            ":4: args.distence: unknown key; did you mean 'distance'?",
        ),
        ("args: {distance: 3.5, decoys: true}", "args: {distance: null, decoys: true}", ":4: args.distance: "),
    ],
)
def test_check_names_file_line_and_key(here: Path, wrong: str, right: str, said: str) -> None:
    path = templates.task("mine", "needle", here / "tasks")
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines)
    assert right in text
    path.write_text(text.replace(right, wrong))
    (finding,) = check.those([path])
    assert not finding.ok
    assert f"{path}{said}" in finding.detail


def test_check_of_files_tells_tasks_from_recipes(here: Path) -> None:
    kinds = [
        (f.kind, f.ok) for f in check.those([here / "tasks/short.yaml", here / "configs/tiny.yaml", here / "no.yaml"])
    ]
    assert kinds == [("task", True), ("config", True), ("file", False)]
