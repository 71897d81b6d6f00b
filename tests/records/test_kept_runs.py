"""The runs that the repository keeps are whole, and are in the folders that their questions name."""

from __future__ import annotations

from pathlib import Path

from lra_bench.config import Run
from lra_bench.records import store

RESULTS = Path(__file__).parents[2] / "results"


def test_each_kept_result_has_the_question_that_it_answers() -> None:
    """Whose id is the last part of its folder's name, and stands in the result."""
    folders = [path.parent for path in RESULTS.glob("**/runs/*/result.json")]
    assert len(folders) > 500
    for folder in folders:
        asked = Run.model_validate(store.read_json(folder / "run.json")).id
        named, answered = folder.name.rpartition("-")[2], store.read_json(folder / "result.json")["run"]
        assert (named, answered) == (asked, asked), folder
