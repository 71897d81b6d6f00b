"""Settings and architectures found by trials, on val alone: Optuna chooses, a process trains, the cost is on record."""

from lra_bench.search.front import kept
from lra_bench.search.record import Trial
from lra_bench.search.search_space import Question
from lra_bench.search.study import Found, Study

__all__ = ["Found", "Question", "Study", "Trial", "kept"]
