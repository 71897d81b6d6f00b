"""What ships: a source archive and a wheel, whose command works in any folder without the checkout."""

from __future__ import annotations

import email
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest
import yaml
from samples import TINY

from lra_bench import __version__

ROOT = Path(__file__).parent.parent
CODE = "from lra_bench.cli import main; main()"
OWN = {
    "tasks/moods.yaml": """
        title: Moods of reviews
        source: table
        args: {text: review, text_b: null, label: mood, answer: class, classes: 'bad,good'}
        folder: ../reviews
        length: 32
        classes: 2
        splits: {train: 48, val: 16, test: 16}
        """,
    "configs/tiny.yaml": TINY,
    "reviews/train.csv": "review,mood\n"
    + "".join(f"review {n} was {n % 7},{'good' if n % 2 else 'bad'}\n" for n in range(80)),
}


def project() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def test_one_version_is_said_everywhere() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (released, day), *_ = re.findall(
        r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert __version__ == cited["version"] == released
    assert cited["date-released"] == day
    assert cited["license"] == project()["license"] == "Apache-2.0"
    assert [{"name": one["name"]} for one in cited["authors"]] == project()["authors"]


def test_the_makefile_and_ci_find_every_python_that_is_supported() -> None:
    """.ci/run reads another Python than the default from the classifiers, which begin where `requires-python` does."""
    named = [m[1] for one in project()["classifiers"] if (m := re.fullmatch(r".*:: (3\.\d+)", one))]  # type: ignore[attr-defined]
    assert project()["requires-python"] == f">={named[0]}"
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in named
    found = subprocess.run([ROOT / ".ci/python", sys.executable], capture_output=True, text=True)
    assert found.stdout.strip() == sys.executable
    assert subprocess.run([ROOT / ".ci/python", "python3.0"]).returncode == 1


def test_each_python_has_an_environment_of_its_own() -> None:
    """Nothing is made: what would be is listed."""
    other = ["make", "-n", "test", f"PYTHON={sys.executable}"]
    listed = subprocess.run(other, cwd=ROOT, capture_output=True, text=True).stdout
    assert f".venv-{sys.version_info[0]}.{sys.version_info[1]}/bin/pytest" in listed
    assert ".venv/" not in listed.replace(sys.executable, "")
    missing = subprocess.run([*other[:-1], "PYTHON=python3.0"], cwd=ROOT, capture_output=True, text=True)
    assert "PYTHON=python3.0: no such Python here" in missing.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel that was built of it."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as files:
        return email.message_from_bytes(files.read(f"lra_bench-{__version__}.dist-info/METADATA"))


@pytest.mark.slow
def test_what_is_published_is_whole(built: Path, wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for kind in ("tasks", "configs", "results/published"):
        shipped = {Path(n).name for n in names if n.startswith(f"lra_bench/shipped/{kind}/")}
        assert shipped == {p.name for p in (ROOT / kind).rglob("*") if p.is_file()}
    assert {"lra_bench/templates/table.yaml", "lra_bench/templates/mixer.txt", "lra_bench/py.typed"} <= set(names)
    assert f"lra_bench-{__version__}.dist-info/licenses/LICENSE" in names
    assert not [n for n in names if n.startswith(("tests/", "results/"))]
    said = metadata(wheel)
    assert (said["Version"], said["License-Expression"]) == (__version__, "Apache-2.0")
    assert said.get_all("Project-URL") is None, "there is no host yet"
    assert {"gpu", "gpu-cuda12", "tpu"} <= set(said.get_all("Provides-Extra", []))
    twine = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir())]
    checked = subprocess.run(twine, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.slow
def test_a_wheel_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """It lists, trains on a table of the user's own, and shows what came of it, in a folder elsewhere."""
    site, here = tmp_path / "site", tmp_path / "here"
    zipfile.ZipFile(wheel).extractall(site)
    for name, text in OWN.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(text, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(site), "LRA_CACHE": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}

    def python(*arguments: str) -> str:
        done = subprocess.run([sys.executable, *arguments], cwd=here, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert str(site) in python("-c", "import lra_bench; print(lra_bench.__file__)"), "the wheel's own files run"
    assert python("-c", CODE, "--version").split() == ["lra", __version__]
    for arguments, word in ((["ls", "tasks"], "listops"), (["show", "small"], "5000"), (["ls", "models"], "linformer")):
        assert word in python("-c", CODE, *arguments)
    run = ["run", "-m", "linear", "-t", "moods", "-c", "tiny", "-o", "out", "--json"]
    row = json.loads(python("-c", CODE, *run))[0]
    assert row["status"] in ("ok", "at-chance")
    assert json.loads(row["versions"])["jax"]
    assert "moods" in python("-c", CODE, "compare", "out")
    assert "moods" in python("-c", CODE, "show", "moods")
