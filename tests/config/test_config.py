"""YAML is read strictly, and an error names the file, the key and the nearest valid name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from samples import SHORT, TINY

from lra_bench import config, sweeps
from lra_bench.config import Overlay, Strict, tasks
from lra_bench.errors import ConfigError, TaskError

PACKAGE = Path(config.__file__).parent.parent


def run_of(**changes: object) -> config.Run:
    request = {"models": "softmax", "tasks": "short", "config": "tiny"} | changes
    return sweeps.runs(sweeps.Request(**request))[0]  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _stand_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def test_a_number_in_scientific_notation_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1e-3\nb: 1E3\nc: -2.5e+1\nd: e1\n")
    assert config.read(path).values == {"a": 1e-3, "b": 1e3, "c": -25.0, "d": "e1"}


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\na: 2\n")
    with pytest.raises(ConfigError, match=r"a\.yaml.*'a' stands twice"):
        config.read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("backbone: {layrs: 3}", r"bad\.yaml:1: backbone\.layrs: unknown key; did you mean 'layers'\?"),
        ("bckbone: {layers: 3}", r"bad\.yaml:1: bckbone: unknown key; did you mean 'backbone'\?"),
        ("backbone: 3", r"bad\.yaml:1: backbone: must be a mapping"),
        ("training: {steps: many}", r"bad\.yaml:1: training\.steps: .*integer"),
        ("training: {steps: true}", r"bad\.yaml:1: training\.steps: .*integer"),
        ("training: {batch: 8, accumulate: 3}", r"bad\.yaml:1: training: batch 8 cannot be cut into 3 micro-batches"),
        ("backbone: {width: 30, heads: 4}", r"bad\.yaml:1: backbone: 30 wide cannot be cut into 4 heads"),
        ("schedule: {name: warmup_cosine}", r"bad\.yaml:1: schedule\.name: .*warmup-cosine"),
        ("options: {linformr: {rank: 4}}", r"bad\.yaml: options\.linformr: no such model; did you mean 'linformer'\?"),
        ("options: [linformer]", r"bad\.yaml: options: must map names to mappings"),
        ("backbone: {layers: 3", r"bad\.yaml: not YAML"),
        ("- 1", r"bad\.yaml: must be a mapping"),
    ],
)
def test_a_wrong_recipe_names_file_key_and_nearest(here: Path, text: str, message: str) -> None:
    (here / "configs/bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        run_of(config="bad")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("training.step=5",), r"--set training\.step=5: training\.step: unknown key; did you mean 'steps'\?"),
        (("training.steps",), r"must be key=value"),
        (("trainin.steps=5",), r"'trainin': unknown; did you mean 'training'\?"),
        (("softmax.imp=plain",), r"no such option; did you mean 'impl'\?"),
        (("training.steps=010",), r"--set training\.steps=010: training\.steps: .*valid integer"),
        (("task.lenth=5",), r"task\.lenth=5: lenth: unknown key; did you mean 'length'\?"),
        (("task.args.max_dept=5",), r"args\.max_dept: unknown key; did you mean 'max_depth'\?"),
        (("task.length=0",), r"--set task\.length=0: length: .*greater"),
    ],
)
def test_a_wrong_setting_names_itself(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises((ConfigError, TaskError), match=message):
        run_of(settings=settings)


def test_a_setting_wins_over_the_task_section_and_that_over_the_recipe(here: Path) -> None:
    (here / "configs/own.yaml").write_text(TINY + "tasks: {short: {training: {steps: 20, batch: 4}}}\n")
    made = run_of(config="own", settings=("training.batch=2",))
    assert (made.recipe.training.steps, made.recipe.training.batch) == (20, 2)
    assert run_of(config="tiny").recipe.training.steps == 12


def test_options_of_a_recipe_of_its_task_section_and_of_the_command_line(here: Path) -> None:
    own = "options: {linformer: {rank: 4}}\ntasks: {short: {options: {linformer: {rank: 8}}}}\n"
    (here / "configs/own.yaml").write_text(own)
    (here / "tasks/other.yaml").write_text(SHORT)

    def rank(**changes: object) -> object:
        return run_of(models="linformer", config="own", **changes).options["rank"]

    assert (rank(tasks="other"), rank(), rank(settings=("linformer.rank=16",))) == (4, 8, 16)
    assert run_of(models="linformer[rank=2]", config="own", settings=("model.rank=16",)).options["rank"] == 2


def test_the_users_own_file_is_found_first_then_the_included(here: Path, tmp_path: Path) -> None:
    more = tmp_path / "more" / "tasks"
    more.mkdir(parents=True)
    (more / "short.yaml").write_text(SHORT.replace("Very short", "Included"))
    (more / "extra.yaml").write_text(SHORT)
    include = (tmp_path / "more",)
    assert tasks.load("short", include).title == "Very short ListOps"
    assert {"short", "extra", "listops"} <= set(tasks.names(include))
    assert "extra" not in tasks.names()


def test_a_task_without_a_key_or_with_a_strange_one_is_refused(here: Path) -> None:
    (here / "tasks/bad.yaml").write_text(SHORT.replace("classes: 10\n", ""))
    with pytest.raises(TaskError, match=r"bad\.yaml: classes: missing"):
        tasks.load("bad")
    (here / "tasks/bad.yaml").write_text(SHORT + "clases: 3\n")
    with pytest.raises(TaskError, match=r"bad\.yaml:14: clases: unknown key; did you mean 'classes'\?"):
        tasks.load("bad")
    with pytest.raises(TaskError, match=r"task 'shrt': not found; did you mean 'short'\?"):
        tasks.load("shrt")


def test_a_folder_in_a_task_is_relative_to_its_file(here: Path) -> None:
    (here / "tasks/own.yaml").write_text(SHORT.replace("folder: null", "folder: ../released"))
    assert tasks.load("own").folder == str((here / "released").resolve())


def test_the_id_is_of_what_decides_the_numbers(here: Path) -> None:
    base = run_of()
    assert run_of(settings=("training.steps=12",)).id == base.id, "saying a default changes nothing"
    assert run_of(settings=("training.steps=13",)).id != base.id
    assert run_of(seeds=(1,)).id != base.id
    assert run_of(length=32).id != base.id
    assert run_of(limit=5).id != base.id
    (here / "tasks/short.yaml").write_text(SHORT.replace("seed: 0", "seed: 1"))
    assert run_of().id != base.id


def test_a_mixers_code_that_changes_changes_the_id_and_a_remark_does_not(here: Path) -> None:
    source, mine = (PACKAGE / "mixers/softmax.py").read_text(), here / "mine.py"
    mine.write_text(source)
    before = run_of(models="mine.py")
    assert before.model == "mine"
    mine.write_text(
        source.replace("year=2017", "year=2018").replace('    """', '    """ Said otherwise. ') + "\n# a remark\n"
    )
    assert before.id == run_of(models="mine.py").id
    mine.write_text(source + "\nSCALE = 2\n")
    assert before.id != run_of(models="mine.py").id


def test_what_is_quick_or_limited_is_marked() -> None:
    assert run_of().tag == "tiny"
    assert run_of(limit=5).tag == "tiny, limit 5"
    assert run_of(config="small").tag is None


def test_every_field_of_the_schema_is_read_somewhere() -> None:
    read = {
        node.attr
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
    }
    for schema in Strict.__subclasses__():
        if schema.__module__ == config.__name__:
            unread = set(schema.model_fields) - read - {"mixer_hash"}  # which only the id reads
            assert not unread, f"{schema.__name__}: {unread} stands in the YAML and turns nothing"


def test_fold_takes_only_what_the_first_names() -> None:
    first = Overlay("first", {"a": {"b": 1}, "c": None})
    assert config.fold([first, Overlay("x", {"a": {"b": 2}}), Overlay("y", {"c": 3})]) == {"a": {"b": 2}, "c": 3}
    with pytest.raises(ConfigError, match="x: a: must be a mapping"):
        config.fold([first, Overlay("x", {"a": 1})])
