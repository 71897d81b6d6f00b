"""A finished run opened again is the model that was tested; its weights in few bits cost what is measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samples import Lra, ran_own

from lra_bench.errors import ConfigError
from lra_bench.records.provenance import finished

pytestmark = pytest.mark.slow  # runs are trained first


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of a finished run of a mixer of the user's own."""
    return ran_own(tmp_path_factory.mktemp("ran"), cache)


@pytest.fixture
def run(ran: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(ran, tmp_path / ran.name)


def test_the_model_as_it_was_tested_and_in_fewer_bits(lra: Lra, run: Path) -> None:
    row = json.loads((run / "result.json").read_text())
    results = run.parents[1] / "results"
    (results / "runs").mkdir(parents=True)
    shutil.move(run, results / "runs" / run.name)
    done = lra("quantize", row["run"], "--bits", "8,4", "-o", results, "--json")
    assert done.returncode == 0, done.stderr
    whole, eight, four = json.loads(done.stdout)
    assert whole == row | {"other_code": None}
    assert {eight["start"], four["start"]} == {row["run"]}
    assert 4 * row["params"] == whole["model_bytes"] > eight["model_bytes"] > four["model_bytes"]
    assert abs(eight["test_score"] - whole["test_score"]) <= 2 / row["test_n"]
    assert (eight["steps"], eight["train_loss"], eight["step_ms_p50"], eight["best_step"]) == (0, None, None, 0)


def no_run(run: Path) -> None:
    (run / "run.json").unlink()


def broken_run(run: Path) -> None:
    (run / "run.json").write_text("{")


def strange_run(run: Path) -> None:
    (run / "run.json").write_text(json.dumps({**json.loads((run / "run.json").read_text()), "modle": 1}))


def no_row(run: Path) -> None:
    (run / "result.json").unlink()


def failed(run: Path) -> None:
    (run / "result.json").write_text(json.dumps({**json.loads((run / "result.json").read_text()), "status": "nan"}))


def no_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_run, "not a run's folder"),
        (broken_run, r"run\.json: cannot be read"),
        (strange_run, r"run\.json: modle: unknown key; did you mean 'model'"),
        (no_row, "has no result yet"),
        (failed, "nan; only a run that finished"),
        (no_checkpoints, "has no checkpoints/"),
    ],
)
def test_a_run_that_cannot_be_opened(run: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(run)
    with pytest.raises(ConfigError, match=message):
        finished(run)


def test_a_mixer_that_has_changed_since(ran: Path, run: Path) -> None:
    mixer = ran.parents[2] / "mine.py"
    before = mixer.read_text()
    try:
        mixer.write_text(f"{before}\n# a comment changes nothing\n")
        assert finished(run).model == "mine"
        mixer.write_text(f"{before}\nMORE = 1\n")
        with pytest.raises(ConfigError, match=r"mine\.py has changed since"):
            finished(run)
    finally:
        mixer.write_text(before)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--bits", "7"), "lra: --bits 7: '7' must be 8 or 4"),
        (("--bits", "8,x"), "--bits 8,x: 'x' must be 8 or 4"),
        (("--activations", "16"), "--activations 16: '16' must be 32 or 8"),
    ],
)
def test_wrong_widths_are_one_line_and_exit_code_2(lra: Lra, run: Path, flags: tuple[str, ...], message: str) -> None:
    done = lra("quantize", run, *flags)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_checkpoints_that_hold_nothing_are_one_line(lra: Lra, run: Path) -> None:
    for step in (run / "checkpoints").iterdir():
        shutil.rmtree(step)
    done = lra("export", run)
    assert done.returncode == 2
    assert "holds no whole checkpoint" in done.stderr
