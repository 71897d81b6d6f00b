"""Runs whose target reads a source: what is refused, what their ids say, and a run from data to a written target."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from flax import nnx
from samples import Lra

from lra_bench import mixers, sweeps
from lra_bench.config import Run
from lra_bench.errors import ConfigError, TaskError
from lra_bench.launch.refusals import refuse
from lra_bench.mixers.cross import card as cross_card
from lra_bench.records import fingerprint, provenance
from lra_bench.runs.build import model_spec
from lra_bench.source_code import PACKAGE
from lra_bench.sweeps import Request

CROSS, GROWING = "cross-recall", "cross-recall@growing"
FULL = "backbone.self_mixer=full-attention"


def asked(model: str, task: str, *settings: str, techniques: str = "none") -> Run:
    return sweeps.runs(Request(model, task, "quick", settings=settings, techniques=techniques))[-1]


@pytest.mark.parametrize(
    ("model", "task", "settings", "said"),
    [
        ("fnet", CROSS, (), "task cross-recall: fnet has no cross form, .* these have: compressed, cosformer, linear"),
        ("linear+fnet", CROSS, (), "fnet has no cross form"),
        ("nystromformer", GROWING, (), "nystromformer does not read for a growing target: landmarks of its queries"),
        ("nystromformer", CROSS, (), None),
        ("perceiver", GROWING, (), "perceiver cannot be causal: .* --set backbone.self_mixer=full-attention"),
        ("perceiver", GROWING, (FULL,), None),
        ("linear", GROWING, (), None),
        (
            "linear",
            CROSS,
            ("backbone.causal=true",),
            "backbone.causal: true, of an encoder-decoder; .* target: growing",
        ),
        ("linear", CROSS, ("backbone.patch=2",), "backbone.patch"),
        ("linear", "listops", (FULL,), "backbone.self_mixer: full-attention is of tasks with interaction: cross alone"),
    ],
)
def test_what_is_refused(model: str, task: str, settings: tuple[str, ...], said: str | None) -> None:
    run = asked(model, task, *settings)
    if said is None:
        refuse(run)
        return

    def made() -> None:
        refuse(run)
        nnx.eval_shape(lambda: model_spec(run)(rngs=nnx.Rngs(0)))

    with pytest.raises(ConfigError, match=said):
        made()


@pytest.mark.parametrize("technique", ["structured", "tinybert", "masked"])
def test_techniques_that_know_one_row_of_layers_are_refused(technique: str) -> None:
    with pytest.raises(ConfigError, match="not of an encoder-decoder, which task cross-recall asks for"):
        refuse(asked("linear", CROSS, techniques=technique))


def test_activations_are_not_quantized_where_a_score_is_of_what_is_written(tmp_path: Path) -> None:
    """Each product's range is found in a pass over whole targets, whose products come in another order."""
    (tmp_path / "train.tsv").write_text("a\tb\n" * 20)
    written = ("translate", f"task.folder={tmp_path}")
    with pytest.raises(ConfigError, match=r"quantize\.activations: 8; .* task translate is scored by what is written"):
        refuse(asked("linear", *written, techniques="w8a8"))
    refuse(asked("linear", *written, techniques="int8"))
    refuse(asked("linear", GROWING, techniques="w8a8"))


@pytest.mark.parametrize("technique", ["bf16", "int8", "pruned", "distilled", "shared"])
def test_others_are_not(technique: str) -> None:
    refuse(asked("linear", CROSS, techniques=technique))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("task.streams=1", "interaction: cross: of two streams"),
        ("task.metric=accuracy", "interaction: cross: of two streams"),
        ("task.interaction=nli", "target: growing; only a task with interaction: cross"),
    ],
)
def test_a_task_with_a_target_has_two_streams_and_answers_at_places(changed: str, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        asked("linear", GROWING, changed)


def test_the_code_of_the_cross_form_is_in_the_id_and_in_the_hash_of_parts(tmp_path: Path) -> None:
    ours, other = asked("linear", CROSS), asked("linear", "listops")
    path = ours.files[0]
    assert ours.mixer_hash == mixers.code_with_cross(path) != mixers.code(path) == other.mixer_hash
    assert provenance.of(ours) == provenance.of(other) == "here"
    assert provenance.as_here(ours).id == ours.id
    own = fingerprint.of(ours)["parts_hash"]
    package = tmp_path / "lra_bench"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("shipped", "__pycache__"))
    assert fingerprint.of(ours, package)["parts_hash"] == own
    form = cross_card.path_of(package / "mixers" / path.name)
    assert form is not None
    form.write_text(form.read_text(encoding="utf-8").replace("return phi(x)", "return 2 * phi(x)"), encoding="utf-8")
    assert fingerprint.of(ours, package)["parts_hash"] != own
    assert fingerprint.of(other, package)["parts_hash"] == fingerprint.of(other)["parts_hash"]


def test_full_attention_stands_in_the_layers_of_its_own() -> None:
    own, full = (model_spec(asked("linear", CROSS, *settings)) for settings in ((), (FULL,)))
    assert [choice.mixer.__module__.rpartition(".")[2] for choice in (own.mixers[0], full.mixers[0])] == [
        "linear",
        "softmax",
    ]
    assert own.mixers[0].reader == full.mixers[0].reader


TINY = """\
training: {steps: 2, batch: 4, eval_every: 2, checkpoint_every: 2}
backbone: {layers: 2, width: 16, mlp: 16, dropout: 0.1, remat: true}
"""


@pytest.mark.slow
def test_a_run_from_data_to_predictions(lra: Lra, here: Path) -> None:
    (here / "configs/small.yaml").write_text(TINY)
    few = ("--set", "task.splits={train: 16, val: 4, test: 8}", "-c", "configs/small.yaml")
    task = "cross-recall@quick-growing"
    done = lra("run", "-m", "linear,local+softmax,fnet", "-t", task, *few, "--json")
    rows = json.loads(done.stdout)
    assert [row["test_score"] is not None for row in rows] == [True, True]
    assert (
        "left out: fnet on cross-recall: task cross-recall: fnet has no cross form, by which a target reads a source\n"
        in done.stderr
    )
    assert done.returncode == 0
    assert rows[0]["state_bytes"] > 0
    name = f"linear-cross-recall-small-s0-{rows[0]['run']}"
    written = lra("generate", name, "--source", "k1 v1 k2 v2")
    assert (written.returncode, "does not ask for the symbol that follows" in written.stderr) == (2, True)
    probed = lra("probe", f"results/runs/{name}")
    assert (probed.returncode, "not probed" in probed.stderr) == (2, True)
    exported = lra("export", name, "--out", "model.bin")
    assert exported.returncode == 0, exported.stderr
    speed = lra("speed", "-m", "linear", "-t", task, "--mode", "decode", "-n", "8", *few)
    assert "has a source and a target" in speed.stdout + speed.stderr
