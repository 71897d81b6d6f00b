"""A model whose layers have several mixers: each layer is the one that is named; all else goes on as with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from samples import Lra, first_slow
from steps import batch, stepped

from lra_bench import mixers, sweeps
from lra_bench.config import Run
from lra_bench.errors import ConfigError
from lra_bench.records import provenance, store
from lra_bench.runs import build
from lra_bench.sweeps import Request


@pytest.fixture(autouse=True)
def _stand_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def run_of(model: str, *settings: str, layers: int = 2, task: str = "short") -> Run:
    said = (f"backbone.layers={layers}", "backbone.dropout=0.0", *settings)
    return sweeps.runs(Request(model, task, "tiny", settings=said))[0]


def model_of(run: Run) -> Any:
    return build.model_spec(run)(rngs=nnx.Rngs(0))


def shown(n: int = 4) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(batch(n).tokens), jnp.asarray(batch(n).mask)


def kinds(model: Any) -> list[str]:
    return [type(model.block(i).mixer).__module__.rpartition(".")[2] for i in range(model.backbone.layers)]


@pytest.mark.parametrize(
    ("named", "layers", "expected", "stacks"),
    [
        ("softmax+linear", 2, ["softmax", "linear"], 2),
        ("softmax+linear", 5, ["softmax", "linear", "softmax", "linear", "softmax"], 5),
        ("linear+linear+softmax", 6, ["linear", "linear", "softmax"] * 2, 4),
        ("linear", 5, ["linear"] * 5, 1),
    ],
)
def test_layer_i_has_the_mixer_i_mod_n(named: str, layers: int, expected: list[str], stacks: int) -> None:
    model = model_of(run_of(named, layers=layers))
    assert kinds(model) == expected
    assert len(model.stacks) == stacks


@pytest.mark.slow
def test_one_layer_after_another_is_what_the_model_computes() -> None:
    model, (tokens, mask) = model_of(run_of("linear+linear+linear+softmax", layers=5)), shown()
    assert [run.layers for run in model.runs] == [3, 1, 1]

    @jax.jit
    def run(tokens: jax.Array, mask: jax.Array) -> tuple[list[jax.Array], list[jax.Array]]:
        states: list[jax.Array] = []
        model(tokens, mask, key=None, states=states)
        there = model.there(tokens, mask)
        return states, [model.block(i)(states[i], there, key=None) for i in range(5)]

    states, by_hand = run(tokens, mask)
    assert len(states) == 6
    for one, after in zip(by_hand, states[1:], strict=True):
        np.testing.assert_allclose(one, after, atol=1e-5)


def test_the_same_layers_are_the_same_run() -> None:
    assert run_of("softmax+softmax").id == run_of("softmax").id
    assert run_of("softmax+linear+softmax", layers=3).id == run_of("softmax+linear", layers=3).id
    assert run_of("softmax+linear+softmax", layers=3).model == "softmax+linear"
    assert run_of("softmax+linear").id != run_of("linear+softmax").id
    turned = run_of("softmax+linformer[rank=8]")
    assert turned.id != run_of("softmax+linformer[rank=4]").id
    assert turned.id == run_of("softmax+linformer", "linformer.rank=8").id
    assert turned.turned["2.rank"] == 8
    assert turned.family == "full+low-rank"
    assert Run.model_validate_json(turned.model_dump_json()) == turned


@pytest.mark.parametrize(
    ("named", "settings", "message"),
    [
        ("softmax+linear+performer", (), r"softmax\+linear\+performer: 3 mixers for the 2 layers of backbone\.layers"),
        ("softmax+lin*", (), r"softmax\+lin\*: a layer has one mixer, not one of linear, linformer"),
        ("softmax+linaer", (), r"'linaer'.*did you mean 'linear'"),
        ("softmax+linformer[rank=8", (), r"linformer\[rank=8: must be name"),
        ("softmax+linear", ("prune.neurons=0.5",), r"prune\.neurons: .*layers have several mixers"),
        ("softmax+linear", ("prune.heads=0.5",), r"prune\.heads: .*layers have several mixers"),
    ],
)
def test_what_is_no_model_is_one_line(named: str, settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_of(named, *settings)


def test_every_layer_must_be_causal_where_the_next_symbol_is_guessed() -> None:
    linear = mixers.model_card("linear").path.read_text()
    Path("before.py").write_text(
        linear.replace('family="kernel",', 'family="kernel",\n    causal=True,'), encoding="utf-8"
    )
    guessing = ("pretrain.objective=causal", "pretrain.steps=2")
    assert run_of("before.py", *guessing).start is not None
    with pytest.raises(ConfigError, match=r"before\+softmax sees the symbols"):
        run_of("before.py+softmax", *guessing)


def test_layers_of_several_mixers_share_no_parameters() -> None:
    with pytest.raises(ConfigError, match=r"sharing\.groups: layers of several mixers cannot have the same parameters"):
        build.built(run_of("softmax+linear", "sharing.groups=1"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    first_slow(
        "multitask.tasks=[short]",
        "precision.compute=bf16",
        "quantize.weights=8",
        "prune.sparsity=0.5",
        "quantize.weights=4",
    ),
)
def test_other_techniques_can_be_pulled(setting: str) -> None:
    pulled = run_of("softmax+linear", setting)
    for one in (*pulled.needs, pulled):
        program = build.built(one)
        params = (stepped(program, 1) if one.recipe.training.steps else program.init).params
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params))


@pytest.mark.slow
def test_a_step_trains_every_layer() -> None:
    program = build.built(run_of("softmax+linear"))
    before, after = program.init.params["blocks"], stepped(program).params["blocks"]
    assert len(before) == 2
    assert all(bool(jnp.abs(a - b).max() > 0) for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True))


def test_whose_code_it_is_is_asked_of_every_mixer() -> None:
    whole = run_of("softmax+linear")
    assert provenance.of(whole) == "here"
    first, second = whole.mixer_specs
    old = whole.with_mixers([first, second.model_copy(update={"mixer_hash": "0" * 64})])
    assert provenance.of(old) == "other version"
    assert provenance.as_here(old).id == whole.id
    assert store.columns(old)["model"] == "softmax+linear"


@pytest.mark.sweep
def test_layers_of_two_mixers_through_the_command(lra: Lra, here: Path) -> None:
    asked = ("-t", "short", "-c", "tiny", "--set", "backbone.layers=2")
    ran = lra("run", "-m", "softmax+linformer[rank=4]", *asked, "--json")
    assert ran.returncode == 0, ran.stderr
    (folder,) = (here / "results/runs").glob("softmax+linformer-short-tiny-s0-*")
    exported = lra("export", folder.name, "--out", "two")
    assert exported.returncode == 0, exported.stderr
    compared = lra("compare", "results", "--format", "md")
    assert "softmax+linformer" in compared.stdout
