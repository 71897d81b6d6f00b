"""A table of a user's own, from its results to what is said of new ones: the classes' names, and numbers in their
unit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lra_bench import check, config, data, sweeps, templates
from lra_bench.cli import app
from lra_bench.cli import data as _data
from lra_bench.cli import export as _export
from lra_bench.config import tasks
from lra_bench.data import verification
from lra_bench.errors import ConfigError, DataError, TaskError
from lra_bench.export import inputs
from lra_bench.measure.clocks import Stopwatch
from lra_bench.records import fingerprint, store
from lra_bench.runs import execute
from lra_bench.runs.limits import limited
from lra_bench.runs.loaded import Trained
from lra_bench.sweeps import Request

YAML = """\
title: Mine
source: table
args: {{text: text, text_b: null, label: {label}, answer: {answer}, classes: null}}
folder: .
length: 24
classes: {classes}
metric: {metric}
splits: {{train: 40, val: 8, test: 8}}
"""
STARS = YAML.format(label="stars", answer="class", classes=2, metric="accuracy")
PRICE = YAML.format(label="price", answer="numbers", classes=1, metric="mean-squared-error")


@pytest.fixture(autouse=True)
def own(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table of warm texts, two stars and 2,000, and cold ones, one star and 1,000."""
    monkeypatch.chdir(here)
    monkeypatch.setenv("LRA_CACHE", str(here / "cache"))
    monkeypatch.setattr("lra_bench.data.workers.processes", lambda: 1)
    rows = [f"{('cold', 'warm')[i % 2] * 3} {i},{1 + i % 2},{1000 + 1000 * (i % 2)}\n" for i in range(64)]
    (here / "train.csv").write_text("text,stars,price\n" + "".join(rows))
    (here / "stars.yaml").write_text(STARS)
    (here / "price.yaml").write_text(PRICE)
    return here


def ran(own: Path, task: str, steps: int) -> Path:
    """The folder of a run that is trained here."""
    settings = (f"training.steps={steps}", f"training.eval_every={steps}", "optimizer.lr=0.02", "training.batch=40")
    (run,) = sweeps.runs(Request("linear", str(own / task), "tiny", settings=settings))
    folder = store.folder(own / "results", run)
    store.write_json(folder / "run.json", run.model_dump())
    row = execute.execute(run, folder, lambda *_, **__: None, lambda _: False, Stopwatch(), fresh=False)
    store.save(own / "results", run, dataclasses.replace(row, **fingerprint.of(run)))
    return folder


def said(*arguments: object, stdin: str | None = None) -> str:
    assert _data
    assert _export
    done = CliRunner().invoke(app, [str(one) for one in arguments], input=stdin)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def predicted(model: Path, lines: str) -> list[Any]:
    return [one["answer"] for one in json.loads(said("predict", model, "-", "--json", stdin=lines))]


@pytest.mark.sweep
def test_classes_have_their_names_to_the_end(own: Path) -> None:
    run = ran(own, "stars.yaml", 60)
    row = json.loads((run / "result.json").read_text())
    assert (row["unused_rows"], row["truncated"], row["overlap"]) == (8, 0, 0)
    said("export", run, "--out", own / "model.lra")
    for model in (run, own / "model.lra"):
        assert predicted(model, "coldcoldcold 99\nwarmwarmwarm 99\n") == ["1", "2"]
        assert predicted(model, "\ufeffcoldcoldcold\x0b\u2028 99\r\nwarmwarmwarm\x85 9\x0c\x1c\n") == ["1", "2"]
    card = json.loads(inputs_card(own / "model.lra"))
    assert card["classes"] == ["1", "2"]


def inputs_card(path: Path) -> str:
    import zipfile

    with zipfile.ZipFile(path) as file:
        return file.read("card.json").decode()


