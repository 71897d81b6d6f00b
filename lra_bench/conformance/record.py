"""What `lra verify` found of a mixer, kept by the code it found it of: a number of a step is told beside it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lra_bench import config, data, mixers, source_code
from lra_bench.errors import ConfigError
from lra_bench.records import fingerprint, store

CODE = Path(__file__).parent
GROWTH = 6  # the check that work and memory grow with L as the card says
UNVERIFIED, DENSE, FAILED, PASSED = "unverified", "dense", "failed", "passed"


def standing(mixer: Path, options: Mapping[str, Any], platform: str) -> str:
    """Do the conformance checks pass for the mixer with these options, on this platform? As its card and the code of
    both are.

    DENSE is one that grows faster than its card says: a product of all pairs under a mask, and the like.
    """
    path = _path(mixer, options, platform)
    if not path.exists():
        return UNVERIFIED
    broken = {verdict["check"] for verdict in store.read_json(path)["verdicts"] if not verdict["passed"]}
    if not broken:
        return PASSED
    return DENSE if broken == {GROWTH} else FAILED


def worst(each: Iterable[str]) -> str:
    """Of a model whose layers have several mixers."""
    return min(each, key=(FAILED, UNVERIFIED, DENSE, PASSED).index)


def keep(mixer: Path, options: Mapping[str, Any], platform: str, verdicts: Sequence[Mapping[str, Any]]) -> None:
    """Keep what was found, in the cache."""
    asked = {"mixer": mixers.read(mixer).name, "options": options, "platform": platform}
    store.write_json(_path(mixer, options, platform), asked | {"verdicts": verdicts})


def _path(mixer: Path, options: Mapping[str, Any], platform: str) -> Path:
    facts = {
        "mixer": fingerprint.of_files([mixer]),
        "card": dataclasses.asdict(mixers.read(mixer).card),
        "checks": source_code.digest(source_code.text_of(path, ConfigError) for path in sorted(CODE.glob("*.py"))),
        "options": dict(options),
        "platform": platform,
        "jax": importlib.metadata.version("jax"),
    }
    return data.cache_root() / "conformance" / f"{config.digest(facts)}.json"
