"""Data parallelism: eight devices give the losses of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from samples import Lra

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("model", ["softmax", "linformer"])
def test_eight_devices_have_the_losses_of_one(lra: Lra, here: Path, model: str) -> None:
    curves = {}
    for devices in (1, 8):
        env = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        done = lra("run", "-m", model, "-t", "short", "-c", "tiny", "-o", f"on{devices}", "--json", env=env)
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)
        assert row["devices"] == devices
        (curve,) = (here / f"on{devices}").glob("runs/*/curve.json")
        curves[devices] = json.loads(curve.read_text())
    assert len(curves[1]) == 3
    for one, eight in zip(curves[1], curves[8], strict=True):
        assert eight["train_loss"] == pytest.approx(one["train_loss"], rel=1e-5)
        assert eight["val_score"] == one["val_score"]
