"""Places: disks that are full, names of any kind, terminals, locales, and folders whose files have libraries' names."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optuna
import pytest
from jax.errors import JaxRuntimeError
from samples import LRA, SHORT, Lra

from lra_bench import cli, config, errors, source_code, sweeps
from lra_bench.cli import progress, screen, streams
from lra_bench.errors import ConfigError, PlaceError, place_at_fault
from lra_bench.launch import variables
from lra_bench.launch.place import WHOLE
from lra_bench.measure.memory import short_of_memory
from lra_bench.records import store
from lra_bench.runs.execute import failures
from lra_bench.search.study import _sqlite
from lra_bench.shapes import LAST_SEED
from lra_bench.sweeps import Request
from lra_bench.training import checkpoint

ESCAPE = "\x1b[31mred\x07"
FULL = "RESOURCE_EXHAUSTED: Error writing local file [OS error 28: ENOSPC No space left on device]"

Said = Callable[..., tuple[int, str]]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Said:
    """What `lra` with these arguments says, and its exit code."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["lra", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        written = capfd.readouterr()
        return int(end.value.code or 0), written.out + written.err

    return call


# What is printed


def printed(what: Any, width: int = 200) -> str:
    file = io.StringIO()
    screen.Screen(file=file, width=width).print(what)
    return file.getvalue()


def test_what_others_named_is_printed_as_it_is_and_nothing_in_it_is_obeyed() -> None:
    row = {"listops quick [quick, limit 2000]": "[red]1[/]", "out[/]": f":smile: {ESCAPE}"}
    text = printed(screen.titled("[bold]t[/]", [row], ["see [/] there"]))
    for whole in (*row, "[red]1[/]", ":smile:", "[bold]t[/]", "see [/] there", r"\x1b[31mred\x07"):
        assert whole in text
    assert "\x1b" not in text + printed(screen.card(ESCAPE, {ESCAPE: ESCAPE})) + printed(ESCAPE)
    assert printed("rows in out[/]/runs") == "rows in out[/]/runs\n"
    assert streams.shown("a\tb\nc \u202e \udcff é") == "a\tb\nc \\u202e \\xff é"


def test_a_bar_shows_a_name_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(progress, "err", screen.Screen(file=file, width=99, force_terminal=True, color_system=None))
    with progress.counting("out[/]") as count:
        count(f"[bold]{ESCAPE}", 1, 2)
    assert r"out[/]: [bold]\x1b[31mred\x07" in file.getvalue()


def test_an_error_shows_what_it_names(said: Said) -> None:
    source_code, text = said("show", f"lin{ESCAPE}")
    assert (source_code, "\x1b" in text, r"\x1b[31mred\x07" in text) == (2, False, True)


@pytest.mark.parametrize("width", [120, 80, 60, 44])
def test_numbers_stay_whole_however_little_room_there_is(width: int) -> None:
    row = {"model": "softmax + a-very-long-name", "val %": "41.2", "ms/step": "64.4 (55.9-130)", "ex/s": "1,234,567"}
    text = printed(screen.table([{**row, "peak MiB": "12,345", "planned MiB": "678,901", "FLOPs": "1.5e+12"}]), width)
    words = text.split()
    for number in ("41.2", "64.4", "(55.9-130)", "1,234,567", "12,345", "678,901", "1.5e+12"):
        assert number in words
    assert max(map(len, text.splitlines())) <= width


def test_json_has_finite_numbers_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"score": float("inf"), "curve": [float("nan"), 1.5, (float("-inf"),)], "n": np.float64("nan")}
    screen.print_json(values)
    store.write_json(tmp_path / "a.json", values)
    for text in (capsys.readouterr().out, (tmp_path / "a.json").read_text(encoding="utf-8")):
        assert json.loads(text, parse_constant=pytest.fail) == {"score": None, "curve": [None, 1.5, [None]], "n": None}
    (tmp_path / "old.json").write_text('{"score": Infinity, "n": NaN}', encoding="utf-8")
    assert store.read_json(tmp_path / "old.json") == {"score": None, "n": None}


