"""What a bundle says of itself, and what may be in it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from lra_bench.config import Strict
from lra_bench.records.provenance import Origin
from lra_bench.records.store import PROVENANCE

MANIFEST = "manifest.json"
RUN_FILES = ("run.json", "result.json", "per_example.json", "scores.json", "curve.json", "fallback.json", PROVENANCE)
RUN = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"  # a run's folder: a name, no path
PATH = rf"runs/{RUN}/({'|'.join(map(re.escape, RUN_FILES))})"
FOLDER = rf"runs/({RUN}/)?"

FILE_BYTES = 16 * 2**20  # the largest file that is taken
TOTAL_BYTES = 2**30  # of all files, unpacked
COUNT = 100_000  # files

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(Strict):
    """manifest.json."""

    format: Literal[1]
    by: str | None  # who made it, as they say
    made: str  # ISO 8601, UTC
    versions: dict[str, list[str]]  # by which the results were run
    files: dict[Annotated[str, Field(pattern=f"^{PATH}$")], Hash]  # SHA-256 of each


class Provenance(Strict):
    """bundle.json: where a result came from."""

    by: str | None
    made: str
    merged: str  # ISO 8601, UTC
    manifest: Hash  # SHA-256 of the bundle's manifest.json
    mixer: Origin  # whose code it is, where it was merged
    code: str | None  # ten digits of that code's hash, where it is not this package's as it stood
    source: Literal["here", "own file"]  # of the examples
    before: Provenance | None  # where it came from before that
