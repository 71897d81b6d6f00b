"""What `lra generate --json` prints of bytes that make no character."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lra_bench import data
from lra_bench.cli.generate import generate
from lra_bench.records import store
from lra_bench.runs import generation, loaded

BYTES = b"a\xd4b"


class Bytes:
    """A task's symbols that are bytes."""

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode(), np.uint8)

    def decode(self, ids: np.ndarray) -> str:
        return bytes(ids.tolist()).decode("utf-8", "surrogateescape")


class Writer:
    """One that writes `BYTES` whatever the prompt."""

    seconds, state_bytes = (0.1, 0.2), 8

    def __init__(self, *_: Any) -> None:
        pass

    def __call__(self, begun: np.ndarray, count: int) -> Iterator[int]:
        return iter(BYTES[:count])


def test_bytes_that_make_no_character_are_marked_in_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A half of a character is no text: strict readers of JSON refuse it."""
    trained = SimpleNamespace(run=SimpleNamespace(id="r", task=None))
    monkeypatch.setattr(store, "find", lambda *_: None)
    monkeypatch.setattr(loaded.Trained, "open", lambda *_: trained)
    monkeypatch.setattr(data, "of", lambda _: Bytes())
    monkeypatch.setattr(generation, "Writer", Writer)
    settings: dict[str, Any] = {"source": None, "temperature": 0.0, "top_k": None, "seed": None}
    generate("r", prompt="0", tokens=len(BYTES), json=True, **settings)
    said = json.loads(capsys.readouterr().out)
    assert (said["written"], said["tokens"]) == ("a\ufffdb", 3)
