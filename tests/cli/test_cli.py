"""The installed command, as a user meets it: words, exit codes, files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from samples import SHORT, TINY, Lra, Said

from lra_bench import check, mixers
from lra_bench.cli import screen
from lra_bench.config import tasks
from lra_bench.records.schema import COLUMNS, SCORED

RUN = ("run", "-t", "short", "-c", "tiny")


@pytest.mark.parametrize("command", [(), ("run",), ("data", "export"), ("compare",)])
def test_help_is_there_and_opens_nothing_heavy(command: tuple[str, ...]) -> None:
    code = (
        "import sys; sys.argv = ['lra', *sys.argv[1:], '--help']\n"
        "from lra_bench.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in ('jax', 'numpy', 'pandas', 'yaml', 'rich.table') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
    assert "Usage: lra" in done.stdout
    assert done.stdout.endswith("[]\n"), done.stdout[-200:]


def test_listing_opens_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['lra', 'ls', 'models']\n"
        "from lra_bench.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in ('jax', 'numpy', 'pandas', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "linformer" in done.stdout
    assert done.stdout.endswith("[]\n"), done.stdout[-200:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "-m", "linfomer", "-t", "short"), "model 'linfomer': not found; did you mean 'linformer'?"),
        (("run", "-m", "linear", "-t", "lstops"), "task 'lstops': not found; did you mean 'listops'?"),
        (("run", "-m", "linear", "-t", "listops@quik"), "task 'listops': no variant 'quik'; did you mean 'quick'?"),
        (("run", "-m", "linear", "-t", "short", "-c", "smal"), "config 'smal': not found; did you mean 'small'?"),
        ((*RUN, "-m", "linear", "--set", "backbone.layer=3"), "backbone.layer: unknown key; did you mean 'layers'?"),
        ((*RUN, "-m", "linear", "--length", "2"), "length"),
        (("show", "linformr"), "'linformr': no model, task, config or technique; did you mean 'linformer'?"),
        (("show", "listops@qick"), "task 'listops': no variant 'qick'; did you mean 'quick'?"),
        (("compare", "nowhere"), "nowhere: no results here"),
        (("speed", "--lengths", "64,x"), "--lengths 64,x: 'x' must be an integer"),
        (("data", "show", "short", "--split", "tset"), "split 'tset'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    lra: Lra, here: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = lra(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2, done.stderr
    assert "Traceback" not in done.stderr


def test_a_strange_flag_is_exit_code_2(lra: Lra) -> None:
    done = lra("run", "--modle", "linear")
    assert done.returncode == 2
    assert "--model" in done.stderr


def test_a_warmup_that_never_ends_is_one_line_on_stderr(lra: Lra, here: Path) -> None:
    said = "under tiny: schedule.warmup: 2 of training.steps: 2: the learning rate never reaches its peak"
    asked = ("-t", "short", "-c", "tiny", "--set", "training.steps=2", "--dry-run")
    for models, who in (
        ("linear", "linear"),
        ("softmax,linear,linformer,fnet,gla", "softmax, linear, linformer and 2 more"),
    ):
        done = lra("run", "-m", models, *asked)
        assert (done.returncode, done.stderr) == (0, f"{who} on short {said}\n")
    assert lra("run", "-m", "linear", *asked, "--set", "schedule.warmup=1").stderr == ""
    enough = "tasks: {recall-one: {training: {steps: 3}}}\n"
    (here / "tiny.yaml").write_text(TINY.replace("steps: 12", "steps: 2") + enough)
    checked = lra("check", "tiny.yaml")
    assert (checked.returncode, "ok" in checked.stdout) == (0, True)
    assert checked.stderr == f"adding and 28 more tasks {said}\n", "recall-one has steps enough"


def test_ls_and_show(lra: Lra, here: Path) -> None:
    listed = json.loads(lra("ls", "models", "--json").stdout)
    assert [row["model"] for row in listed] == list(mixers.names())
    assert {"short", "listops"} <= {row["task"] for row in json.loads(lra("ls", "tasks", "--json").stdout)}
    configs = json.loads(lra("ls", "configs", "--json").stdout)
    assert {"base", "small", "quick", "paper", "paper-appendix", "tiny"} <= {row["config"] for row in configs}
    assert all(row["says"] for row in configs), "a recipe's first comment says what to expect"
    assert json.loads(lra("ls", "results", "--json").stdout) == []
    card = json.loads(lra("show", "linformer", "--json").stdout)["model"]
    assert card["paper"] == "2006.04768"
    assert card["options"]["rank"]["default"] == 256
    task = json.loads(lra("show", "listops", "--json").stdout)["task"]
    assert task["splits"] == {"train": 96000, "val": 2000, "test": 2000}
    quick = json.loads(lra("show", "listops@quick", "--json").stdout)["task"]
    assert (quick["variant"], quick["length"], "variants" in quick) == ("quick", 128, False)
    recipe = json.loads(lra("show", "small", "--json").stdout)["config"]
    assert recipe["by task"]["listops"]["training"]["steps"] == 5000
    for name in ("linformer", "listops", "small"):
        assert name in lra("show", name).stdout


@pytest.mark.parametrize("kind", ["models", "tasks", "configs", "techniques"])
def test_ls_fits_eighty_columns_and_breaks_no_word(said: Said, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "out", screen.Screen(width=80))
    text = said("ls", kind)[1]
    assert max(map(len, text.splitlines())) <= 80
    listed = json.loads(said("ls", kind, "--json")[1])
    words = set(text.split())
    for row in listed:
        assert row[kind.removesuffix("s")] in words
        assert not {word for word in str(row.get("title", "")).split() if len(word) <= 24} - words
    assert "/" not in text.partition("\n")[2].partition("google-research")[0], "the path is for --json and show"


def test_show_says_what_a_thing_changes(said: Said) -> None:
    config = said("show", "quick")[1]
    assert re.search(r"optimizer\.lr +0\.001 +0\.0001", config)
    assert "optimizer.b1" not in config, "as in base"
    assert len(config.splitlines()) < 40
    assert re.search(r"optimizer\.b1 +0\.9 *\n", said("show", "base")[1])
    assert re.search(r"image +backbone\.layers +1 +2", said("show", "paper")[1]), "what is another for one task"
    task = said("show", "listops")[1]
    assert re.search(r"quick +length +128 +2048", task)
    assert task.count("Long ListOps") <= 2, "a variant says what it changes"
    model = said("show", "linformer")[1]
    assert "equation: equation" not in model
    assert "exact_when" not in model
    assert re.search(r"memory grows as +L", model)
    assert re.search(r"rank +int +256 +r: rows", model)
    assert re.search(r"prune\.sparsity +0\.9 +0\.0", said("show", "pruned")[1])


def test_data_prepare_verify_show_export(lra: Lra, here: Path) -> None:
    prepared = json.loads(lra("data", "prepare", "short", "--json").stdout)
    assert (prepared["train"], prepared["val"], prepared["test"]) == (64, 13, 21)
    verified = lra("data", "verify", "short")
    assert verified.returncode == 0, verified.stdout
    assert "WRONG" not in verified.stdout
    shown = json.loads(lra("data", "show", "short", "--n", "2", "--json").stdout)
    assert len(shown) == 2
    assert all(text.startswith("[") for example in shown for text in example["streams"])
    done = lra("data", "export", "short", "--split", "test", "--out", "out/test.tsv", "--limit", "5")
    assert done.returncode == 0, done.stderr
    lines = (here / "out/test.tsv").read_text().splitlines()
    assert lines[0] == "Source\tTarget"
    assert len(lines) == 6
    assert re.fullmatch(r"(\( )+\[(MAX|MIN|MED|SM) .* \)\t\d", lines[1])


def test_a_run_its_row_its_tables(lra: Lra, here: Path) -> None:
    """Of a user's own mixer and task; one bad run spares the rest."""
    source = mixers.model_card("linear").path.read_text(encoding="utf-8")
    (here / "mine.py").write_text(source, encoding="utf-8")
    (here / "bad.py").write_text(source + "\nimport nowhere\n", encoding="utf-8")
    (here / "own.yaml").write_text(SHORT)
    run = ("run", "-t", "own.yaml", "-c", "tiny")
    done = lra(*run, "-m", "bad.py,mine.py", "--json")
    assert done.returncode == 1, done.stderr
    bad, row = json.loads(done.stdout)
    assert bad["status"] == "error"
    assert (row["model"], row["task"], row["tag"]) == ("mine", "own", "tiny")
    assert tuple(row) == (*COLUMNS, "other_code")
    missing = {key for key, value in row.items() if value is None}
    of_others = {
        "techniques",
        "start",
        "teacher",
        "tuning_trials",
        "tuning_steps",
        "unused_rows",
        "truncated",
        "overlap",
        "length_buckets",
        "exact_match",
        "bleu",
        "chrf",
        "computed_tokens",
        "lr_grid",
        "stopped_step",
        "test_by_place",
        "state_bytes",
        "test_at",
    }
    assert missing <= {"error", "variant", "changed", "commit", "test_spread", "fallback", "other_code", *of_others}, (
        missing
    )
    assert row["model_bytes"] == 4 * row["params"] == 4 * row["trained_params"]
    assert row["status"] in SCORED
    assert row["test_n"] == 21
    assert row["step_ms_p10"] <= row["step_ms_p50"] <= row["step_ms_p90"]
    assert row["compiled_bytes"] < row["peak_bytes"]
    assert row["wall_s"] > row["compile_s"] + row["eval_s"], "a run is not its steps alone"

    again = lra(*run, "-m", "mine.py")
    assert again.returncode == 0
    assert "done before; --overwrite does it again" in again.stderr
    assert "mine" in again.stdout

    assert {kept["run"] for kept in json.loads(lra("ls", "results", "--json").stdout)} == {bad["run"], row["run"]}
    assert "own tiny" in lra("compare").stdout
    lra("compare", "results", "--format", "csv", "--out", "table.csv")
    for format in ("md", "json", "latex", "csv"):
        assert "mine" in lra("compare", "results", "table.csv", "--format", format).stdout


