"""One backbone that is trained on several tasks at once, with an embedding, positions and a head for each."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from lra_bench import config
from lra_bench.techniques.base import Dependencies, Technique
from lra_bench.training.multitask import mean_loss
from lra_bench.training.objective import of_task
from lra_bench.training.setup import TaskShare, TrainingSetup


class MultitaskTraining(Technique[config.Multitask]):
    """Tasks that share a step (arXiv 1907.05019)."""

    def training(self, setup: TrainingSetup, dependencies: Dependencies) -> TrainingSetup:
        """The loss is the mean of the tasks' by their shares; of a run that starts from such a training, its own."""
        if len(self.run.trains_on) == 1:
            return setup
        tasks = self._tasks()
        return replace(setup, tasks=tasks, loss=partial(mean_loss, tasks))

    def _tasks(self) -> tuple[TaskShare, ...]:
        tasks, most = self.run.tasks, self.run.limit
        shares = self.options.shares([min(t.splits["train"], most or t.splits["train"]) for t in tasks])
        each = zip(tasks, shares, strict=True)
        return tuple(TaskShare((task.streams, task.length), of_task(task), share) for task, share in each)
