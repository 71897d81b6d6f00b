"""What a run takes over of the run that it starts from: of another task, of several tasks, of other symbols."""

from __future__ import annotations

from dataclasses import replace

from lra_bench.config import Run
from lra_bench.techniques.base import Dependencies, ModelState, Technique
from lra_bench.techniques.parameters import HEAD, TABLE, Path, fits, flat, inherited
from lra_bench.training.multitask import part
from lra_bench.training.optimizer import Params
from lra_bench.training.setup import InitialState, TrainingSetup


class Start(Technique[Run]):
    """The chosen parameters of another run, `options`, in place of what is drawn, wherever they fit."""

    def depending(self, dependencies: Dependencies, setup: TrainingSetup) -> Dependencies:
        """Of a start that was trained on several tasks, the model of the run's own."""
        if dependencies.start is None or not self.options.applies("multitask"):
            return dependencies
        own = part(*dependencies.start, self.options.tasks.index(self.run.task))
        return replace(dependencies, start=ModelState(*own), same_symbols=True)

    def training(self, setup: TrainingSetup, dependencies: Dependencies) -> TrainingSetup:
        """Training begins with them; where the start is not trained yet, with what is drawn."""
        learned = dependencies.start
        if learned is None:
            return setup

        def begun(state: InitialState) -> InitialState:
            params = inherited(state.params, learned.params, drawn_anew(self.run, dependencies, state.params))
            return InitialState(params, inherited(state.rest, learned.rest, set()), state.given)

        return setup.beginning(begun)


def drawn_anew(run: Run, dependencies: Dependencies, params: Params) -> set[Path]:
    """What is not taken over: the head of another task, its symbols if they are others, what does not fit; without a
    start, nothing."""
    if dependencies.start is None:
        return set()
    learned = flat(dependencies.start.params)
    other = run.start is not None and run.task not in run.start.tasks
    anew = {path for path, new in flat(params).items() if not fits(path, new, learned.get(path))}
    anew |= {path for path in flat(params) if other and path[0] == HEAD}
    return anew if dependencies.same_symbols else anew | {path for path in flat(params) if path == TABLE}
