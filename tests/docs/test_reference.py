"""The reference pages name everything that is there, and links between written pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from generate import columns, commands, comments, conformance, keys, models, published, tasks, writing
from generate.results import Kept
from generate.writing import Folder
from lra_bench import config, mixers
from lra_bench.config import tasks as specs
from lra_bench.records.schema import COLUMNS
from lra_bench.report import scaling

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
NOTHING_KEPT = Kept({}, pd.DataFrame(), {}, {})


def page(folder: Path, name: str) -> str:
    return (folder / f"{name}{writing.SUFFIX}").read_text(encoding="utf-8")


def test_every_command_has_a_page_with_all_its_options(tmp_path: Path) -> None:
    commands.write(Folder(tmp_path))

    def walk(command: Any, text: str) -> None:
        for parameter in command.params:
            missing = [name for name in (*parameter.opts, *parameter.secondary_opts) if f"`{name}`" not in text]
            assert parameter.param_type_name == "argument" or not missing
        for name, inner in getattr(command, "commands", {}).items():
            assert f"## lra {command.name} {name}\n" in text
            walk(inner, text)

    group, _ = commands.root()
    index = page(tmp_path, "commands/index")
    for name, command in group.commands.items():
        assert f"[`lra {name}`]({name}{writing.SUFFIX})" in index
        walk(command, page(tmp_path, f"commands/{name}"))


def test_a_default_that_is_zero_is_told() -> None:
    group, context = commands.root()
    run = group.commands["run"].make_context("run", [], parent=context, resilient_parsing=True)
    seed = next(parameter for parameter in group.commands["run"].params if parameter.name == "seed")
    assert commands._meaning(seed, run).endswith("Default: `0`.")


def test_every_model_has_a_page_with_all_its_options(tmp_path: Path) -> None:
    models.write(Folder(tmp_path), NOTHING_KEPT)
    index = page(tmp_path, "models/index")
    for name in mixers.names():
        assert f"({name}{writing.SUFFIX})" in index
        text = page(tmp_path, f"models/{name}")
        assert all(f"| `{option.name}` |" in text for option in mixers.model_card(name).options), name


def test_each_model_says_which_of_the_four_patterns_it_has(tmp_path: Path) -> None:
    models.write(Folder(tmp_path), NOTHING_KEPT)
    rows = [
        line.strip("| ").split(" | ") for line in page(tmp_path, "models/index").splitlines() if line.startswith("| [")
    ]
    found = {row[0].split("`")[1]: row[-5:-1] for row in rows}
    assert found["softmax"] == ["yes"] * 4
    assert found["nystromformer"] == ["yes", "no", "yes", "no"]
    assert found["gated-deltanet"] == ["yes", "yes", "no", "no"]
    assert sum(four[2] == "yes" for four in found.values()) == 14


def test_the_surveys_models_are_listed_with_what_is_here_and_decodes(tmp_path: Path) -> None:
    models.write(Folder(tmp_path), NOTHING_KEPT)
    lines = [line for line in page(tmp_path, "models/survey").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert len(cells) == 33
    assert sum(row[4] == "yes" for row in cells) == 25
    (performer,) = [row for row in cells if row[0] == "Performer"]
    assert performer[5:] == ["[`performer`](performer.myst)", "yes"]
    (etc,) = [row for row in cells if row[0] == "ETC"]
    assert etc[6] == "no"
    assert sum(row[6] != "" for row in cells) == 22


@pytest.mark.slow
def test_conformance_is_kept_for_every_model(tmp_path: Path) -> None:
    """None failed; and none that is causal decodes otherwise than it answers."""
    conformance.write(Folder(tmp_path))
    lines = [
        line.strip("|").split("|") for line in page(tmp_path, "conformance").splitlines() if line.startswith("| [")
    ]
    found = {re.sub(r"\W", "", cells[0].split("]")[0]): [cell.strip() for cell in cells[1:]] for cells in lines}
    assert len(found) == len(mixers.names())
    assert not [name for name, cells in found.items() if "failed" in cells]
    assert sum(cells[8] == "passed" for cells in found.values()) == 32
    assert sum(cells[9] == "passed" for cells in found.values()) == 32


def test_a_model_that_was_timed_has_its_curve(tmp_path: Path) -> None:
    facts = [fact for fact in scaling.read(ROOT / "results/speed/cpu.json") if fact["model"] in ("softmax", "fnet")]
    text = "\n".join(models._growth(Folder(tmp_path), "fnet", "cpu.json", facts))
    assert "(fnet-cpu.png)" in text
    assert (tmp_path / "models/fnet-cpu.png").read_bytes().startswith(b"\x89PNG")
    assert text.count("| `fnet` |") == 1 + len([fact for fact in facts if fact["model"] == "fnet"])


@pytest.mark.slow
def test_every_model_has_kept_results_and_a_device() -> None:
    kept = Kept.read(ROOT / "results")
    assert set(mixers.names()) <= set(kept.folders["quick"][0].cells.index)
    assert set(mixers.names()) <= set(kept.devices)
    assert "cpu.json" in kept.speed


def test_every_task_has_a_page_with_its_variants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_examples", lambda folder, name, spec: iter(["examples"]))
    tasks.write(Folder(tmp_path))
    index = page(tmp_path, "tasks/index")
    for name in specs.names():
        assert f"({name}{writing.SUFFIX})" in index
        text = page(tmp_path, f"tasks/{name}")
        assert all(f"`{name}@{variant}`" in text for variant in specs.variants(name)), name


def test_a_generated_task_shows_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRA_CACHE", str(tmp_path))
    text = "\n".join(tasks._examples(Folder(tmp_path), "parity", specs.load("parity")))
    assert text.count("**Label") == tasks.SHOWN


def test_fetched_data_are_not_fetched_for_a_page(tmp_path: Path) -> None:
    assert "have to be fetched" in "\n".join(tasks._examples(Folder(tmp_path), "text", specs.load("text")))


def test_every_column_has_a_line_and_a_heading(tmp_path: Path) -> None:
    columns.write(Folder(tmp_path))
    assert [field.name for field in columns.fields()] == list(COLUMNS)
    assert all(f"\n`{name}` (" in page(tmp_path, "columns") for name in COLUMNS)


@pytest.mark.parametrize("kind", keys.KINDS, ids=lambda kind: kind.title)
def test_every_key_of_a_file_is_there(kind: keys.Kind) -> None:
    there = {key.name for key in keys.every(kind)}
    assert {name for name, _ in config.flat(config.read(keys.path(kind.file)).values)} <= there
    assert {name.split(".")[0] for name in there} >= set(kind.schema.model_fields) - set(kind.left_out)


def test_every_key_has_an_entry_on_the_page(tmp_path: Path) -> None:
    keys.write(Folder(tmp_path))
    text = page(tmp_path, "keys")
    assert all(f"`{key.name}` (" in text for kind in keys.KINDS for key in keys.every(kind))


@pytest.mark.slow
def test_every_published_set_has_a_section(tmp_path: Path) -> None:
    published.write(Folder(tmp_path))
    assert all(f"## {name}\n" in page(tmp_path, "published") for name in published.published.names())


def test_comments_of_yaml_go_on_over_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a:        # of a\n  b: 1    # one\n          # and more\n  c: [2]\nd: x\n")
    assert comments.of_yaml(file) == {("a",): "of a", ("a", "b"): "one and more", ("a", "c"): "", ("d",): ""}


def test_a_page_that_nothing_writes_is_removed_and_one_that_is_the_same_is_left(tmp_path: Path) -> None:
    first = Folder(tmp_path)
    first.put("old", "old")
    first.put("same", "same")
    before = (tmp_path / "same.myst").stat().st_mtime_ns
    second = Folder(tmp_path)
    second.put("same", "same")
    second.remove_others()
    assert [path.name for path in tmp_path.iterdir()] == ["same.myst"]
    assert (tmp_path / "same.myst").stat().st_mtime_ns == before


@pytest.mark.parametrize("text", ["a|b", "**", "x_y", "[1]", "<int>", "`"])
def test_text_is_shown_as_it_is(text: str) -> None:
    assert re.sub(r"\\(.)", r"\1", writing.plain(text)) == text
    assert writing.plain(text) != text


def test_relative_links_lead_to_files() -> None:
    written = [path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
    missing = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in (ROOT / "README.md", *written)
        for target in LINK.findall(path.read_text(encoding="utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert not missing, "\n".join(missing)
