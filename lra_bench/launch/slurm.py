"""Start runs as an array of Slurm's jobs, by submitit, or as submitit's own processes on this machine.

A job runs `python -m lra_bench.runs.execute` as the other launchers do. When it is preempted, or its time is over, the
run saves, the job is queued again, and resumes from the checkpoint. Slurm's jobs outlive the command that sent them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lra_bench.config import Run, Slurm
from lra_bench.errors import ConfigError
from lra_bench.launch.engine import Engine, Order, Stopped, Tell, extra
from lra_bench.launch.job import Job, Log
from lra_bench.launch.remote_task import RemoteTask, received
from lra_bench.records import store
from lra_bench.records.schema import Result, Status

JOBS = "jobs"  # the folder in the results where submitit keeps what is sent, what comes back, and logs
SAFE = "export PYTHONSAFEPATH=1"  # in a job: no file of the working folder stands for a library's module
SENT = "job.json"  # in a run's folder: the job that was sent for it
QUEUED = ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "PREEMPTED")
OUT_OF_TIME = "timed-out"  # in submitit's words for why a job was not queued again


class Processes(Engine):
    """Submitit's own processes on this machine: they end when the user goes."""

    def __init__(self, executor: Any, settings: Slurm, order: Order, at_once: int) -> None:
        super().__init__(at_once)
        self._executor, self._settings, self._order = executor, settings, order
        self._beside = at_once  # runs on one machine, as far as we know
        self._jobs: dict[str, Any] = {}  # by run
        self._left = threading.Event()  # nobody is to wait any longer

    def run(self, run: Run, tell: Tell) -> Result:
        """Wait for the run's job, submitted here if need be; its result."""
        if run.id not in self._jobs:
            self._unclaimed(run, tell)
            result = None if self._order.fresh else store.done(self._order.results, run)
            if result is not None:
                return result
            self.send([run])
        job = self._jobs[run.id]
        log = Log(job.paths.stdout)
        tell({"event": "note", "said": f"job {job.job_id}, {log.path}"})
        while not self._is_over(run, job):
            self._pause()
            for event in log.news():
                tell(event)
        return self._result(run, job)

    def send(self, runs: Sequence[Run]) -> None:
        """Submit the runs, as one array.

        Raises:
            ConfigError: the queue refuses them.
        """
        tasks = [Job(RemoteTask(run, self._order).written(), self._settings.signal, self._beside) for run in runs]
        try:
            jobs = self._executor.submit_array(tasks) if tasks else []
        except RuntimeError as error:  # submitit's FailedSubmissionError, FailedJobError
            raise refused(self._settings, error) from None
        for run, job in zip(runs, jobs, strict=True):
            self._jobs[run.id] = job
            store.write_json(self._folder(run) / SENT, {"job": job.job_id, "logs": str(job.paths.folder)})

    def end(self) -> None:
        """Cancel all jobs; those that run save."""
        self.ended = True
        for job in self._jobs.values():
            if not job.done():
                job.cancel(check=False)

    def kill(self) -> None:
        """Wait no longer."""
        self._left.set()

    def _folder(self, run: Run) -> Path:
        return store.folder(self._order.results, run)

    def _unclaimed(self, run: Run, tell: Tell) -> None:
        """Wait until nobody else executes the run."""
        if store.is_locked(self._folder(run)):
            tell({"event": "wait"})
        while store.is_locked(self._folder(run)):
            self._pause()

    def _is_over(self, run: Run, job: Any) -> bool:
        """Has the job come to an end? When all are to end, the run's claim says whether it still saves."""
        return job.done() or (self.ended and not store.is_locked(self._folder(run)))

    def _pause(self) -> None:
        if self._left.wait(self._settings.poll):
            raise Stopped(self.parting())

    def _result(self, run: Run, job: Any) -> Result:
        if self.ended and not job.paths.result_pickle.exists():
            raise Stopped(self.parting())
        try:
            return received(job.result(), self.parting())
        except RuntimeError as error:  # submitit's UncompletedJobError
            said = str(error).splitlines()
        why = next((line for line in reversed(said) if re.match(r"[\w.]+: ", line)), said[0])  # a traceback's end
        status: Status = "timeout" if OUT_OF_TIME in why else "error"
        result = store.blank(run, status, f"job {job.job_id}, {job.state}: {why}"[:300])
        store.save(self._order.results, run, result)
        return result


class Queue(Processes):
    """Jobs of Slurm: they stay when the user goes, and the next command waits for them."""

    def __init__(self, executor: Any, settings: Slurm, order: Order, at_once: int) -> None:
        super().__init__(executor, settings, order, at_once)
        self._beside = 1

    def recall(self, runs: Sequence[Run]) -> list[Run]:
        """Find jobs that an earlier command sent; the runs that have none, and that nobody runs."""
        from submitit import SlurmJob

        for run in runs:
            path = self._folder(run) / SENT
            if path.exists():
                sent = store.read_json(path)
                job: Any = SlurmJob(sent["logs"], sent["job"])
                if job.watcher.get_state(job.job_id, mode="force") in QUEUED:
                    self._jobs[run.id] = job
        return [run for run in runs if run.id not in self._jobs and not store.is_locked(self._folder(run))]

    def leave(self) -> None:
        """The user goes; the jobs stay."""
        self.ended = True
        self.kill()

    def parting(self) -> str:
        """How to look at the jobs that stay."""
        if not self._left.is_set():
            return super().parting()
        ids = " ".join(sorted({job.job_id.split("_")[0] for job in self._jobs.values()}))
        return f"jobs {ids} stay: `squeue --me` shows them, `scancel {ids}` ends them; the same command waits for them"


@contextmanager
def opened(settings: Slurm, runs: Sequence[Run], order: Order) -> Iterator[Processes]:
    """The queue, with a job for each of the runs.

    Raises:
        ConfigError: submitit is not installed, this machine has no Slurm, or the queue refuses the jobs.
    """
    submitit = extra("submitit", settings.engine)
    at_once = order.jobs or settings.jobs
    folder, times = (order.results / JOBS).resolve(), settings.requeues
    try:
        executor = submitit.AutoExecutor(
            folder, cluster=settings.cluster, slurm_max_num_timeout=times, local_max_num_timeout=times
        )
    except RuntimeError as error:
        raise refused(settings, error) from None
    executor.update_parameters(**parameters(settings, at_once or len(runs)))
    if settings.cluster != settings.engine:
        yield Processes(executor, settings, order, at_once or 1)
        return
    queue = Queue(executor, settings, order, len(runs))
    queue.send(queue.recall(runs))
    yield queue


def parameters(settings: Slurm, at_once: int) -> dict[str, Any]:
    """The settings in submitit's words."""
    own = {name: getattr(settings, name) for name in ("partition", "account", "qos", "constraint")}
    own |= {"array_parallelism": at_once, "signal_delay_s": settings.signal, "setup": [SAFE, *settings.setup]}
    own["additional_parameters"] = settings.extra or None
    return {
        "name": "lra",
        "timeout_min": settings.time,
        "mem_gb": settings.memory,
        "cpus_per_task": settings.cpus,
        "gpus_per_node": settings.gpus or None,
        **{f"{settings.engine}_{name}": value for name, value in own.items()},
    }


def refused(settings: Slurm, error: Exception) -> ConfigError:
    """What submitit or the queue says against it, on one line."""
    return ConfigError(f"--launcher {settings.engine}: {' '.join(str(error).split())[:300]}")
