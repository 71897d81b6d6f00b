"""What ships: a wheel whose command finds its tasks and recipes from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_wheel_carries_tasks_and_configs_and_works_elsewhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for kind in ("tasks", "configs", "results/published"):
        shipped = {Path(n).name for n in names if n.startswith(f"lra_bench/shipped/{kind}/")}
        assert shipped == {p.name for p in (ROOT / kind).rglob("*") if p.is_file()}
    assert {"lra_bench/templates/table.yaml", "lra_bench/templates/mixer.txt"} <= set(names)
    assert not [n for n in names if n.startswith(("tests/", "results/"))]

    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = "from lra_bench.cli import main; main()"
    env = {**os.environ, "PYTHONPATH": str(site)}
    for arguments, word in ((["ls", "tasks"], "listops"), (["show", "small"], "5000"), (["ls", "models"], "linformer")):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert word in done.stdout, done.stderr
    where = [sys.executable, "-c", "import lra_bench; print(lra_bench.__file__)"]
    done = subprocess.run(where, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert str(site) in done.stdout, "the wheel's own files ran"
