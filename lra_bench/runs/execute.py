"""One run: Run -> Result.   `python -m lra_bench.runs.execute FOLDER`, FOLDER holding a run.json.

A process of its own, so that its peak memory is its own and its failure nobody else's. It speaks to whoever started
it in lines of JSON on stdout, one event a line, and leaves its result in the folder.

Several processes, on this machine or on many that share the folder, train it together: `--process K --processes N
--coordinator HOST:PORT` for each K, or `--processes auto` as Slurm or MPI starts them. The first speaks and writes.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lra_bench import data, distributed
from lra_bench.config import Run, digest
from lra_bench.data import made
from lra_bench.errors import LraError, RunFailed, faults_told, refused, users_fault
from lra_bench.measure.clocks import Stopwatch
from lra_bench.measure.memory import peak_bytes, short_of_memory
from lra_bench.model import decoding
from lra_bench.records import fingerprint, store
from lra_bench.records.schema import Result
from lra_bench.runs import inference_cost, lengths, scoring
from lra_bench.runs.build import Fallback, examples, fitting, model_spec
from lra_bench.runs.loaded import UNITS, Trained, dependencies
from lra_bench.shapes import SPLITS, Split
from lra_bench.training import checkpoint
from lra_bench.training.precision import same_bits_as_asked
from lra_bench.training.trainer import Interrupted, Tell, Trainer, answers_all, scores_all

FALLBACK = "fallback.json"
BASIS = "basis.json"
CHECKPOINTS = "checkpoints"
FAILED = (
    3  # the exit code of one of several processes that failed, perhaps alone; if it is the first, its result says how
)
_WHOLE = threading.Lock()
INTERRUPTED = 130  # the exit code of a run that was stopped, saved, and can be resumed


def first_fallback(folder: Path, *, fresh: bool) -> Fallback | None:
    """The fallback with which the run was begun: a run that is resumed continues as it was."""
    path = folder / FALLBACK
    resumed = not fresh and _is_half_trained(folder) and path.exists()
    return Fallback(*store.read_json(path)) if resumed else None


def _is_half_trained(folder: Path) -> bool:
    return any((folder / CHECKPOINTS).glob("*/"))


def of_another_basis(folder: Path, basis: Mapping[str, Any], tell: Tell) -> bool:
    """Is what is half trained in the folder of other data, other code or other libraries? `tell` is told."""
    if not _is_half_trained(folder):
        return False
    then = store.read_json(folder / BASIS) if (folder / BASIS).exists() else {}
    why = fingerprint.apart(basis, then) if then else "code and data that nothing is known of"
    if why:
        tell("note", said=f"its half-trained state is not resumed, it starts again: trained by {why}")
    return why is not None


def execute(
    run: Run, folder: Path, tell: Tell, stopping: Callable[[int], bool], watch: Stopwatch, *, fresh: bool
) -> Result:
    """Train, choose on val, evaluate on test once; the result. Resumes from the folder's checkpoint where there is one.

    `watch` was started as the session began; those before it are added to it.

    Raises:
        Interrupted: `stopping` said so; the state is saved.
        LraError: the data cannot be had, or an option does not fit.
        RunFailed: a loss is not finite, or memory is short.
    """
    started = now()
    every, data_hash = all_examples(run, tell)
    basis = fingerprint.full(run) | {"data_hash": data_hash}
    fresh = fresh or of_another_basis(folder, basis, tell)
    splits = every[0]
    tell("compile", model=run.model, length=run.task.length)
    count = lambda what, done, total: tell("data", what=what, done=done, total=total)  # noqa: E731
    trained = dependencies(run, folder.parent, splits["train"], count)
    program, facts, fallback = fitting(run, splits["train"], first_fallback(folder, fresh=fresh), tell, trained)
    with checkpoint.opened(folder / CHECKPOINTS, fresh=fresh) as checkpoints:
        if distributed.is_first():  # once what is half trained is of this basis, or gone
            store.write_json(folder / FALLBACK, fallback)
            store.write_json(folder / BASIS, basis)
            if units := program.objective.units:
                store.write_json(folder / UNITS, units.as_lists())
        train, val, test = ([splits[name] for splits in every] for name in SPLITS)
        trainer = Trainer(program, train, val, run.recipe.training, run.seed, checkpoints, tell, stopping, watch)
        params, rest, progress = trainer()
    tell("test", n=sum(map(len, test)))
    answers = answers_all(program, params, rest, test, tell, "test")
    scores = np.concatenate(scores_all(program, answers, test))
    metric = run.metric
    if distributed.is_first():
        store.save_scores(folder, scores, metric)
        store.write_json(folder / "curve.json", progress.history)
    tell("timing")
    facts |= scoring.scored(run, val, test, scores, progress) | speed(trainer, run)
    facts |= inference_cost.facts(program, params, rest, val)
    facts |= scoring.of_texts(program, answers, test, folder)
    facts["state_bytes"] = decoding.bytes_of_a_text(model_spec(run), run.task.length)
    facts |= program.computed(train, progress.step)
    facts |= {"data_hash": data_hash, "started": started}
    facts |= made.columns(data.about(one.task) for one in run.trains_on)
    facts["peak_bytes"] = int(distributed.numbers(peak_bytes(jax.local_devices()[0])).max())
    as_run = run.model_copy(update={"recipe": fallback.of(run.recipe)})
    as_trained = Trained(as_run, program, params, rest, splits)
    facts["test_at"] = lengths.scores(as_trained, count, tell)
    facts["test_by_place"] = lengths.by_place(as_trained, count, tell)
    return store.blank(run, scoring.status(facts, metric), **facts)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def all_examples(run: Run, tell: Tell) -> tuple[list[dict[str, Split]], str]:
    """The splits of each task that the run is trained on, and the hash of them all."""
    every, hashes = zip(*(examples(one, tell) for one in run.trains_on), strict=True)
    return list(every), hashes[0] if len(hashes) == 1 else digest(hashes)


def speed(trainer: Trainer, run: Run) -> dict[str, Any]:
    """The result's columns on how fast."""
    p50 = trainer.laps.percentile(50)
    return {
        "step_ms_p10": trainer.laps.percentile(10),
        "step_ms_p50": p50,
        "step_ms_p90": trainer.laps.percentile(90),
        "input_ms_p50": float(np.median(trainer.input_ms)) if trainer.input_ms else None,
        "examples_per_s": run.recipe.training.batch / p50 * 1e3 if p50 else None,
        "eval_s": trainer.progress.eval_s,
        "other_load": trainer.load.share,
        "resumed": trainer.progress.sessions - 1,
    }


