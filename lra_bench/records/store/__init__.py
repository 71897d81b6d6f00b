"""results/: save, get, done, to_dataframe.

results/runs/<model>-<task>-<recipe>-s<seed>-<run id>/
    run.json          what was asked, fully resolved; written before anything runs
    result.json       what came out; written last, atomically
    per_example.json  one bit an example of test, in order, hexadecimal; scores.json: a number each, of other metrics
    texts.json        what was given, asked for and written for every example of test, where a model writes texts
    basis.json        the data, the code and the libraries that the state in checkpoints/ comes from
    fallback.json     micro-batches and recomputation with which the step fits in memory
    curve.json        training loss and validation accuracy over steps
    checkpoints/      the latest state
    log.txt           what the run's process wrote to stderr; log-1.txt and so on: the others, where several train it
    bundle.json       where it came from, if it was merged from a bundle
"""

from lra_bench.records.store.dataframe import to_dataframe
from lra_bench.records.store.files import as_json, finite, read_json, update_json, write_json
from lra_bench.records.store.locks import is_locked, lock, locked
from lra_bench.records.store.results import blank, columns, done, folders, get, read_results, save
from lra_bench.records.store.runs import (
    PROVENANCE,
    RUNS,
    asked,
    find,
    folder,
    folder_in,
    on_other_data,
    open_runs,
    provenance,
    read_run,
)
from lra_bench.records.store.scores import save_scores, save_texts, scores

__all__ = [
    "PROVENANCE",
    "RUNS",
    "as_json",
    "asked",
    "blank",
    "columns",
    "done",
    "find",
    "finite",
    "folder",
    "folder_in",
    "folders",
    "get",
    "is_locked",
    "lock",
    "locked",
    "on_other_data",
    "open_runs",
    "provenance",
    "read_json",
    "read_results",
    "read_run",
    "save",
    "save_scores",
    "save_texts",
    "scores",
    "to_dataframe",
    "update_json",
    "write_json",
]
