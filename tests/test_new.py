"""`lra new model` and `lra verify`: what is written passes as it stands, and a certificate says what held."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from samples import Lra

from lra_bench import mixers


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
    assert [v["promise"] for v in verdicts] == [1, 2, 3, 4, 5, 6, 7]
    assert all(v["held"] for v in verdicts)
    assert "L^1.0" in verdicts[5]["figures"]


def test_a_broken_promise_exits_1(lra: Lra, tmp_path: Path) -> None:
    source = mixers.sheet("linear").path.read_text()
    (tmp_path / "leaky.py").write_text(source.replace("q, k, v, mask)\n", "q, k, v, jnp.ones_like(mask))\n").replace(
        "from jaxtyping", "import jax.numpy as jnp\nfrom jaxtyping"
    ))  # fmt: skip
    said = lra("verify", "-m", "leaky.py")
    assert said.returncode == 1
    assert "BROKEN leaky 2. no leak of padding" in said.stdout
    assert "held   leaky 6." in said.stdout


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
