"""A check of the calibration: runs whose outcome the field knows before they run. One YAML file a check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from lra_bench.config.files import file_of, shipped
from lra_bench.config.files import found as found_files
from lra_bench.config.kinds import held
from lra_bench.config.overlays import Overlay, read, validated
from lra_bench.config.schema import Above, Count, Listed, Share, Strict

KIND = "configs/calibration"
BASE = "base"  # the YAML that says what a check's own need not
INHERITED = ("rates", "seeds")  # what an arm has of its check, where it does not say it


class Arm(Strict):
    """Runs that differ in their model, learning rate and seed alone."""

    models: Listed  # each is judged by itself
    task: str  # NAME or NAME@VARIANT
    settings: list[str]  # as --set has them, after the check's own
    rates: Annotated[list[Above], Field(min_length=1)]  # learning rates, of which validation chooses one
    seeds: Listed  # the rate is chosen with the first


class Expected(Strict):
    """What is known of each model of an arm."""

    claim: str  # in words
    arm: str  # or ARM@LENGTH, where a run's task tests it at that length too


class AtChance(Expected):
    """The score is chance level, as nearly as the margin says."""

    expect: Literal["at-chance"]
    margin: Share


class AtLeast(Expected):
    """The score is no less than `value`."""

    expect: Literal["at-least"]
    value: Share


class AtMost(Expected):
    """The score is no more than `value`."""

    expect: Literal["at-most"]
    value: Share


class Published(Expected):
    """The score is a published one, as nearly as the margin says."""

    expect: Literal["published"]
    value: Share
    examples: Count | None  # of their test set; null: as many as ours
    runs: Count | None  # whose mean it is; null: not stated, and taken as one
    margin: Share


class Better(Expected):
    """The score is higher than another arm's by more than `by`: the sign of a difference, where that is 0."""

    expect: Literal["better"]
    than: str  # an arm, or ARM@LENGTH
    by: Share


class Same(Expected):
    """The score is another arm's, as nearly as the margin says."""

    expect: Literal["same"]
    than: str  # an arm, or ARM@LENGTH
    margin: Share


EXPECTED: dict[str, type[Expected]] = {
    "at-chance": AtChance,
    "at-least": AtLeast,
    "at-most": AtMost,
    "published": Published,
    "better": Better,
    "same": Same,
}
Expectation = Annotated[AtChance | AtLeast | AtMost | Published | Better | Same, Field(discriminator="expect")]


class Check(Strict):
    """What is run, what must come of it, and what it would mean if it did not."""

    title: str
    reference: str  # where the outcome is known from, and the place in it
    differs: str  # in what the runs are unlike the reference's
    failure: str  # what a failure would mean
    config: str  # as on the command line
    settings: list[str]  # as --set has them, of every arm
    rates: Annotated[list[Above], Field(min_length=1)]  # learning rates of an arm that names none
    seeds: Listed  # of an arm that names none
    arms: Annotated[dict[str, Arm], Field(min_length=1)]
    expectations: Annotated[list[Expectation], Field(min_length=1)]
    quick: dict[str, Any] | None  # any of the above, as --quick has it; null: it is left out there

    @pydantic.model_validator(mode="after")
    def _arms_are_there(self) -> Check:
        for one in self.expectations:
            for named in (one.arm, *([one.than] if isinstance(one, Better | Same) else [])):
                if parted(named)[0] not in self.arms:
                    raise ValueError(f"expectations: '{named}' is none of the arms {', '.join(self.arms)}")
        return self


def parted(named: str) -> tuple[str, int | None]:
    """An arm that an expectation names, and the length at which it is tested; None: the task's own.

    Raises:
        ValueError: what stands for the length is no number.
    """
    arm, _, length = named.partition("@")
    return arm, int(length) if length else None


def checks(include: Sequence[Path] = ()) -> dict[str, Path]:
    """Every check's file by the check's name."""
    return {name: path for name, path in found_files(KIND, include).items() if name != BASE}


def check(name: str, include: Sequence[Path] = (), *, quick: bool = False) -> Check | None:
    """The check called `name`, or in the YAML file `name`, over `configs/calibration/base.yaml`.

    None if it has no `quick` form, and that is asked for.

    Raises:
        ConfigError: it is not found, lacks a key, or a value is wrong.
    """
    own = held(read(file_of(KIND, name, include)), "calibration check")
    whole = own.part((), {**_unsaid().values, **own.values})
    shorter = whole.values["quick"]
    checked = _checked([whole])
    if not quick:
        return checked
    return None if shorter is None else _checked([whole, own.part(("quick",), shorter)])


def _checked(overlays: Sequence[Overlay]) -> Check:
    values = {key: value for overlay in overlays for key, value in overlay.values.items()}
    if isinstance(arms := values.get("arms"), Mapping):
        said = {"settings": [], **{key: values[key] for key in INHERITED}}
        values["arms"] = {name: {**said, **arm} if isinstance(arm, Mapping) else arm for name, arm in arms.items()}
    _hold_parts(values, overlays)
    return validated(Check, values, overlays)


def _hold_parts(values: Mapping[str, Any], overlays: Sequence[Overlay]) -> None:
    """Raises ConfigError: an arm, or an expectation of a known kind, has a wrong key, of which its own are named."""
    for name, arm in dict(values.get("arms") or {}).items():
        if isinstance(arm, Mapping):
            validated(Arm, arm, overlays, under=("arms", str(name)))
    for place, one in enumerate(values.get("expectations") or []):
        if isinstance(one, Mapping) and one.get("expect") in EXPECTED:
            validated(EXPECTED[one["expect"]], one, overlays, under=("expectations", str(place)))


def _unsaid() -> Overlay:
    return read(shipped("configs") / "calibration" / f"{BASE}.yaml")
