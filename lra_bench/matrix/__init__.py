"""models x tasks x seeds -> cells; which are done; hand the rest to a launcher. Never opens jax."""

from lra_bench.matrix.match import matched
from lra_bench.matrix.plan import job_list, plan, states
from lra_bench.matrix.request import Choice, Request, cells, models, parse_seeds, task, task_names
from lra_bench.matrix.run import run, supply
from lra_bench.matrix.speed import Speed, speed

__all__ = [
    "Choice",
    "Request",
    "Speed",
    "cells",
    "job_list",
    "matched",
    "models",
    "parse_seeds",
    "plan",
    "run",
    "speed",
    "states",
    "supply",
    "task",
    "task_names",
]