@pytest.mark.slow
def test_what_cannot_fit_is_an_oom_row(lra: Lra, here: Path) -> None:
    job = {"SLURM_MEM_PER_NODE": "20"}  # MiB; a batch of one is in no slices that a smaller step could take
    done = lra(*RUN, "-m", "softmax[impl=plain]", "--length", "1000", "--set", "training.batch=1", "--json", env=job)
    (row,) = json.loads(done.stdout)
    assert done.returncode == 1
    assert row["status"] == "oom"
    assert re.search(r"needs [\d,.]+ GiB as planned, of [\d.]+ GiB there", row["error"])
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_diverging_run_is_a_nan_row_with_its_step(lra: Lra, here: Path) -> None:
    done = lra(*RUN, "-m", "linear", "--set", "optimizer.lr=1e30", "--json")
    (row,) = json.loads(done.stdout)
    assert (done.returncode, row["status"]) == (1, "nan")
    assert "at step" in row["error"]


@pytest.mark.slow
def test_a_mixer_that_cannot_be_imported_is_one_line(lra: Lra, here: Path) -> None:
    source = mixers.model_card("linear").path.read_text() + "\nimport nowhere\n"
    (here / "mine.py").write_text(source)
    done = lra(*RUN, "-m", "mine.py")
    assert done.returncode == 2
    assert f"mine.py:{source.count(chr(10))}: cannot be imported: ModuleNotFoundError" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_timeout_saves_and_is_a_row(lra: Lra, here: Path) -> None:
    done = lra(*RUN, "-m", "linear", "--set", "training.steps=1000000", "--timeout", "0.5", "--json")
    (row,) = json.loads(done.stdout)
    assert (done.returncode, row["status"]) == (1, "timeout")
    assert list((here / "results").glob("runs/*/checkpoints/*"))


