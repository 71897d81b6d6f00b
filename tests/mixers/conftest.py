"""The equations of all mixers together take longer than the rest of the tests: a sweep, which `make test-all` runs."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
QUICK = {f"test_{name}.py" for name in ("softmax", "linear", "linformer", "local")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE and item.path.name not in QUICK:
            item.add_marker(pytest.mark.sweep)
