"""The architecture as a test: who may import whom, and which room each outside library lives in."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lra_bench import mixers
from lra_bench.config import tasks

PACKAGE = Path(__file__).parent.parent / "lra_bench"

FLOORS = {
    "errors": 0,
    "metrics": 1, "shapes": 1,
    "distributed": 2, "kernels": 2, "source_code": 2, "statistics": 2,
    "config": 3, "measure": 3, "mixers": 3,
    "data": 4, "model": 4,
    "records": 5, "templates": 5, "training": 5,
    "conformance": 6, "launch": 6, "techniques": 6, "trackers": 6,
    "doctor": 7, "report": 7, "runs": 7, "sweeps": 7,
    "analysis": 8, "calibration": 8, "check": 8, "estimates": 8, "export": 8, "search": 8, "speed": 8,
    "cli": 9, "gpu_check": 9,
    "api": 10,
}  # fmt: skip

LIVES_IN = {
    "jax": {
        "analysis", "check", "conformance", "distributed", "doctor", "estimates", "export", "kernels", "measure",
        "mixers", "model", "runs", "speed", "techniques", "training",
    },
    "flax": {"analysis", "api", "check", "conformance", "mixers", "model", "runs", "techniques", "training"},
    "optax": {"techniques", "training"},
    "equinox": {"mixers"},
    "orbax": {"distributed", "training"},
    "PIL": {"data"},
    "requests": {"data"},
    "tensorflow_datasets": {"data"},
    "pyarrow": {"data"},
    "yaml": {"config"},
    "pandas": {"api", "calibration", "records", "report", "statistics"},
    "altair": {"report"},
    "vl_convert": {"report"},
    "jinja2": {"report"},
    "sacrebleu": {"metrics"},
    "scipy": {"statistics"},
    "statsmodels": {"statistics"},
    "pydantic": {"config", "data", "records"},
    "typer": {"cli"},
    "rich": {"cli"},
    "subprocess": {"launch", "training"},
    "optuna": {"search"},
    "sqlalchemy": {"search"},
    "ray": {"launch"},
    "submitit": {"launch"},
    "tensorboard": {"trackers"},
    "mlflow": {"trackers"},
    "wandb": {"trackers"},
}  # fmt: skip

LOOSE = 8  # modules beside the rooms
FILES = 20  # of a room without rooms within
OF_A_KIND = {"cli", "kernels", "mixers"}  # a command group, a kernel, a mixer a file

NO_NOUN = {"utils", "util", "common", "helpers", "misc", "tools", "core", "lib"}


def files() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if "shipped" not in p.parts)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Every module that `path` names in an import, at any depth."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_top(path: Path) -> set[str]:
    """The outside libraries that importing `path` opens at once."""
    nodes = [n for n in ast.parse(path.read_bytes()).body if isinstance(n, ast.Import | ast.ImportFrom)]
    names = [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
    names += [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_stairs(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        return
    assert here in FLOORS, f"{path}: the room '{here}' stands on no floor"
    for name in imports(path):
        library, _, rest = name.partition(".")
        if library == "lra_bench" and rest:
            there = rest.split(".")[0]
            if there in FLOORS and there != here:
                assert FLOORS[there] < FLOORS[here], f"{path}: {here} (floor {FLOORS[here]}) imports {name}"
        elif library in LIVES_IN:
            assert here in LIVES_IN[library], f"{path}: {library} does not live in {here}"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_text_says_its_encoding(path: Path) -> None:
    """Where ruff's PLW1514 does not know that it is a path; and what another process writes is text in UTF-8 too."""
    for call in (node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)):
        said = {keyword.arg: keyword.value for keyword in call.keywords}
        file = isinstance(call.func, ast.Attribute) and call.func.attr in ("read_text", "write_text")
        process = getattr(said.get("text"), "value", None) is True
        assert not (file or process) or "encoding" in said, f"{path}:{call.lineno}: the locale decides what it says"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nouns(path: Path) -> None:
    assert not NO_NOUN & set(path.relative_to(PACKAGE).with_suffix("").parts), f"{path}: a noun is missing"


def test_the_rooms_can_be_taken_in_at_a_glance() -> None:
    assert len([path for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]) <= LOOSE
    for folder in {path.parent for path in files()} - {PACKAGE}:
        assert (folder / "__init__.py").exists(), f"{folder} does not say what it is"
        assert folder.name in OF_A_KIND or len(list(folder.glob("*.py"))) <= FILES, f"{folder} has no inner order"


def test_mixers_do_not_know_each_other() -> None:
    shared = {"base", "caches", "heads", "card", "layers"}
    for path in (PACKAGE / "mixers").glob("*.py"):
        for name in imports(path):
            if name.startswith("lra_bench.mixers."):
                assert name.split(".")[2] in shared or path.stem == "__init__", f"{path} imports {name}"


def test_what_jax_deprecates_is_in_one_file() -> None:
    """Pallas' Triton backend; so a JAX without it breaks nothing else."""
    backend = "jax.experimental.pallas.triton"
    assert [path.name for path in files() if any(name.startswith(backend) for name in imports(path))] == ["triton.py"]


def test_no_model_or_task_is_named_in_the_package() -> None:
    named = set(mixers.names())
    named |= set(tasks.names()) - {"bytes"}  # which is a key of sizes in JSON, too
    assert named
    for path in files():
        tree = ast.parse(path.read_bytes())
        tree.body = [node for node in tree.body if not ast.unparse(node).startswith("CARD = ")]
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node.value in named:
                raise AssertionError(f"{path}:{node.lineno}: '{node.value}' is named in the package")


def test_reading_the_command_line_opens_nothing_heavy() -> None:
    heavy = {"jax", "flax", "pandas", "numpy", "tensorflow_datasets"}
    light = [PACKAGE / "mixers/__init__.py", PACKAGE / "mixers/card.py", *PACKAGE.glob("cli/*.py")]
    light += [*PACKAGE.glob("config/*.py"), *PACKAGE.glob("records/store/*.py")]
    light += [PACKAGE / "errors.py", PACKAGE / "records/schema.py"]
    for path in light:
        assert not heavy & at_top(path), f"{path} opens {heavy & at_top(path)} when imported"


def test_a_clock_is_read_only_where_time_is_measured() -> None:
    for path in files():
        if room(path) not in {"measure", "launch"}:
            assert "time.perf_counter" not in path.read_text(), f"{path}: reads a clock"


def test_readme_names_every_model() -> None:
    readme = (PACKAGE.parent / "README.md").read_text()
    assert not [name for name in mixers.names() if f"`{name}`" not in readme]


def test_no_name_is_undefined() -> None:
    """Ruff and mypy are told to be quiet about it, as the shapes of jaxtyping are strings of letters."""
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", "--output-format", "concise"]
    said = subprocess.run([*ruff, str(PACKAGE), str(PACKAGE.parent / "tests")], capture_output=True, text=True).stdout
    names = {name for name in re.findall(r"Undefined name `(\w+)`", said) if len(name) > 2}
    assert not names, said
