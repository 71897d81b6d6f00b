"""models x tasks x seeds -> runs; which are done; hand the rest to a launcher. Never opens jax."""

from lra_bench.sweeps.entrants import Entrant, cost, entrants, missing
from lra_bench.sweeps.estimate import beside, effort, estimated
from lra_bench.sweeps.match import matched
from lra_bench.sweeps.models import Choice, Part, fewest, fields, models
from lra_bench.sweeps.plan import job_list, plan, states
from lra_bench.sweeps.rate_grid import RateGrid, by_task, once, rate_grids
from lra_bench.sweeps.request import (
    Request,
    Settings,
    of_model,
    on_task,
    parse_seeds,
    pooled_otherwise,
    runs,
    task,
    task_names,
)
from lra_bench.sweeps.run import able, of_other_code, run, supply, with_needs
from lra_bench.sweeps.speed import Speed, lost, same_place, speed, stood, timed
from lra_bench.sweeps.stages import after, taught

__all__ = [
    "Choice",
    "Entrant",
    "Part",
    "RateGrid",
    "Request",
    "Settings",
    "Speed",
    "able",
    "after",
    "beside",
    "by_task",
    "cost",
    "effort",
    "entrants",
    "estimated",
    "fewest",
    "fields",
    "job_list",
    "lost",
    "matched",
    "missing",
    "models",
    "of_model",
    "of_other_code",
    "on_task",
    "once",
    "parse_seeds",
    "plan",
    "pooled_otherwise",
    "rate_grids",
    "run",
    "runs",
    "same_place",
    "speed",
    "states",
    "stood",
    "supply",
    "task",
    "task_names",
    "taught",
    "timed",
    "with_needs",
]
