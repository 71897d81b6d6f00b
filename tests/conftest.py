"""Fixtures that several tests share."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from samples import LRA, SHORT, TINY, Done, Lra, Said

from lra_bench.training import xla_flags

# Before anything opens jax: what a test compiles runs once or twice, and with these it compiles five times as fast.
QUICK = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
if "XLA_FLAGS" not in os.environ:  # workers have it of the first process
    os.environ["XLA_FLAGS"] = " ".join(xla_flags.known(QUICK))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", default="1/1", metavar="K/N", help="Of every N test files in a row, the K-th alone.")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is slow, and take the files of `--part`."""
    _marked(items)
    k, n = map(int, config.getoption("--part").split("/"))
    files = sorted({item.path for item in items})
    taken = {*files[k - 1 :: n]}
    config.hook.pytest_deselected(items=[item for item in items if item.path not in taken])
    items[:] = [item for item in items if item.path in taken]


def _marked(items: list[pytest.Item]) -> None:
    """Of a kernel's and a mixer's tests, whose cases compile anew, `make test` runs the first case of each that holds
    it to its equation, and wrong input, which compiles nothing. Of the others the last is slow, and the rest are of
    `make test-all`."""
    cases: dict[tuple[Path, str], list[pytest.Item]] = {}
    for item in items:
        name = getattr(item, "originalname", item.name)
        if item.path.parent.name in ("kernels", "mixers") and "wrong" not in name:
            cases.setdefault((item.path, name), []).append(item)
    for (_, name), every in cases.items():
        further = every["values" in name or "equation" in name :]
        for item in further:
            item.add_marker(pytest.mark.slow if item is further[-1] else pytest.mark.sweep)


@pytest.fixture(scope="module", autouse=True)
def _left_alone() -> None:
    """What earlier modules left is not walked through at each collection: a worker comes to hold millions."""
    gc.freeze()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data cache of the session's own."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def installed(tmp_path: Path, cache: Path) -> Lra:
    """The installed command, a process of its own, run in an empty folder."""

    def call(*arguments: object, env: Mapping[str, str] | None = None) -> Done:
        full = {**os.environ, "LRA_CACHE": str(cache), "COLUMNS": "200", **(env or {})}
        return subprocess.run(
            [LRA, *map(str, arguments)],
            capture_output=True, encoding="utf-8", cwd=tmp_path, env=full, timeout=600,
        )  # fmt: skip

    return call


@pytest.fixture
def lra(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Lra:
    """The same command, called in this process, which has imported what a process would have to: what it starts are
    processes as ever."""

    def call(*arguments: object, env: Mapping[str, str] | None = None) -> Done:
        from lra_bench import cli

        full = {"LRA_CACHE": str(cache), "COLUMNS": "200", **(env or {})}
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr(sys, "argv", ["lra", *map(str, arguments)])
            for name, value in full.items():
                patch.setenv(name, value)
            capfd.readouterr()
            code: Any = 0
            try:
                cli.main()
            except SystemExit as end:
                code = end.code
        return subprocess.CompletedProcess(arguments, int(code or 0), *capfd.readouterr())

    return call


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The folder that `lra` is run in, with a task `short` and a recipe `tiny` of the user's own."""
    for kind, name, text in (("configs", "tiny", TINY), ("tasks", "short", SHORT)):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / f"{name}.yaml").write_text(text)
    return tmp_path


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Said:
    """What `lra` with these arguments says, called in this process, and its exit code."""

    def call(*arguments: object) -> tuple[int, str]:
        from lra_bench import cli

        monkeypatch.setattr(sys, "argv", ["lra", *map(str, arguments)])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        written = capfd.readouterr()
        return int(code or 0), written.out + written.err

    return call
