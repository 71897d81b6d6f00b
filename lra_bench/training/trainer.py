"""Train from the latest checkpoint to the last step, evaluate on val on the way, keep the chosen parameters."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from lra_bench import config
from lra_bench.data.batches import Prefetch, in_order, remembered
from lra_bench.errors import RunFailed
from lra_bench.measure.clocks import StepTimer, Stopwatch, lapped
from lra_bench.measure.load import Load, Ticks
from lra_bench.shapes import Split
from lra_bench.training.checkpoint import Checkpoints
from lra_bench.training.greedy import BROKEN
from lra_bench.training.optimizer import Params
from lra_bench.training.program import Program
from lra_bench.training.step import State

Tell = Callable[..., None]  # tell(event, **facts): what a watcher may want to know

AHEAD = 2  # batches made and put on the devices before they are asked for


class Interrupted(Exception):
    """The user asked to stop; the state is saved."""


def evaluate(program: Program, params: Params, rest: Params, split: Split, tell: Tell, where: str) -> np.ndarray:
    """The score of every example, exactly once: float32 [N].

    Raises:
        RunFailed: as `answers`.
    """
    return program.objective.scores(answers(program, params, rest, split, tell, where), split.label)


def answers(program: Program, params: Params, rest: Params, split: Split, tell: Tell, where: str) -> np.ndarray:
    """What is found of every example, exactly once: its score, float32 [N], or the text that the model writes for it,
    int32 [N, L].

    Raises:
        RunFailed: a logit, or a score, is not finite; `where` says of what the examples are, for the message.
    """
    kept = program.kept(params)
    found: list[np.ndarray] = []
    for batch in in_order(split, program.size, program.shown_rows):
        tell("evaluate", done=len(found) * program.size, total=len(split))
        found.append(np.asarray(program.answering(kept, rest, *program.show(batch))))
    every = np.concatenate(found)[: len(split)]
    broken = ~np.isfinite(every) if every.ndim == 1 else (every == BROKEN).any(-1)
    if failed := int(broken.sum()):
        raise RunFailed(f"{where}: the logits of {failed:,} of {len(every):,} examples are not finite", "nan")
    return every


def answers_all(
    program: Program, params: Params, rest: Params, splits: Sequence[Split], tell: Tell, where: str
) -> list[np.ndarray]:
    """`answers` for each task that the program is for."""
    return [
        answers(part, *program.own(task, params, rest), split, tell, where)
        for task, (part, split) in enumerate(zip(program.parts, splits, strict=True))
    ]


def scores_all(program: Program, given: Sequence[np.ndarray], splits: Sequence[Split]) -> list[np.ndarray]:
    """The scores of the answers for each task that the program is for."""
    each = zip(program.parts, given, splits, strict=True)
    return [part.objective.scores(found, split.label) for part, found, split in each]


@dataclass
class Progress:
    """How far a run is; saved beside its state, as JSON."""

    step: int = 0
    best_step: int | None = None
    val_score: float | None = None  # at best_step
    train_loss: float | None = None  # mean over the last whole interval
    loss_sum: float = 0.0  # over the running interval
    loss_n: int = 0
    history: list[dict[str, float | None]] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)
    input_ms: list[float] = field(default_factory=list)
    eval_s: float | None = None
    wall_s: float = 0.0  # of all sessions up to the last save
    load: Sequence[float] = Ticks()  # of all sessions up to the last save
    sessions: int = 0


@dataclass
class Trainer:
    """One run of training: from the latest checkpoint to the last step."""

    program: Program
    train: Sequence[Split]  # of each task that the program is for
    val: Sequence[Split]
    training: config.Training
    seed: int
    checkpoints: Checkpoints
    tell: Tell
    stopping: Callable[[int], bool]  # asked once a step, the same answer in all processes
    watch: Stopwatch = field(default_factory=Stopwatch)  # of this session, from where it began; earlier ones are added
    _stops: bool = field(default=False, init=False)

    def __call__(self) -> tuple[Params, Params, Progress]:
        """Train; the chosen parameters, what goes with them, and how it went.

        Raises:
            Interrupted: `stopping` said so; the state is saved.
            RunFailed: the loss, a gradient, or a logit on val is not finite.
        """
        self._resume()
        until = self.progress.step if self._is_enough() else self.training.steps
        with Prefetch(self._batch, self.progress.step, until, AHEAD) as batches:
            self.laps.start()
            for _ in self._settled(batches):
                step = self.progress.step
                last = step == self.training.steps
                with self.laps.paused():
                    if last or step % self.training.eval_every == 0:
                        self._evaluate()
                        last = last or self._is_enough()
                    if last or step % self.training.checkpoint_every == 0 or self._stops:
                        self._save()
                if last:
                    break
                if self._stops:
                    raise Interrupted
        if self.progress.best_step is None:  # there is no step to take
            self._evaluate()
            self._save()
        return *self.best, self.progress

    def _is_enough(self) -> bool:
        """Is the last score on validation the one at which training ends, or better?"""
        p, enough = self.progress, self.training.stop_at
        score = p.history[-1]["val_score"] if p.history and p.history[-1]["step"] == p.step else None
        return enough is not None and score is not None and not self.program.objective.metric.better(enough, score)

    def _resume(self) -> None:
        self.state, self.progress = self.program.init, Progress()
        self.best = _copy(self.state)
        kept = self.checkpoints.restore((self.state, self.best), lambda line: self.tell("note", said=line))
        if kept is not None:
            (state, best), progress = kept
            self.state, self.best, self.progress = State(*state), tuple(best), Progress(**progress)
        self.progress.sessions += 1
        self.laps, self.order = StepTimer(self.progress.step_ms), remembered(len(self.train))
        self.input_ms = deque(self.progress.input_ms, 2000)
        self.watch.add(self.progress.wall_s)
        self.load = Load(self.progress.load)
        self.pace, self.first = Stopwatch(), self.progress.step
        self.tell("start", step=self.progress.step, steps=self.training.steps)

    def _batch(self, step: int) -> tuple[jax.Array, ...]:
        with lapped(self.input_ms):
            return self.program.at(step, self.train, self.order)

    def _settled(self, batches: Iterator[tuple[jax.Array, ...]]) -> Iterator[None]:
        """Run the steps, one in flight beyond the one waited for; yield, with none in flight, where val is due."""
        waiting: deque[jax.Array] = deque()
        started = self.progress.step
        for batch in batches:
            self.state, loss = self.program.training.step(self.state, *batch)
            started += 1
            waiting.append(loss)
            self._stops = self.stopping(started)
            pause = self._pauses_at(started)
            while len(waiting) > (0 if pause else 1):
                self._settle(waiting.popleft())
            if pause:
                yield

    def _pauses_at(self, step: int) -> bool:
        t = self.training
        return step == t.steps or step % t.eval_every == 0 or step % t.checkpoint_every == 0 or self._stops

    def _settle(self, loss: jax.Array) -> None:
        value = float(loss)
        self.laps.lap()
        p = self.progress
        p.step += 1
        if not math.isfinite(value):
            raise RunFailed(f"the loss or a gradient is not finite at step {p.step}", "nan")
        p.loss_sum, p.loss_n = p.loss_sum + value, p.loss_n + 1
        self.tell("step", step=p.step, steps=self.training.steps, loss=value)

    def _evaluate(self) -> None:
        p, _ = self.progress, [part.answering for part in self.program.parts]  # compiled before the clock starts
        watch = Stopwatch()
        where = f"val, after step {p.step}"
        found = answers_all(self.program, self.state.params, self.state.rest, self.val, self.tell, where)
        scores = scores_all(self.program, found, self.val)
        p.eval_s = watch.seconds
        score = float(np.mean([each.mean(dtype=np.float64) for each in scores]))
        p.train_loss, p.loss_sum, p.loss_n = p.loss_sum / p.loss_n if p.loss_n else None, 0.0, 0
        p.history.append({"step": p.step, "train_loss": p.train_loss, "val_score": score})
        better = self.program.objective.metric.better
        if self.training.select == "last" or p.val_score is None or better(score, p.val_score):
            p.best_step, p.val_score, self.best = p.step, score, _copy(self.state)
        self.tell("val", step=p.step, train_loss=p.train_loss, val_score=score, left_s=self._seconds_left())

    def _seconds_left(self) -> float:
        """An estimate from the pace of this session's steps so far."""
        p = self.progress
        return (self.training.steps - p.step) * self.pace.seconds / max(p.step - self.first, 1)

    def _save(self) -> None:
        p = self.progress
        p.step_ms, p.input_ms, p.wall_s = list(self.laps.ms), list(self.input_ms), self.watch.seconds
        p.load = self.load.ticks
        self.checkpoints.save(p.step, (self.state, self.best), dataclasses.asdict(p))


def _copy(state: State) -> tuple[Params, Params]:
    """The parameters and what goes with them, in memory of their own: a step donates its state."""
    return jax.tree.map(jnp.copy, (state.params, state.rest))
