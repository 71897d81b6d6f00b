"""Runs as large, or as expensive, as full attention's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from lra_bench.config import Match, Run
from lra_bench.errors import ConfigError
from lra_bench.launch import local
from lra_bench.sweeps.plan import but_for_seed

MODULE = "lra_bench.runs.matched_size"


def matched(every: Sequence[Run], what: str, tell: Callable[[Run, dict[str, Any]], None]) -> list[Run]:
    """The runs with `backbone.mlp` solved for; `Run.match` says what for, and the full model's.

    One that cannot be made so small is left out, and `tell` is told why.

    Raises:
        ConfigError: none can.
        Stopped: Ctrl-C.
    """
    different = {but_for_seed(run): run for run in every}
    facts = local.answers(MODULE, list(different.values()), {"what": what}, partial(tell, every[-1]))
    for run, fact in zip(different.values(), facts, strict=True):
        if fact["mlp"] is None:
            tell(run, {"event": "unmatched", "why": fact["why"]})
    widths = {key: fact["mlp"] for key, fact in zip(different, facts, strict=True) if fact["mlp"]}
    if not widths:
        raise ConfigError(f"--match {what}: {every[0].model} cannot be made so small; {facts[0]['why']}")
    return [_of_width(run, what, mlp) for run in every if (mlp := widths.get(but_for_seed(run)))]


def _of_width(run: Run, what: str, mlp: int) -> Run:
    backbone = run.recipe.backbone
    recipe = run.recipe.model_copy(update={"backbone": backbone.model_copy(update={"mlp": mlp})})
    return run.model_copy(update={"recipe": recipe, "match": Match.model_validate({"what": what, "mlp": backbone.mlp})})