@pytest.mark.slow
def test_plan_starts_nothing_and_what_is_done_is_done_again_when_asked(lra: Lra, here: Path) -> None:
    done = lra("plan", "-m", "linear", "-t", "short", "-c", "tiny", "--json")
    plans = json.loads(done.stdout)
    assert [p["state"] for p in plans] == ["new"]
    assert all(p["compiled_bytes"] and p["params"] and p["hours"] > 0 for p in plans)
    assert not (here / "results").exists()
    row, fresh = (json.loads(lra(*RUN, "-m", "linear", *more, "--json").stdout)[0] for more in ((), ("--overwrite",)))
    assert fresh["test_score"] == row["test_score"], "the same seed gives the same"
    assert fresh["started"] != row["started"]
    planned = lra("plan", "-m", "linear", "-t", "short", "-c", "tiny").stdout
    assert "runs: 1, to be run: 0, hours on this machine" in " ".join(planned.split())


@pytest.mark.slow
def test_check_of_everything(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two models and three tasks: the contract's and the data's tests try each of the others."""
    monkeypatch.chdir(here)
    monkeypatch.setattr(mixers, "names", lambda: ("linear", "softmax"))
    monkeypatch.setattr(tasks, "names", lambda _: ("parity", "short", "text"))
    (here / "configs/broken.yaml").write_text("backbone: {layrs: 3}\n")
    (here / "configs/search").mkdir()
    (here / "configs/search/architecture.yaml").write_text("model: [linear, softmax]\nbackbone.width: [8]\n")
    found = list(check.everything())
    assert {f.kind for f in found} == {"calibration", "config", "technique", "search", "task", "model"}
    assert all(f.ok for f in found if f.kind == "search")
    wrong = next(f for f in found if not f.ok)
    assert wrong.name == "broken"
    assert "backbone.layrs" in wrong.detail


def test_check_and_doctor(lra: Lra, here: Path) -> None:
    (here / "configs/broken.yaml").write_text("backbone: {layrs: 3}\n")
    (here / "space.yaml").write_text("model: [linear]\nbackbone.widht: [8]\n")
    done = lra("check", "tasks/short.yaml", "configs/broken.yaml", "space.yaml", "--json")
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert [(f["kind"], f["ok"]) for f in found] == [("task", True), ("config", False), ("search", False)]
    assert "did you mean 'width'" in found[2]["detail"]
    facts = json.loads(lra("doctor", "--json").stdout)
    assert facts["versions"]["jax"]
    assert facts["devices"]


@pytest.mark.slow
def test_does_the_input_keep_up(lra: Lra, here: Path) -> None:
    done = lra("data", "bench", "-t", "short,retrieval", "-m", "linear", "-c", "tiny", "--rounds", "2", "--json")
    short, retrieval = json.loads(done.stdout)
    assert done.returncode == 1
    assert short["error"] is None
    assert short["input_ms_p50"] > 0
    assert short["step_ms_p50"] > 0
    assert "--set task.folder=FOLDER" in retrieval["error"], "one that cannot be had spares the rest"
