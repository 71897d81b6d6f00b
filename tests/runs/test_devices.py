"""Data parallelism: several devices give the losses of one; those that cannot share a batch evenly are left out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from samples import Lra

pytestmark = pytest.mark.slow


def test_several_devices_have_the_losses_of_one(lra: Lra, here: Path) -> None:
    curves = []
    for devices, sharing in ((1, 1), (8, 8), (6, 4)):
        more = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
        env = {"XLA_FLAGS": more, "JAX_PLATFORMS": "cpu"}
        done = lra("run", "-m", "linformer", "-t", "short", "-c", "tiny", "-o", f"on{devices}", "--json", env=env)
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)
        assert (row["devices"], row["matmul"], row["deterministic"]) == (sharing, "float32", True)
        assert (f"{sharing} of {devices} devices are used" in done.stderr) is (sharing < devices)
        (curve,) = (here / f"on{devices}").glob("runs/*/curve.json")
        curves.append(json.loads(curve.read_text()))
    one, *others = curves
    assert len(one) == 3
    for several in others:
        for alone, shared in zip(one, several, strict=True):
            assert shared["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-5)
            assert shared["val_score"] == alone["val_score"]
