"""Names, globs, families and files become runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from samples import Lra

from lra_bench import mixers, sweeps
from lra_bench.errors import ConfigError, TaskError
from lra_bench.sweeps import Request


def names(patterns: str) -> list[str]:
    return [part.model_card.name for (part,) in sweeps.models(patterns)]


def test_models_by_name_glob_family_and_all() -> None:
    assert names("softmax, linear") == ["softmax", "linear"]
    assert names("lin*") == ["linear", "linformer"]
    assert names("family:full") == ["softmax"]
    assert "linear" in names("causal")
    assert "fnet" not in names("causal")
    assert "block-local" in names("family:fixed-pattern"), "a further name of a mixer is a model too"
    assert names("all") == list(mixers.names())
    assert names("softmax,soft*") == ["softmax", "softmax"], "the runs, not the names, are told apart"


def test_a_further_name_is_a_file_with_other_defaults(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    run, plain = sweeps.runs(Request("block-local,local", "short", "tiny"))
    assert (run.model, run.mixer, run.mixer_hash) == ("block-local", plain.mixer, plain.mixer_hash)
    assert run.options == {**plain.options, "form": "block"}
    turned = sweeps.runs(Request("block-local", "short", "tiny", settings=("block-local.window=7",)))[0]
    assert turned.options == {**run.options, "window": 7}


def test_where_the_package_lies_is_in_no_record(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    (run,) = sweeps.runs(Request("linear", "short", "tiny"))
    assert run.mixer == "lra_bench/mixers/linear.py"
    assert run.files == [mixers.model_card("linear").path]
    own = tmp_path / "lra_bench" / "mixers" / "linear.py"
    own.parent.mkdir(parents=True)
    shutil.copy(run.files[0], own)
    assert sweeps.runs(Request(str(own), "short", "tiny"))[0].files == [own], "that of another checkout"


def test_a_whole_number_is_the_same_setting_of_a_float(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    both = sweeps.runs(Request("sinkhorn[temperature=2],sinkhorn[temperature=2.0]", "short", "tiny"))
    assert [run.options["temperature"] for run in both] == [2.0], "one run"
    with pytest.raises(ConfigError, match=r"sinkhorn\.block: must be int, not 8\.0"):
        sweeps.runs(Request("sinkhorn[block=8.0]", "short", "tiny"))


def test_seeds() -> None:
    assert sweeps.parse_seeds("0-2,7,1") == (0, 1, 2, 7)
    for wrong in ("2-0", "a", "1-", "-1"):
        with pytest.raises(ConfigError, match=f"--seeds {wrong}: "):
            sweeps.parse_seeds(wrong)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ("linfomer", r"model 'linfomer': not found; did you mean 'linformer'\?"),
        ("family:kernels", r"family:kernels: no model; did you mean 'kernel'\?"),
        ("mine.py", r"model 'mine\.py': there is no such file"),
        (" , ", r"--model: names nothing"),
        ("softmax[impl", r"must be name\[option=value"),
    ],
)
def test_a_model_that_is_not_there(patterns: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sweeps.models(patterns)


def test_runs_are_models_within_tasks_within_seeds(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    made = sweeps.runs(Request("softmax,linear", "short,listops", "tiny", seeds=(0, 1)))
    assert [(c.seed, c.task.name, c.model) for c in made[:3]] == [
        (0, "short", "softmax"),
        (0, "short", "linear"),
        (0, "listops", "softmax"),
    ]
    assert len(made) == 8
    assert len(sweeps.runs(Request("softmax,soft*,softmax[impl=auto]", "short", "tiny"))) == 1
    assert len(sweeps.runs(Request("softmax,softmax[impl=plain]", "short", "tiny"))) == 2


def test_only_the_tasks_own_settings_and_variants(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    assert sweeps.task("short", None, ["task.seed=3"], ()).seed == 3
    with pytest.raises(TaskError, match=r"no variant 'quik'; did you mean 'quick'\?"):
        sweeps.task("listops", "quik", [], ())
    with pytest.raises(ConfigError, match=r"only task\.\* can be set here"):
        sweeps.task("short", None, ["training.steps=3"], ())


def test_the_parent_of_a_matrix_never_opens_jax() -> None:
    import subprocess
    import sys

    code = "import sys, lra_bench.sweeps; sys.exit('jax' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_variant_by_its_name_behind_the_tasks(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    runs = sweeps.runs(Request("linear", "listops@lra,listops,listo*@quick", "small"))
    assert [(run.task.name, run.task.variant, run.task.length) for run in runs] == [
        ("listops", "lra", 2000), ("listops", None, 2048), ("listops", "quick", 128),
    ]  # fmt: skip
    with pytest.raises(TaskError, match="task 'listops': no variant 'lar'; did you mean 'lra'"):
        sweeps.runs(Request("linear", "listops@lar", "small"))
    (own,) = sweeps.runs(Request("linear", "tasks/short.yaml", "small"))
    assert own.task.name == "short"


RECURRENT = "transformer-xl,compressive,block-recurrent"
ALL_OF_IT = "transformer-xl[segment=2048],softmax+transformer-xl,transformer-xl+softmax,softmax"


@pytest.mark.parametrize("models", [RECURRENT, "transformer-xl[causal=true]", "compressive+transformer-xl"])
def test_a_cls_token_that_cannot_see_the_text_is_not_what_is_read_out(models: str) -> None:
    for run in sweeps.runs(Request(models, "listops", "paper")):
        assert run.recipe.backbone.pool == "mean"
        assert run.tag is None
        assert "backbone.pool: mean, not cls" in (sweeps.pooled_otherwise(run) or "")
    for run in sweeps.runs(Request(models, "listops", "paper", settings=("backbone.pool=cls",))):
        seen = 0 if run.options.get("causal") else 127
        assert (run.recipe.backbone.pool, run.tag) == ("cls", f"cls sees {seen} of 2000")
        assert run.tag in " ".join(run.warnings)
        assert sweeps.pooled_otherwise(run) is None


def test_where_a_cls_token_sees_the_whole_text_it_is_read_out() -> None:
    """Through one layer of many that looks everywhere; and in a text that a segment holds, less a last place."""
    asked = [Request(ALL_OF_IT, "listops", "paper"), Request(RECURRENT, "listops", "quick")]
    for run in [run for request in asked for run in sweeps.runs(request)]:
        assert run.recipe.backbone.pool == "cls"
        assert not sweeps.pooled_otherwise(run)
        assert "cls" not in (run.tag or "")


def test_segments_of_several_lengths_reach_as_far_as_their_layers_take_them() -> None:
    """From the last layer down: the 64 places of its segment, and those of the two segments of 48 that hold them."""
    each = "transformer-xl[segment=48]+transformer-xl[segment=64]"
    found = sweeps.runs(Request(each, "listops", "paper", settings=("backbone.layers=2", "backbone.pool=cls")))[0]
    assert found.tag == "cls sees 95 of 2000"


def test_how_a_model_is_read_out_is_in_the_id() -> None:
    runs = [
        sweeps.runs(Request("transformer-xl", "listops", "paper", settings=settings))[0]
        for settings in ((), ("backbone.pool=mean",), ("backbone.pool=cls",))
    ]
    assert runs[0].id == runs[1].id != runs[2].id
    assert runs[0].model_copy(update={"reach": None}).id == runs[0].id


def test_what_several_models_cannot_be_is_left_out_and_said_before_any_starts(
    lra: Lra, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    every = sweeps.runs(Request("linear,fnet,softmax", "short", "tiny", (0, 1), settings=("backbone.causal=true",)))
    able, said = sweeps.able(every)
    assert [(run.model, run.seed) for run in able] == [(m, s) for s in (0, 1) for m in ("linear", "softmax")]
    (line,) = said
    assert line.startswith("left out: fnet on short: backbone.causal: fnet cannot be causal: each frequency")
    asked = ("-t", "short", "-c", "tiny", "--set", "backbone.causal=true", "--dry-run", "--json")
    done = lra("run", "-m", "linear,fnet", *asked)
    assert (done.returncode, done.stderr) == (0, f"{line}\n")
    assert [state["model"] for state in json.loads(done.stdout)] == ["linear"]
    none = lra("run", "-m", "fnet", *asked)
    assert (none.returncode, none.stderr[:40]) == (2, "lra: backbone.causal: fnet cannot be causal"[:40])


def test_a_run_whose_teacher_cannot_be_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    settings = ("backbone.causal=true", "distill.teacher=fnet")
    with pytest.raises(ConfigError, match=r"backbone\.causal: fnet cannot be causal"):
        sweeps.able(sweeps.runs(Request("linear", "short", "tiny", techniques="distilled", settings=settings)))
