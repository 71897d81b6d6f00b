"""XLA's flags and options are looked up before they are set."""

from __future__ import annotations

import subprocess

import jax.numpy as jnp
import pytest

from lra_bench.training import program, xla_flags
from lra_bench.training.precision import SAME_BITS

FLAGS = ["--xla_one=true", "--xla_two", "--xla_one_more=1"]


@pytest.mark.parametrize(
    ("code", "last_words", "known"),
    [
        (0, "", FLAGS),
        (-6, "F0000 parse.cc:234] Unknown flag in XLA_FLAGS: --xla_two", ["--xla_one=true", "--xla_one_more=1"]),
        (1, "WARNING\nF0000] Unknown flags in XLA_FLAGS: --xla_one=true --xla_two\n***", ["--xla_one_more=1"]),
        (1, "ImportError: no jaxlib", []),
    ],
)
def test_those_that_xla_names_are_left_out(
    code: int, last_words: str, known: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    xla_flags._known.cache_clear()
    done = subprocess.CompletedProcess([], code, "", last_words)
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: done)
    assert xla_flags.known(FLAGS) == known
    xla_flags._known.cache_clear()


def test_the_installed_xla_is_asked() -> None:
    there = [SAME_BITS, "--xla_backend_optimization_level=0"]
    assert xla_flags.known([*there, "--xla_gone=true"]) == there


def test_compiler_options_that_are_gone_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(xla_flags.VARIABLE, raising=False)
    options: program.Options = {**program.RUNS_ONCE, "xla_gone": True}
    assert "xla_gone" not in program.known(options)
    assert program.known(options).items() >= {"xla_backend_optimization_level": "0"}.items()
    assert program.known(program.DRAWN) == program.DRAWN
    assert program.known(program.LEAST_MEMORY["cpu"]) == program.LEAST_MEMORY["cpu"]


def test_what_the_environment_sets_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(xla_flags.VARIABLE, "--xla_backend_optimization_level=3 --xla_dump_to=/tmp")
    assert program.known(program.DRAWN) == {}
    monkeypatch.setenv(xla_flags.VARIABLE, "--xla_backend_optimization_levels=3")
    assert program.known(program.DRAWN) == program.DRAWN


def test_what_runs_once_compiles_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "RUNS_ONCE", {"xla_gone": "1"})
    assert program.runs_once(lambda: jnp.ones(2).sum())() == 2
