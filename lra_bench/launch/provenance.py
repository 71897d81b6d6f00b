"""Which code ran: the commit of the checkout that the package lies in."""

from __future__ import annotations

import subprocess
from pathlib import Path

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
            ["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
