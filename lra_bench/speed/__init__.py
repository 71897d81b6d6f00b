"""Time and memory of compiled steps, without data.   `python -m lra_bench.speed RUNS`, a JSON list of runs.

The runs' steps are compiled by the code that trains, fed random tokens, and run in turn, round after round, so that
what disturbs the machine disturbs them all.
"""

from lra_bench.speed.bench import Bench, random_batch
from lra_bench.speed.measure import measure

__all__ = ["Bench", "measure", "random_batch"]