@pytest.mark.slow
def test_numbers_are_answered_in_their_own_unit(own: Path) -> None:
    """From the run and from the file. The run keeps the unit; without it, only the same train can say what it was."""
    run = ran(own, "price.yaml", 150)
    said("export", run, "--out", own / "model.lra")
    for model in (run, own / "model.lra"):
        (cold,), (warm,) = predicted(model, "coldcoldcold 99\nwarmwarmwarm 99\n")
        assert (cold, warm) == (pytest.approx(1000, abs=250), pytest.approx(2000, abs=250))
    units = json.loads((run / "units.json").read_text())
    assert json.loads(inputs_card(own / "model.lra"))["units"] == units
    assert units["spread"] == [pytest.approx(500, rel=0.05)]
    (run / "units.json").write_text(json.dumps({"centre": [0.0], "spread": [1.0]}))
    assert abs(predicted(run, "coldcoldcold 99\n")[0][0]) < 10
    (run / "units.json").unlink()
    row = json.loads((run / "result.json").read_text())
    store.write_json(run / "result.json", row | {"data_hash": "0" * 64})
    with pytest.raises(ConfigError, match="an earlier version trained it, on other examples of the same files"):
        Trained.open(run, data.silent)


def test_an_earlier_export_of_numbers_says_that_their_unit_is_lost(own: Path) -> None:
    spec = tasks.load("price.yaml")
    with pytest.raises(ConfigError, match=r"old\.lra: an earlier version exported it, whose answers are in stand"):
        inputs.known({"outputs": "float32 logits of 1"}, spec, "old.lra")
    assert inputs.known({"units": {}, "outputs": ""}, spec, "new.lra") is None
    stars = tasks.load("stars.yaml")
    assert inputs.known({"classes": ["1", "2"]}, stars, "new.lra") == ["1", "2"]
    assert [inputs.nameless(card, stars) for card in ({}, {"classes": ["1", "2"]})] == [True, False]
    assert not inputs.nameless({}, tasks.load("listops"))


def test_a_line_ends_where_a_file_ends_it(own: Path) -> None:
    strange = "a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i"
    assert inputs.read(f"\ufeff{strange}\r\nsecond\n".encode(), "f") == [strange, "second"]
    assert inputs.read(b"a\rb\n", "f") == ["a\rb"]
    assert inputs.read(b"a\rb\r", "f") == ["a", "b"]
    assert inputs.read(b"a\n\nb", "f") == ["a", "", "b"]
    with pytest.raises(DataError, match=r"f:2: no UTF-8: invalid continuation byte at byte 3 of the file"):
        inputs.read(b"a\nb\xe9c\n", "f")
    with pytest.raises(DataError, match="f: holds no input"):
        inputs.read(b"\xef\xbb\xbf", "f")
    with pytest.raises(DataError, match="f:2: is empty; no model was trained on an empty text: take the line out"):
        inputs.tokens(tasks.load("stars.yaml"), ["a", ""], "f", cut=False)


def test_classes_are_shown_by_their_names_and_those_that_are_lacking_are_said(own: Path) -> None:
    shown = json.loads(said("data", "show", "stars.yaml", "--n", "8", "--json"))
    assert {(example["label"], example["streams"][0][:4]) for example in shown} == {("1", "cold"), ("2", "warm")}
    verified = {line["name"]: line for line in json.loads(said("data", "verify", "stars.yaml", "--json"))}
    assert verified["labels of train"]["detail"].startswith("1: ")
    (own / "val.csv").write_text(
        "text,stars,price\n" + "".join(f"v {i},1,1\n" for i in range(7)) + "coldcoldcold 0,1,1\n"
    )
    prepared = json.loads(said("data", "prepare", "stars.yaml", "--json"))
    assert prepared["remarks"] == [
        "train.csv: 16 of 64 rows are in no split",
        *(["1 inputs of val and test stand in an earlier split, too"] if prepared["overlap"] else []),
        "no example of val is of 2",
    ]
    assert prepared["classes"] == ["1", "2"]
    verified = {line["name"]: line for line in json.loads(said("data", "verify", "stars.yaml", "--json"))}
    assert "no example of val is of 2" in verified["labels of val"]["detail"]


