"""Which code ran: the commit of the checkout that the package lies in; and what a folder held at another."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lra_bench.errors import ConfigError

PACKAGE = Path(__file__).parent.parent


def commit() -> tuple[str | None, bool]:
    """The commit's hash, and whether files that git tracks differ from it; (None, False) outside a checkout."""
    head = _git("rev-parse", "HEAD")
    if head is None:
        return None, False
    return head, bool(_git("status", "--porcelain", "--untracked-files=no", "--", "."))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@contextmanager
def at(revision: str, folder: Path) -> Iterator[Path]:
    """A copy of a folder as it was committed at a git revision, for a while.

    Raises:
        ConfigError: no such revision, or the folder is not in it.
    """
    top, name = _existing(folder.absolute()), folder.absolute()
    root = subprocess.run(
        ["git", "-C", str(top), "rev-parse", "--show-toplevel"],
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
    )
    if root.returncode:
        raise ConfigError(f"{folder}@{revision}: {folder} is in no git checkout")
    inside = name.resolve().relative_to(Path(root.stdout.strip()).resolve())
    command = ["git", "-C", root.stdout.strip(), "archive", "--format=tar", revision, "--", str(inside)]
    packed = subprocess.run(command, capture_output=True)
    if packed.returncode:
        why = packed.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ConfigError(f"{folder}@{revision}: {''.join(why).removeprefix('fatal: ')}")
    with tempfile.TemporaryDirectory() as there:
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(there, filter="data")
        yield Path(there) / inside


def _existing(path: Path) -> Path:
    return path if path.is_dir() else _existing(path.parent)
