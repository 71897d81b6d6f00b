"""Data parallelism: several devices give the losses of one; those that cannot share a batch evenly are left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from samples import Lra

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("model", "used"), [("softmax", {1: 1, 8: 8}), ("linformer", {1: 1, 6: 4})])
def test_several_devices_have_the_losses_of_one(lra: Lra, here: Path, model: str, used: dict[int, int]) -> None:
    curves = {}
    for devices, sharing in used.items():
        env = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
        done = lra("run", "-m", model, "-t", "short", "-c", "tiny", "-o", f"on{devices}", "--json", env=env)
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)
        assert (row["devices"], row["matmul"], row["deterministic"]) == (sharing, "float32", True)
        assert (f"{sharing} of {devices} devices are used" in done.stderr) is (sharing < devices)
        (curve,) = (here / f"on{devices}").glob("runs/*/curve.json")
        curves[devices] = json.loads(curve.read_text())
    one, several = curves.values()
    assert len(one) == 3
    for alone, shared in zip(one, several, strict=True):
        assert shared["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-5)
        assert shared["val_score"] == alone["val_score"]
