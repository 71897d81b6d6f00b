"""What comes of a check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import jax

from lra_bench.errors import device_at_fault

Shown = tuple[bool | None, str]  # whether a check holds, and the figures; None: the card claims nothing
T = TypeVar("T")  # what is on trial


class Verdict(NamedTuple):
    """Whether one check passed, and the figures that say so."""

    check: int
    title: str
    passed: bool
    figures: str
    crashed: bool = False  # the check itself could not be made
    claimed: bool = True  # False: the card claims nothing here that could fail

    @property
    def word(self) -> str:
        """PASS or FAIL; ERROR where the check crashed, N/A where there is nothing to hold."""
        if not self.claimed:
            return "N/A"
        return "PASS" if self.passed else "ERROR" if self.crashed else "FAIL"


def verdicts(checks: Mapping[str, Callable[[T], Shown]], trial: T, first: int) -> Iterator[Verdict]:
    """Hold what is on trial to checks, one after another, numbered from `first`. What raises counts as failed, and as
    crashed.

    Products of float32 are full ones, whatever the platform's default: TF32 and bfloat16 are no fault of a mixer's.
    """
    for number, (title, check) in enumerate(checks.items(), first):
        try:
            with jax.default_matmul_precision("highest"):
                passed, figures = check(trial)
        except Exception as error:
            if fault := device_at_fault(error):
                raise fault from error
            yield Verdict(number, title, False, f"{type(error).__name__}: {error}", crashed=True)
        else:
            yield Verdict(number, title, passed is not False, figures, claimed=passed is not None)