def test_what_stands_in_two_splits_is_said(own: Path) -> None:
    (own / "test.csv").write_text((own / "train.csv").read_text())
    spec = tasks.load("stars.yaml")
    spec = spec.model_copy(update={"splits": {"train": 56, "val": 8, "test": 64}})
    dataset = data.prepare(spec)
    assert dataset.about.overlap == 64
    assert "64 inputs of val and test stand in an earlier split, too" in verification.remarks(spec, dataset)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 3, "metric": "exact-match"}, "metric: exact-match is of a bit a label, uint8"),
        ({"streams": 2}, "streams: 2, but the source has 1"),
        ({"classes": 1, "metric": "mean-squared-error"}, "metric: mean-squared-error is of numbers"),
    ],
)
def test_data_from_the_cache_are_held_against_each_task(own: Path, settings: dict[str, Any], message: str) -> None:
    spec = tasks.load("stars.yaml")
    assert data.prepare(spec).fresh
    assert not data.prepare(spec).fresh
    for use in (data.prepare, data.verify):
        with pytest.raises(TaskError, match=message):
            use(spec.model_copy(update=settings))


def test_a_class_too_many_is_named_with_its_line(own: Path) -> None:
    rows = (own / "train.csv").read_text().splitlines()
    (own / "train.csv").write_text("\n".join([*rows[:30], rows[0], *rows[30:]]) + "\n")
    known = r"there are 3: 'stars' \(1 rows, the first train\.csv:31\), '1' \(32 rows, the first train\.csv:2\), '2'"
    three = tasks.load("stars.yaml", settings=[config.Overlay("", {"classes": 3, "splits": {"train": 49}})])
    for attempt in ("built", "cached"):
        with pytest.raises(TaskError, match=rf"classes: 2, but a label of train is 2; {known}"):
            data.prepare(three.model_copy(update={"classes": 2}))
        assert attempt
        data.prepare(three)


def test_a_limit_draws_from_what_may_be_sorted(own: Path) -> None:
    rows = sorted((own / "train.csv").read_text().splitlines()[1:])
    (own / "train.csv").write_text("text,stars,price\n" + "\n".join(rows) + "\n")
    for split in ("val", "test"):
        (own / f"{split}.csv").write_text(
            "text,stars,price\n" + "\n".join(row.replace(" ", split) for row in rows) + "\n"
        )
    spec = tasks.load("stars.yaml").model_copy(update={"splits": {"train": 64, "val": 64, "test": 64}})
    some = limited(spec, data.prepare(spec).splits, 20)
    for split in some.values():
        assert (len(split), set(split.label.tolist())) == (20, {0, 1})
    drawn = tasks.load("parity", variant="quick")
    few = {"train": some["train"]}
    np.testing.assert_array_equal(limited(drawn, few, 5)["train"].tokens, few["train"].tokens[:5])


def test_check_makes_what_it_says_and_ends_in_the_line_to_write(own: Path) -> None:
    (found,) = check.those([own / "stars.yaml"])
    assert (found.ok, found.detail.endswith("56 examples made, 56 of them checked")) == (True, True)
    assert found.warnings == (f"{own / 'stars.yaml'}: train.csv: 8 of 64 rows are in no split",)
    (own / "stars.yaml").write_text(STARS.replace("train: 40, val: 8", "train: 800, val: 8"))
    (found,) = check.those([own / "stars.yaml"])
    assert not found.ok
    assert found.detail.endswith("leaves 48, of 64 rows; write splits: {train: 48, val: 8, test: 8}")


def test_a_new_source_of_ones_own_passes_its_check(own: Path) -> None:
    path = templates.task("a-parity", "python", own / "mine")
    assert "\nsource: a_parity.py " in path.read_text()
    (found,) = check.those([path])
    assert found.ok, found.detail
    assert found.detail.endswith("8 examples made, 8 of them checked")
    data.prepare(tasks.load(str(path)))
    with pytest.raises(ConfigError, match=r"a_parity\.py: is there already|a-parity\.yaml: is there already"):
        templates.task("a-parity", "py", own / "mine")