@dataclasses.dataclass
class Failure:
    """What went wrong, as the run's result."""

    result: Result | None = None
    alone: bool = False  # perhaps in this process only; else in all of them alike


@contextmanager
def failures(run: Run, place: Path | str = "a file") -> Iterator[Failure]:
    """Turn what goes wrong inside into the run's result; what is not the user's fault leaves its traceback on stderr.

    A disk that is full, or a device that is not there, is no result of the run's; `place` is the disk's where nobody
    says which.

    Raises:
        LraError: the user has to change something.
        Interrupted: the user asked to stop.
    """
    failure = Failure()
    try:
        yield failure
    except RunFailed as error:
        failure.result = store.blank(run, error.status, str(error))  # type: ignore[arg-type]
    except (LraError, Interrupted):
        raise
    except Exception as error:
        if fault := users_fault(error, place):
            raise fault from error
        with suppress(OSError):  # of a log that is on a full disk too
            traceback.print_exc()
        failure.result, failure.alone = (
            store.blank(run, "oom" if short_of_memory(error) else "error", _one_line(error)),
            True,
        )


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def tell(event: str, **facts: Any) -> None:
    """Print an event as a line of JSON; threads' lines stay whole."""
    with _WHOLE:
        print(store.as_json({"event": event, **facts}, None), flush=True)