def test_stdout_that_is_closed_or_full() -> None:
    closed = subprocess.run([LRA, "ls", "configs"], preexec_fn=lambda: os.close(1), stderr=subprocess.PIPE, check=False)
    assert (closed.returncode, closed.stderr) == (0, b"")
    with Path("/dev/full").open("wb") as full:
        short = subprocess.run([LRA, "ls", "configs"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert short.returncode == 2
    assert short.stderr.decode().splitlines() == [f"lra: {cli.OUTPUT}: {os.strerror(errno.ENOSPC)}: {errors.ROOM}"]


# The locale


@pytest.fixture(scope="session")
def latin_1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a locale of ISO-8859-1."""
    folder = tmp_path_factory.mktemp("locales")
    command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / "en_US.ISO-8859-1")]
    if shutil.which("localedef") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no such locale can be made here")
    return folder


def locales(name: str, request: pytest.FixtureRequest) -> dict[str, str]:
    if name == "utf-8":
        return {"LC_ALL": "C.UTF-8"}
    as_it_is = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    if name == "C":
        return {"LC_ALL": "C", **as_it_is}
    return {"LC_ALL": "en_US.ISO-8859-1", "LOCPATH": str(request.getfixturevalue("latin_1")), **as_it_is}


@pytest.mark.parametrize("name", ["utf-8", "C", "latin-1"])
def test_text_is_utf_8_whatever_the_locale(name: str, here: Path, request: pytest.FixtureRequest) -> None:
    env = {**os.environ, **locales(name, request)}
    task = here / "tâches" / "été.yaml"
    task.parent.mkdir()
    task.write_text(SHORT.replace("Very short ListOps", "Très court, 日本"), encoding="utf-8")
    jobs = here / "à faire.txt"
    words = ["plan", "-m", "linear", "-t", str(task), "-c", "tiny", "-o", "résultats", "--out", str(jobs)]
    ran = subprocess.run([LRA, *words], cwd=here, env=env, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    assert "à faire.txt: 1 run, a line" in ran.stderr.decode("utf-8")
    assert "résultats" in jobs.read_text(encoding="utf-8")
    (run,) = (here / "résultats/runs").glob("*/run.json")
    assert store.read_json(run)["task"]["title"] == "Très court, 日本"
    assert store.read_json(run)["task"]["name"] == "été"


# Values on the command line


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("task.folder=run #2", "run #2"),
        ("task.folder= a ", " a "),
        ("task.folder=a: b", "a: b"),
        ("task.folder=a=b", "a=b"),
        ("task.folder=[x]", "[x]"),
        ("task.folder=~", "~"),
        ("task.folder=010", "010"),
        ("task.folder=1:30", "1:30"),
        ("task.folder=no", "no"),
        ("task.folder='run #2'", "run #2"),
        ('task.folder="null"', "null"),
        ("task.folder=null", None),
        ("task.folder=", None),
        ("variant=on", "on"),
        ("task.args.text=010", "010"),
        ("task.args.text=yes", "yes"),
        ("task.args.text='5'", "5"),
        ("task.args.max_depth=5", 5),
        ("task.args.classes=bad,good # both", "bad,good # both"),
        ("optimizer.lr=1e-4", 1e-4),
        ("optimizer.clip=null", None),
        ("training.steps=1_000", 1000),
        ("training.steps=010", "010"),
        ("training.steps=1:30", "1:30"),
        ("training.steps=5 # five", "5 # five"),
        ("training.deterministic=true", True),
        ("task.grid=[32, 32]", [32, 32]),
        ("distill.teacher=010", "010"),
    ],
)
def test_a_value_is_read_as_its_type_is_declared(text: str, value: Any) -> None:
    assert config.setting(text)[1] == value
    assert type(config.setting(text)[1]) is type(value)


def test_a_models_options_are_read_as_they_are_declared() -> None:
    (choice,) = sweeps.models("softmax[impl=no]+linformer[rank=8]")
    assert [dict(part.options) for part in choice] == [{"impl": "no"}, {"rank": 8}]
    with pytest.raises(ConfigError, match=r"linformer\.rank: must be int, not '010'"):
        sweeps.runs(Request("linformer[rank=010]", "listops", "quick"))


def test_a_folder_with_a_hash_in_its_name_is_that_folder(tmp_path: Path) -> None:
    for name in ("run", "run #2"):
        (tmp_path / name).mkdir()
        rows = "".join(f"{name} {i},{'ab'[i % 2]}\n" for i in range(9))
        (tmp_path / name / "train.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    text = "title: t\nsource: table\nargs: {text: text, label: label, answer: class, classes: 'a,b'}\n"
    task = tmp_path / "t.yaml"
    task.write_text(f"{text}folder: run\nlength: 8\nclasses: 2\nsplits: {{train: 5, val: 2, test: 2}}\n")
    request = Request("linear", str(task), "quick", settings=(f"task.folder={tmp_path}/run #2",))
    assert sweeps.runs(request)[0].task.folder == str(tmp_path / "run #2")


@pytest.mark.parametrize(
    "request_",
    [
        ["--seed", str(LAST_SEED + 1)],
        ["--seeds", f"0-{LAST_SEED + 1}"],
        ["--seeds", str(2**64)],
        ["--set", f"task.seed={LAST_SEED + 1}"],
    ],
)
def test_a_seed_that_the_generator_does_not_take_whole_is_refused(said: Said, request_: Sequence[str]) -> None:
    source_code, text = said("run", "-m", "linear", "-t", "listops", "-c", "quick", "--dry-run", *request_)
    assert (source_code, str(LAST_SEED) in text) == (2, True)
    assert sweeps.parse_seeds(str(LAST_SEED)) == (LAST_SEED,)


# Disks


def test_a_disk_is_at_fault_however_a_library_says_it(tmp_path: Path) -> None:
    behind = ValueError("wrapped")
    behind.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    for error, why in [
        (ValueError(FULL), "No space left"),
        (ExceptionGroup("several", [KeyError("a"), ValueError(FULL)]), "No space left"),
        (behind, "quota exceeded: make room"),
        (OSError("4000 requested and 512 written"), "No space left"),
        (RuntimeError("(sqlite3.OperationalError) attempt to write a readonly database"), "Read-only"),
        (OSError(errno.EACCES, "", "/elsewhere/x"), "^/elsewhere/x: Permission denied: have that changed"),
    ]:
        fault = place_at_fault(error, tmp_path)
        assert fault is not None
        with pytest.raises(PlaceError, match=why):
            raise fault
    assert place_at_fault(FileNotFoundError(errno.ENOENT, "", "x"), tmp_path) is None
    assert place_at_fault(ValueError("RESOURCE_EXHAUSTED: out of memory"), tmp_path) is None


def test_a_full_disk_is_no_result_of_a_run(tmp_path: Path) -> None:
    run = sweeps.runs(Request("linear", "listops", "quick"))[0]
    with pytest.raises(PlaceError, match="No space left on device: make room there"), failures(run, tmp_path):
        raise ValueError(FULL)
    assert not short_of_memory(ValueError(FULL))
    assert short_of_memory(JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"))
    with failures(run, tmp_path) as failed:
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
    assert failed.result is not None
    assert failed.result.status == "oom"
    again = errors.refusal({"message": "full", "place": True})
    assert (type(again), again.exit_code) == (PlaceError, 2)


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may have more than 4 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**12, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_cannot_be_saved_names_the_place(tmp_path: Path, small_files: None) -> None:
    with pytest.raises(PlaceError, match=r"a\.json: File too large: have the limit"):
        store.write_json(tmp_path / "a.json", "x" * 2**14)
    assert not list(tmp_path.iterdir()), "nothing half written is left"
    state = {"a": jnp.asarray(np.random.default_rng(0).random(2**16))}
    with (
        pytest.raises(PlaceError, match="File too large"),
        errors.faults_told(tmp_path),
        checkpoint.opened(tmp_path / "checkpoints", fresh=False) as checkpoints,
    ):
        checkpoints.save(1, state, {})


@pytest.mark.parametrize(
    ("results", "why"),
    [
        ("a.txt", r"a\.txt\S*: Not a directory: a part of it is a file; name another place"),
        ("/proc/nope", "/proc/nope: No such file or directory: name another place"),
        ("n" * 300, "File name too long: name a shorter one"),
    ],
)
def test_results_in_no_place_are_one_line(said: Said, here: Path, monkeypatch: Any, results: str, why: str) -> None:
    monkeypatch.chdir(here)
    Path("a.txt").touch()
    source_code, text = said("run", "-m", "linear", "-t", "short", "-c", "tiny", "-o", results)
    assert source_code == 2
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(text.splitlines()[-1])


@pytest.mark.slow
def test_a_full_disk_ends_the_command_and_the_same_command_goes_on(lra: Lra, here: Path) -> None:
    small = here / "small"
    small.mkdir()
    mounted = shutil.which("mount") and ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)]
    if not mounted or subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        words = ("run", "-m", "linear", "-t", "short", "-c", "tiny", "-o", "small", "--json")
        full = lra(*words)
        assert full.returncode == 2
        assert full.stderr.splitlines()[-1].startswith("lra: small/runs/linear-short-tiny-s")
        assert "No space left on device: make room there" in full.stderr
        assert not list(small.glob("runs/*/result.json")), "a full disk is no result"
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        after = lra(*words)
        assert [row["status"] for row in json.loads(after.stdout)] == ["ok", "ok"] or after.returncode == 0
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_study_lies_in_its_folder_whatever_that_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "q?x{y}#%20"
    folder.mkdir()
    for count in (1, 2):
        study = optuna.create_study(storage=_sqlite(folder / "study.db"), study_name="study", load_if_exists=True)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
        assert len(study.trials) == count
    assert [path.name for path in folder.iterdir()] == ["study.db"]
    assert list(tmp_path.iterdir()) == [folder]


# Checkpoints


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [cut, flipped])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    like, notes = {"a": jnp.zeros(5000)}, list[str]()
    draw = np.random.default_rng(0)
    with checkpoint.opened(tmp_path, fresh=False) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, {"a": jnp.asarray(draw.random(5000), jnp.float32)}, {"step": step})
    harm(max((tmp_path / "3/state").rglob("d/*"), key=lambda path: path.stat().st_size))
    with checkpoint.opened(tmp_path, fresh=False) as checkpoints:
        with pytest.raises(ConfigError, match=r"3: the checkpoint is damaged: .*; --overwrite trains it again"):
            checkpoints.latest(like)
        found = checkpoints.restore(like, notes.append)
        assert found is not None
        assert found[1] == {"step": 2}
        assert len(notes) == 1
        assert "/3: the checkpoint is damaged" in notes[0]
        assert notes[0].endswith("the one before it, of step 2, is used")
        checkpoints.save(3, found[0], {"step": 3})
    for one in ("2", "3"):
        harm(max((tmp_path / one / "state").rglob("d/*"), key=lambda path: path.stat().st_size))
    with (
        checkpoint.opened(tmp_path, fresh=False) as checkpoints,
        pytest.raises(ConfigError, match=r"3: the checkpoint is damaged.*2: the checkpoint is damaged.*--overwrite"),
    ):
        checkpoints.restore(like, notes.append)


# The environment


def test_no_variable_changes_a_runs_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = "--xla_cpu_enable_fast_math=true --xla_force_host_platform_device_count=2"
    said = {"JAX_ENABLE_X64": "1", "JAX_DEFAULT_PRNG_IMPL": "rbg", "XLA_FLAGS": flags, "JAX_RANDOM_SEED_OFFSET": "0"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    inside = WHOLE.environment()
    assert not set(inside) & set(variables.NUMBERS)
    assert inside["XLA_FLAGS"] == "--xla_force_host_platform_device_count=2"
    lines = variables.left_out(dict(os.environ))
    assert [line.partition(":")[0] for line in lines] == ["JAX_ENABLE_X64=1", "JAX_DEFAULT_PRNG_IMPL=rbg", "XLA_FLAGS"]


def test_a_device_that_is_not_there_is_one_line() -> None:
    env = {**os.environ, "JAX_PLATFORMS": "nonsense"}
    ran = subprocess.run([LRA, "doctor"], env=env, capture_output=True, text=True, check=False, encoding="utf-8")
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith("lra: JAX_PLATFORMS=nonsense: no such device that JAX can open is here: Unable to")


def test_a_library_goes_before_a_file_of_its_name_beside_a_users_own(tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("copy", "numpy", "yaml"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('shadowed')\n")
    (tmp_path / "helper.py").write_text("WIDTH = 3\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/near.py").write_text("DEPTH = 4\n")
    mine = tmp_path / "own/mine.py"
    mine.write_text("import copy\nimport numpy\nimport yaml\nfrom helper import WIDTH\nfrom near import DEPTH\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert source_code.local(mine, ConfigError) == {tmp_path / "helper.py", tmp_path / "own/near.py"}
    module = source_code.imported(mine, ConfigError)
    assert (module.WIDTH, module.DEPTH) == (3, 4)
    other = tmp_path / "other"
    other.mkdir()
    (other / "helper.py").write_text("WIDTH = 5\n")
    (other / "mine.py").write_text("from helper import WIDTH\n")
    with pytest.raises(ConfigError, match=r"imports .*other/helper\.py, but .*/helper\.py has that name"):
        source_code.imported(other / "mine.py", ConfigError)
    for name in ("helper", "near"):
        del sys.modules[name]


@pytest.mark.sweep
def test_a_run_in_a_folder_whose_files_have_libraries_names(installed: Lra, here: Path) -> None:
    """With a mixer of the user's own and its helper, a name with brackets, an old locale, and variables of a lab's."""
    made = installed("new", "model", "mine", "--family", "kernel")
    assert made.returncode == 0, made.stderr
    (here / "helper.py").write_text("NAME = 'mine'\n")
    mine = (here / "mine.py").read_text(encoding="utf-8")
    (here / "mine.py").write_text(f"{mine}\nimport helper\n\nassert helper.NAME\n", encoding="utf-8")
    names = ("copy", "random", "queue", "tokenize", "types", "optax", "numpy", "yaml", "orbax", "jax")
    for name in names:
        (here / f"{name}.py").write_text("raise ImportError('a file of the working folder was imported')\n")
    (here / "lra_bench").mkdir()
    (here / "lra_bench/__init__.py").write_text("raise ImportError('another package')\n")
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "JAX_ENABLE_X64": "1"}
    words = ("run", "-m", "mine.py", "-t", "short", "-c", "tiny", "-o", "out[/]", "--set", "task.seed=5")
    ran = installed(*words, env=env)
    assert ran.returncode == 0, ran.stderr
    assert "results in out[/]/runs" in ran.stderr
    assert "JAX_ENABLE_X64=1: is left out of runs" in ran.stderr
    (row,) = (here / "out[/]").glob("runs/*/result.json")
    assert store.read_json(row)["status"] in ("ok", "at-chance")


def test_a_path_may_hold_what_stands_for_more_elsewhere(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    folder = Path("a,b+[x]=é #1")
    folder.mkdir()
    shutil.copy(sweeps.models("linformer")[0][0].model_card.path, folder / "mine.py")
    (folder / "t.yaml").write_text(SHORT, encoding="utf-8")
    made = sweeps.runs(Request(f"{folder}/mine.py", f"{folder}/t.yaml", "tiny"))[0]
    assert (made.model, made.task.name) == ("mine", "t")
    assert sweeps.models("linformer[rank=8]")[0][0].options == {"rank": 8}
    with pytest.raises(ConfigError, match=r"--model linformer\[rank=8: must be name\[option=value,...\]"):
        sweeps.models("linformer[rank=8")


def test_what_is_wrong_of_a_whole_file_has_no_empty_key(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    Path("tasks/short.yaml").write_text(SHORT.replace("classes: 10", "classes: 1"), encoding="utf-8")
    with pytest.raises(errors.LraError, match=r"^tasks/short\.yaml: classes: 1, and accuracy"):
        sweeps.runs(Request("linear", "short", "tiny"))
