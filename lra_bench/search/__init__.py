"""Settings found by trials, on val alone: Optuna chooses, a process trains, and what the search cost is on record."""

from lra_bench.search.study import Found, Study, Trial

__all__ = ["Found", "Study", "Trial"]
