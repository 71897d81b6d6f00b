"""The scripts here that need none of the peers' packages find what they take from this one."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["bench.py", "causal.py", "causal_jax.py", "ours.py"])
def test_what_is_imported_is_there(name: str) -> None:
    assert "main" in runpy.run_path(str(Path(__file__).parent / name))
