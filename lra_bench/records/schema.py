"""The schema of a result: one flat record for each run, scalars only, with the unit in the name.

A missing value is None, never 0. A failed run has a result too.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

Status = Literal["ok", "at-chance", "oom", "nan", "timeout", "error"]
STATUSES: tuple[Status, ...] = get_args(Status)
SCORED: tuple[Status, ...] = ("ok", "at-chance")  # tested, by parameters that were trained to the end
FINAL: tuple[Status, ...] = (*SCORED, "nan")  # the same command would give the same again; the others are tried again


def settings_of(changed: str | None) -> list[str]:
    """The settings in a result's `changed`, one by one, each `key=value`; a path among them may hold spaces."""
    return re.split(r" (?=[\w.-]+=)", changed) if changed else []


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run's result."""

    # what was asked
    run: str  # the run's id: a hash of all that decides the numbers
    status: Status
    error: str | None = None  # one line that says why the status is not ok
    model: str  # the mixer's name
    options: str  # the mixer's hyperparameters, resolved, as canonical JSON
    family: str  # after Tay et al.'s survey
    task: str
    task_version: int
    metric: str  # the metric of val_score and test_score
    variant: str | None  # the task's named variant, if one was used
    config: str
    changed: str | None  # what --set and --length changed in the config or the task
    tag: str | None  # a word that must stand beside the numbers, "quick" or "limit 100"
    techniques: str | None = None  # the techniques that were applied, with their options, as canonical JSON
    start: str | None = None  # the run that it was initialized from
    teacher: str | None = None  # the run whose model was its teacher
    tuning_trials: int | None = None  # trials by which the config's settings were found, on validation
    tuning_steps: int | None = None  # optimizer steps over all of these trials
    config_hash: str | None = None  # hash of what the config says for the task: the same for all models of a column
    seed: int
    length: int  # L: tokens that an input is padded to
    batch: int  # examples of an optimizer step, over all devices and micro-batches
    accumulate: int  # micro-batches of a batch, run one after another
    length_buckets: int | None = None  # lengths to which micro-batches were padded, sorted by length; None: L alone
    lr: float | None = None  # peak learning rate
    lr_grid: str | None = None  # the learning rates that its sweep tried, as JSON; None: no grid
    steps: int  # optimizer steps asked for
    stopped_step: int | None = None  # the step at which training ended, where a score on validation was enough
    dtype: str  # type of the computation
    # what ran
    impl: str | None = None  # the implementation of the mixer that was compiled
    fallback: str | None = None  # what was changed so that the step fits in memory; the batch is as asked
    params: int | None = None
    trained_params: int | None = None  # parameters that were trained, those added for training alone among them
    params_ratio: float | None = None  # parameters relative to the same backbone with full attention
    # how good
    val_score: float | None = None  # validation score at the chosen step, over every example
    test_score: float | None = None  # test score, evaluated once, after the choice
    test_spread: float | None = None  # standard deviation over test's examples, where a score is no share of them
    exact_match: float | None = None  # share of test's texts that were written exactly as asked for
    bleu: float | None = None  # corpus BLEU of test's texts, 0 to 100
    chrf: float | None = None  # corpus chrF of test's texts, 0 to 100; test_score is the mean over them, a share
    test_by_place: str | None = None  # test scores of parts of a text, by first place, as JSON; of the next symbol
    test_at: str | None = None  # test scores at the task's test_lengths, as JSON; null where the model has none there
    val_n: int | None = None
    test_n: int | None = None
    chance: float | None = None  # chance level on test: the score of naming the majority class, or the mean
    val_chance: float | None = None  # chance level on validation
    best_step: int | None = None  # the step whose parameters were chosen
    train_loss: float | None = None  # mean training loss over the last evaluation interval
    # how fast: synchronised; compilation, evaluation and checkpoints apart
    step_ms_p10: float | None = None
    step_ms_p50: float | None = None
    step_ms_p90: float | None = None
    input_ms_p50: float | None = None  # host time to make a batch, overlapped with the step
    examples_per_s: float | None = None
    compile_s: float | None = None  # trace, lower and compile the training step; without steps, the forward pass
    eval_s: float | None = None  # one evaluation on validation
    inference_ms_p50: float | None = None  # inference latency: the forward pass of a batch
    # how large
    compiled_bytes: int | None = None  # arguments + temporaries + outputs - aliased, as the compiler planned the step
    peak_bytes: int | None = None  # measured: device peak, or on CPU the process's peak resident set
    state_bytes: int | None = None  # what decoding keeps of one text of L tokens; of causal models that decode
    model_bytes: int | None = None  # model size: the parameters as they are kept for inference; a zero costs one bit
    sparsity: float | None = None  # share of the matrices' weights that are zero
    flops_per_step: float | None = None  # counted from the jaxpr, recomputation included; with length_buckets, the mean
    computed_tokens: float | None = None  # share of the padded tokens that training computed; None: all of them
    # where
    platform: str | None = None  # cpu, gpu or tpu
    device: str | None = None
    devices: int | None = None  # devices of all processes
    processes: int | None = None  # processes that trained the run together, on one machine or several
    jobs: int | None = None  # runs that ran at the same time on the machine, which slow each other
    other_load: float | None = None  # share of its cores' time that other programs, or the host, used meanwhile
    versions: str | None = None  # versions of the libraries that compute, as JSON
    code_hash: str | None = None  # hash of the package's numeric code that every run goes through
    parts_hash: str | None = None  # hash of the code of its mixers and its source, and of all that they import
    matmul: str | None = None  # the precision that float32 products had: float32, tf32, bf16, bf16_3x; None: not known
    deterministic: bool | None = None  # its steps give the same bits each time: a CPU's, a GPU's where XLA is told so
    commit: str | None = None
    dirty: bool | None = None
    environment: str | None = None  # the variables that move timings (allocator, XLA), as JSON
    data_hash: str | None = None  # hash of the examples of all splits
    unused_rows: int | None = None  # rows of the files that are in no split
    truncated: int | None = None  # inputs that are longer than L and were truncated
    overlap: int | None = None  # inputs of validation and test that stand in an earlier split too
    started: str | None = None  # ISO 8601, UTC
    wall_s: float | None = None  # from start to end, over all sessions: data, compilation, all that the run does
    resumed: int | None = None  # times that the run was resumed

    def as_dict(self) -> dict[str, Any]:
        """The result as a mapping, in the order of the columns."""
        return dataclasses.asdict(self)

    def numbers(self) -> dict[str, float]:
        """The columns that are numbers, and are there."""
        values = self.as_dict().items()
        return {name: value for name, value in values if isinstance(value, int | float) and not isinstance(value, bool)}


COLUMNS = tuple(field.name for field in dataclasses.fields(Result))