class Stop:
    """Asked to stop: by Ctrl-C, by a scheduler's SIGTERM or SIGUSR2, or because nobody listens any more."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

    def __init__(self) -> None:
        self.asked = False
        for name in self.SIGNALS:
            signal.signal(name, self._ask)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.SIGNALS)  # who started us may have blocked them

    def _ask(self, *_: Any) -> None:
        self.asked = True

    def __call__(self, step: int) -> bool:
        """Do all processes stop at this step?"""
        return distributed.all_agree(self.asked, step)

    def tell(self, event: str, **facts: Any) -> None:
        """`tell`, if it is ours to speak, to a listener that may be gone."""
        if not distributed.is_first():
            return
        try:
            tell(event, **facts)
        except BrokenPipeError:
            self.asked = True
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115

    def refuse(self, error: LraError) -> None:
        """Say what is wrong with what the user asked; on stderr, if it is not ours to speak."""
        if not distributed.is_first():
            print(error, file=sys.stderr)
        self.tell("refused", **refused(error))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lra_bench.runs.execute", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the run, holding its run.json")
    parser.add_argument("--overwrite", action="store_true", help="forget checkpoints and start again")
    parser.add_argument("--commit", help="of the code that runs, for the result")
    parser.add_argument("--dirty", action="store_true", help="the code is not as committed, for the result")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, for the result")
    parser.add_argument("--cores", type=_numbers, help="the cores that it may use")
    parser.add_argument("--processes", default="1", help="that train it together; auto: as the environment says")
    parser.add_argument("--process", type=int, help="which of them this is, from 0")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    parser.add_argument("--devices", type=_numbers, help="the GPUs of this machine that are this process's")
    return parser.parse_args(arguments)


@contextmanager
def locked(folder: Path, stop: Stop) -> Iterator[None]:
    """Lock the run's folder, in the first process, for all of them."""
    with ExitStack() as held:
        if distributed.is_first():
            if store.is_locked(folder):
                stop.tell("wait")
            held.enter_context(store.locked(folder))
        distributed.barrier()
        yield


def settled(args: argparse.Namespace, stop: Stop) -> tuple[Result, bool]:
    """The run's result, run if it is not done; and whether it failed in this process, perhaps alone.

    Raises:
        Interrupted: all processes stopped at the same step, and the state is saved.
        LraError: the user's input is wrong.
    """
    run = Run.model_validate(store.read_json(args.folder / "run.json"))
    results = args.folder.parent.parent
    with locked(args.folder, stop):
        watch, began = Stopwatch(), now()  # a run does not last while it waits for another
        result, alone = None if args.overwrite else store.done(results, run), False
        if result is None:
            with failures(run, args.folder) as failure:
                result = execute(run, args.folder, stop.tell, stop, watch, fresh=args.overwrite)
            result, alone = failure.result or result, failure.alone
            assert result is not None
            ran = {"commit": args.commit, "dirty": args.dirty, "jobs": args.jobs, **fingerprint.of(run)}
            result = dataclasses.replace(result, wall_s=watch.seconds, started=result.started or began, **ran)
            if distributed.is_first():
                store.save(results, run, result)
        if not alone:
            distributed.barrier()  # nobody may write here before all have read
    return result, alone


def main(arguments: list[str] | None = None) -> int:
    """Execute the run in a folder. 0: its result is written; 2: the user's input is wrong; 130: stopped and saved."""
    args = _arguments(arguments)
    if args.cores:
        os.sched_setaffinity(0, args.cores)
    stop = Stop()
    try:
        same_bits_as_asked([store.read_run(args.folder).recipe])
        with faults_told(args.folder):
            distributed.join(args.processes, args.process, args.coordinator, args.devices)
            jax.local_devices()  # one that is not there is said before examples are made
            result, alone = settled(args, stop)
    except Interrupted:
        return INTERRUPTED
    except LraError as error:
        stop.refuse(error)
        return distributed.abort(error.exit_code)
    stop.tell("row", **result.as_dict())
    return distributed.abort(FAILED) if alone and distributed.several() else 0


if __name__ == "__main__":
    sys.exit(main())
