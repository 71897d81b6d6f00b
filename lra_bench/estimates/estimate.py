"""A run's training step compiled for a device that is not here, and weighed."""

from __future__ import annotations

from typing import Any

import jax

from lra_bench.config import Device, Run
from lra_bench.estimates.hlo import weigh
from lra_bench.estimates.roofline import precision, roofline
from lra_bench.estimates.target import meant
from lra_bench.measure.machine import versions
from lra_bench.measure.memory import arguments_bytes
from lra_bench.runs.build import model_spec, planned
from lra_bench.training.program import abstract, parameters

LONGEST = 4  # loops that are named, those with the most launches

Facts = dict[str, Any]


def estimate(run: Run, device: Device, target: jax.Device) -> Facts:
    """What is known of the step on `device`, which JAX calls `target`.

    Raises:
        ConfigError: an option or the batch does not fit.
        Exception: the compiler's own, where the step does not compile.
    """
    program = planned(run, target)
    with meant(target):
        step = program.training
    weight, backbone = weigh(step.executable.as_text() or ""), model_spec(run).backbone
    bound = roofline(weight, step.flops, device, backbone)
    loops = sorted(weight.loops, key=lambda loop: -(loop.trips or 1) * loop.launches)
    batch, state = run.recipe.training.batch, arguments_bytes(step.executable)
    return {
        "impl": abstract(program.setup.model).impl,
        "params": parameters(program.setup.model),
        "precision": precision(device, backbone),
        "planned_bytes": step.compiled_bytes,
        "state_bytes": state,
        "largest_batch": largest_batch(step.compiled_bytes, state, batch, device.bytes),
        "fits": step.compiled_bytes <= device.bytes,
        "launches": weight.launches,
        "loops": [loop._asdict() for loop in loops[:LONGEST]],
        "hbm_bytes": weight.bytes,
        "flops": step.flops,
        "compute_ms": bound.compute,
        "bandwidth_ms": bound.bandwidth,
        "launch_ms": bound.launches,
        "estimate_ms": bound.ms,
        "binds": bound.binds,
        "compile_s": step.compile_s,
        "versions": versions(),
    }


def largest_batch(planned: int, state: int, batch: int, there: int) -> int:
    """Examples that fit in so many bytes, if all that a step of `batch` examples needs beside its state is theirs."""
    return max(0, int((there - state) * batch / max(planned - state, 1)))
