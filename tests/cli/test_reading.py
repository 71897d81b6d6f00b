"""What commands say of results that they cannot read, in what form they write, and in which order."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from samples import Said

from lra_bench import sweeps
from lra_bench.cli.written import Format, blocks, chosen
from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.report import tables
from lra_bench.report.summary import sorting
from lra_bench.sweeps import Request

SCORES = {"linear": 0.3, "local": 0.5, "softmax": 0.4}
TIMES = {"linear": 10.0, "local": 30.0, "softmax": 20.0}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three models on a task, in a results folder where we stand."""
    for run in sweeps.runs(Request(",".join(SCORES), "listops", "quick")):
        facts = {
            "test_score": SCORES[run.model],
            "val_score": 0.5,
            "test_n": 100,
            "chance": 0.2,
            "data_hash": "d" * 64,
        }
        facts |= {"step_ms_p50": TIMES[run.model], "examples_per_s": 9.0, "compiled_bytes": 2**20, "platform": "cpu"}
        store.save(tmp_path / "results", run, store.blank(run, "ok", **facts))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results"


def test_what_is_no_results_is_said_with_the_command_that_is_for_it(results: Path, said: Said) -> None:
    with zipfile.ZipFile("mine.zip", "w") as file:
        file.writestr("manifest.json", "{}")
        file.writestr("runs/x/result.json", "{}")
    Path("speed.json").write_text(json.dumps([{"length": 8, "step_ms_p50": 1.0, "laps_ms": []}]), encoding="utf-8")
    Path("model.lra").write_bytes(b"x")
    Path("mine.yaml").write_text("models: all", encoding="utf-8")
    Path("nested").mkdir()
    results.rename("nested/quick")
    Path("empty").mkdir()
    for command in ("compare", "report", "plot"):
        for path, message in {
            "mine.zip": "mine.zip: a bundle; lra merge mine.zip results takes its results into a results folder",
            "speed.json": "speed.json: steps that `lra speed` timed, no runs; lra scale speed.json is for them",
            "model.lra": "model.lra: a model of `lra export`, no results; lra predict model.lra FILE is for it",
            "mine.yaml": "mine.yaml: no results: these are a folder, a run, or a table (.csv, .json)",
            "nested": "nested: no results here; there are some in nested/quick",
            "empty": "empty: no results here; lra run leaves them in its results folder, --results DIR",
            "nestde": "nestde: no results here: there is no such folder or file; did you mean 'nested'?",
        }.items():
            assert said(command, path) == (2, f"lra: {message}\n")


def test_a_results_folder_that_one_stands_in_is_read(
    results: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(results)
    code, text = said("compare", "--metric", "accuracy")
    assert code == 0
    assert "softmax" in text


def test_a_figure_of_scaling_is_of_what_speed_kept(results: Path, said: Said) -> None:
    code, text = said("plot", "results", "--kind", "scaling")
    assert (code, "lra speed --out results/speed/speed.json makes them" in text) == (2, True)
    (results / "speed").mkdir()
    kept = results / "speed/mine.json"
    kept.write_text(json.dumps([{"length": 8, "step_ms_p50": 1.0, "laps_ms": []}]), encoding="utf-8")
    for arguments in (("results", "--kind", "scaling"), ("--kind", "scaling"), ("--speed", "results/speed/mine.json")):
        code, text = said("plot", *arguments)
        assert (code, "lra plot --kind scaling --speed results/speed/mine.json\n" in text) == (2, True)


def test_two_folders_with_nothing_in_common_are_no_table(results: Path, said: Said, tmp_path: Path) -> None:
    for run in sweeps.runs(Request("linear", "recall-one", "quick")):
        store.save(tmp_path / "other", run, store.blank(run, "nan", "why"))
    code, text = said("compare", "other", "results")
    assert code == 2
    assert "other and results: no model is in both on the same task" in text


@pytest.mark.parametrize(
    ("format", "json_", "out", "is_"),
    [
        (None, False, None, Format.table),
        (None, True, None, Format.json),
        (Format.json, True, None, Format.json),
        (Format.csv, False, "x.md", Format.csv),
        (None, True, "x.md", Format.json),
        *[(None, False, f"x.{end}", is_) for end, is_ in {"tex": Format.latex, "htm": Format.html}.items()],
        *[(None, False, f"x.{end}", Format(end)) for end in ("md", "csv", "json", "html")],
        (None, False, "x.txt", Format.table),
        (None, False, "x", Format.table),
    ],
)
def test_which_format_is_asked_for(format: Format | None, json_: bool, out: str | None, is_: Format) -> None:
    assert chosen(format, json=json_, out=Path(out) if out else None) is is_


def test_a_format_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--json and --format md: one of the two"):
        chosen(Format.md, json=True)
    with pytest.raises(ConfigError, match=r"--out x\.xlsx: must end in \.txt, \.md, \.csv"):
        chosen(None, json=False, out=Path("x.xlsx"))


@pytest.mark.slow
def test_json_and_the_name_of_out_say_how_it_is_written(results: Path, said: Said) -> None:
    code, text = said("compare", "--json")
    assert code == 0
    assert {row["model"] for row in json.loads(text)} == set(SCORES)
    for name, begins in {
        "t.md": "**test",
        "t.csv": "model,",
        "t.json": "[",
        "t.tex": "\\begin",
        "t.html": "<h3>",
    }.items():
        assert said("compare", "--metric", "accuracy", "--out", name) == (0, "")
        assert Path(name).read_text(encoding="utf-8").startswith(begins)
    said("compare", "--metric", "accuracy", "--out", "t.csv", "--json")
    assert Path("t.csv").read_text(encoding="utf-8").startswith("[")


def test_lines_are_sorted_by_what_is_asked(results: Path, said: Said) -> None:
    frame = store.to_dataframe([results])
    order = {
        what: list(tables.summary(sorting.ordered(frame, "model", what))["model"])
        for what in ("name", "score", "speed", "memory")
    }
    assert order == {
        "name": ["linear", "local", "softmax"],
        "score": ["local", "softmax", "linear"],
        "speed": ["linear", "softmax", "local"],
        "memory": ["linear", "local", "softmax"],
    }
    errors = frame.assign(metric="mean-squared-error", test_spread=0.1)
    assert list(sorting.ordered(errors, "model", "score")["model"]) == ["linear", "softmax", "local"], "lower is better"
    _, text = said("compare", "--metric", "accuracy", "--sort", "score")
    assert text.index(" local ") < text.index(" softmax ") < text.index(" linear ")
    assert said("compare", "--sort", "score", "--techniques")[0] == 2


def test_a_table_that_is_too_wide_is_cut_between_columns() -> None:
    rows = [{"model": "linear", **{f"a column {n}": "37.5 (33.2-41.9, 3 runs)" for n in range(5)}}]
    parts = list(blocks(rows, 70))
    assert [list(part[0]) for part in parts] == [
        ["model", "a column 0", "a column 1"],
        ["model", "a column 2", "a column 3"],
        ["model", "a column 4"],
    ]
    assert next(iter(blocks(rows, 20))) == [{"model": "linear", "a column 0": "37.5 (33.2-41.9, 3 runs)"}]
    assert list(blocks([], 80)) == [[]]
