"""What kind of thing a YAML file says, by its keys; and the command that is for it, where another kind is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lra_bench.config.overlays import Overlay
from lra_bench.errors import ConfigError

FOR = {
    "task": "a task: -t {path}",
    "sweep": "a sweep of runs: lra sweep {path}",
    "search space": "a search space: --space {path}",
    "technique": "a technique: -l {path}",
    "calibration check": "a check of the calibration: lra calibrate {path}",
    "config": "a config: -c {path}",
}
OF_CONFIG = {"backbone", "optimizer", "schedule", "training"}


def kind_of(values: Mapping[str, Any]) -> str | None:
    """One of `FOR`; None where the keys do not say."""
    from lra_bench.config.techniques import Techniques  # which reads files of this kind

    keys = {str(key) for key in values}
    if "source" in keys:
        return "task"
    if "expectations" in keys:
        return "calibration check"
    if "models" in keys:
        return "sweep"
    if any("." in key for key in keys):
        return "search space"
    if keys & OF_CONFIG:
        return "config"
    return "technique" if keys and keys <= set(Techniques.model_fields) else None


def held(file: Overlay, wanted: str) -> Overlay:
    """The file, if it is not plainly of another kind than is wanted.

    Raises:
        ConfigError: it is; the line says what is for it.
    """
    kind = kind_of(file.values)
    if kind not in (wanted, None):
        raise ConfigError(f"{file.origin}: is {FOR[str(kind)].format(path=file.origin)}")
    return file
