"""Which precision float32 products have, by platform and as asked; and whether bits are the same each time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.extend import core

from lra_bench import config, sweeps, training
from lra_bench.config import Run
from lra_bench.errors import ConfigError
from lra_bench.runs import build
from lra_bench.sweeps import Request
from lra_bench.training import xla_flags
from lra_bench.training.precision import products, said_so, same_bits, same_bits_as_asked
from lra_bench.training.program import Compiled

V100, A100, H100 = "7.0", "8.0", "9.0"


@pytest.mark.parametrize(
    ("platform", "capability", "by_default", "float32", "tf32", "bf16"),
    [
        ("cpu", None, "float32", "float32", "float32", "float32"),
        ("gpu", V100, "float32", "float32", "float32", "float32"),
        ("gpu", A100, "tf32", "float32", "tf32", "tf32"),
        ("gpu", H100, "tf32", "float32", "tf32", "tf32"),
        ("tpu", None, "bf16", "float32", "bf16_3x", "bf16"),
        ("gpu", "gfx942", None, "float32", None, None),  # of AMD's, nobody here knows
    ],
)
def test_what_products_a_platform_has(
    platform: str, capability: str | None, by_default: str, float32: str, tf32: str, bf16: str
) -> None:
    asked = [products(platform, capability, word) for word in ("default", "float32", "tf32", "bf16")]
    assert asked == [by_default, float32, tf32, bf16]


def test_what_jax_is_set_to_counts_where_nothing_is_asked() -> None:
    assert products("gpu", A100, "default", "highest") == "float32"
    assert products("gpu", A100, "tf32", "highest") == "tf32"
    assert products("tpu", None, "default", "high") == "bf16_3x"
    assert products("gpu", A100, "default", "TF32_TF32_F32_X3") == "tf32_tf32_f32_x3"


def test_a_recipe_can_ask_for_every_precision_that_the_schema_names() -> None:
    words = config.Backbone.model_fields["matmul"].annotation.__args__  # type: ignore[union-attr]
    assert all(products("tpu", None, word) for word in words)


def test_bits_are_promised_where_they_hold() -> None:
    xla_flags = {"XLA_FLAGS": "--xla_gpu_deterministic_ops=true --other=1"}
    assert [same_bits(platform, {}) for platform in ("cpu", "gpu", "tpu")] == [True, False, None]
    assert same_bits("gpu", xla_flags) is True
    assert same_bits("gpu", {"XLA_FLAGS": xla_flags["XLA_FLAGS"] + " --xla_gpu_deterministic_ops=false"}) is False


@pytest.fixture
def run(here: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(here)
    return sweeps.runs(Request("linear", "short", "tiny"))[0]


def asked(*settings: str) -> Run:
    return sweeps.runs(Request("linear", "short", "tiny", settings=settings))[0]


def test_what_is_not_asked_is_in_no_id(run: Run) -> None:
    assert asked("backbone.matmul=default", "training.deterministic=false").id == run.id
    assert "matmul" not in run.recipe.facts()["backbone"], "ids are of that"
    assert "deterministic" not in run.recipe.facts()["training"]
    kept = run.model_dump()
    del kept["recipe"]["backbone"]["matmul"], kept["recipe"]["training"]["deterministic"]
    assert Run.model_validate(kept) == run, "a result from before there were such options"
    assert len({run.id, asked("backbone.matmul=float32").id, asked("training.deterministic=true").id}) == 3


def test_xla_is_told_once_and_only_where_it_is_asked(run: Run) -> None:
    environ = {"XLA_FLAGS": "--other=1"}
    same_bits_as_asked([run.recipe], environ)
    assert environ == {"XLA_FLAGS": "--other=1"}
    same_bits_as_asked([run.recipe, asked("training.deterministic=true").recipe], environ)
    assert said_so(environ)
    before = dict(environ)
    same_bits_as_asked([asked("training.deterministic=true").recipe], environ)
    assert environ == before


def test_where_xla_has_no_flag_for_it_that_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xla_flags, "known", lambda names: [])
    environ: dict[str, str] = {}
    same_bits_as_asked([run.recipe], environ)
    with pytest.raises(
        ConfigError, match=r"training\.deterministic: jaxlib .* has no flag --xla_gpu_deterministic_ops"
    ):
        same_bits_as_asked([asked("training.deterministic=true").recipe], environ)
    assert environ == {}


@pytest.mark.parametrize(
    ("word", "jax_has"), [("default", {"None"}), ("float32", {"(HIGHEST, HIGHEST)"}), ("tf32", {"(HIGH, HIGH)"})]
)
def test_every_product_of_a_step_and_of_an_answer_is_as_asked(
    run: Run, monkeypatch: pytest.MonkeyPatch, word: str, jax_has: set[str]
) -> None:
    seen: list[set[str]] = []

    def traced(function: Any, arguments: Sequence[Any], options: object = None) -> Compiled:
        seen.append(precisions(function.trace(*arguments).jaxpr.jaxpr))
        return Compiled(print, 0.0, 0, 0.0, jax.jit(print).lower().compile())

    monkeypatch.setattr(training.program, "compiled", traced)
    program = build.built(asked(f"backbone.matmul={word}"))
    assert program.training
    assert program.scoring
    shown = jnp.ones((8, 1, 20), jnp.int32)
    answer = jax.make_jaxpr(program.answers)(program.given, program.init.params, program.init.rest, shown, shown > 0)
    assert [*seen, precisions(answer.jaxpr)] == [jax_has] * 3


def precisions(jaxpr: core.Jaxpr) -> set[str]:
    """Of all products in it."""
    found = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            found.add(str(equation.params["precision"]).replace("Precision.", ""))
        for inner in core.jaxprs_in_params(equation.params):
            found |= precisions(inner)
    return found


CHILD = """
import jax
from lra_bench import sweeps
from lra_bench.training.precision import same_bits_as_asked
from lra_bench.sweeps import Request
(run,) = sweeps.runs(Request("linear", "short", "tiny", settings=("training.deterministic=true",)))
same_bits_as_asked([run.recipe])
import os
print(os.environ["XLA_FLAGS"], jax.jit(lambda a: a @ a)(jax.numpy.ones((2, 2)))[0, 0])
"""


@pytest.mark.slow
def test_xla_knows_the_flag(run: Run) -> None:
    """A flag that it does not know ends the process."""
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--xla_gpu_deterministic_ops=true 2.0" in done.stdout
