"""XLA's flags and options are looked up before they are set."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import pytest

from lra_bench.flags import CHUNK, known
from lra_bench.train import program
from lra_bench.train.precision import SAME_BITS

FLAGS = ["--xla_one=true", "--xla_two"]


def library(folder: Path, *words: str, name: str = "xla.so", before: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\1" * before + b"".join(word.encode() + b"\0" for word in words))
    return folder


def test_a_flag_is_known_where_all_that_read_flags_have_it(tmp_path: Path) -> None:
    jaxlib = library(tmp_path / "jaxlib", "XLA_FLAGS", "xla_one", "xla_two")
    assert known(FLAGS, [jaxlib]) == FLAGS
    plugin = library(tmp_path / "plugin", "XLA_FLAGS", "xla_two")
    assert known(FLAGS, [jaxlib, plugin]) == ["--xla_two"]
    other = library(tmp_path / "other", "nothing of XLA's")
    assert known(FLAGS, [jaxlib, other]) == FLAGS
    assert known(FLAGS, [other]) == [], "no XLA is found"


def test_a_name_is_a_whole_word_wherever_it_stands(tmp_path: Path) -> None:
    longer = library(tmp_path / "longer", "XLA_FLAGS", "xla_one_more", "xla_two")
    assert known(FLAGS, [longer]) == ["--xla_two"]
    cut = library(tmp_path / "cut", "xla_one", "XLA_FLAGS", "xla_two", before=CHUNK - 3)
    assert known(FLAGS, [cut]) == FLAGS


def test_the_installed_xla_is_asked() -> None:
    there = [SAME_BITS, "--xla_backend_optimization_level=0"]
    assert known([*there, "--xla_gone=true"]) == there


def test_compiler_options_that_are_gone_are_left_out() -> None:
    options: program.Options = {**program.RUNS_ONCE, "xla_gone": True}
    assert program.known(options) == program.RUNS_ONCE
    assert program.known(program.LEAST_MEMORY["cpu"]) == program.LEAST_MEMORY["cpu"]


def test_what_runs_once_compiles_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "RUNS_ONCE", {"xla_gone": "1"})
    assert program.runs_once(lambda: jnp.ones(2).sum())() == 2
