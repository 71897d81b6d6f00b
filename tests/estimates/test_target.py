"""A device that is not here, to compile for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies
from jax.sharding import get_abstract_mesh

from lra_bench import config
from lra_bench.config.files import shipped
from lra_bench.errors import ConfigError
from lra_bench.estimates.target import CARDS, card, meant, opened, prepared, text_proto
from lra_bench.kernels.softmax_attention import softmax_attention

DEVICES = sorted(path.stem for path in shipped("configs/devices").glob("*.yaml"))


@pytest.mark.parametrize("name", DEVICES)
def test_what_ships_is_whole(name: str) -> None:
    device = config.device(name)
    assert device.bytes > 8 * 2**30
    assert (device.target is None) == (device.platform == "tpu")
    assert (device.capability is None) == (device.platform == "tpu")
    assert device.rates["bf16"] >= device.rates["float32"]


def test_a_file_of_ones_own_and_what_is_wrong_in_it(tmp_path: Path) -> None:
    text = (shipped("configs/devices") / "a100.yaml").read_text(encoding="utf-8")
    mine = tmp_path / "mine.yaml"
    mine.write_text(text.replace("2039", "1555"), encoding="utf-8")
    assert config.device(str(mine)).bandwidth == 1555
    mine.write_text(text.replace("bandwidth: 2039", "bandwidth: none"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml:5: bandwidth: "):
        config.device(str(mine))
    mine.write_text(text.replace(", bf16: 312", "").replace("float32: 19.5, ", ""), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml:6: rates: .*lack float32, bf16"):
        config.device(str(mine))
    mine.write_text(text.replace("cuda_compute_capability: {major: 8, minor: 0}", "cores: 108"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml: .*target: .*gpu_device_info.cuda_compute_capability"):
        config.device(str(mine))
    with pytest.raises(ConfigError, match="device 'h10': not found; did you mean 'h100'"):
        config.device("h10")


def test_a_target_is_written_as_a_protocol_buffer() -> None:
    values = {"a": {"b": 1, "c": {"major": 9}}, "name": "H100", "rate": 1.98}
    assert text_proto(values) == 'a { b: 1 c { major: 9 } } name: "H100" rate: 1.98'


def test_without_its_compiler_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise NotImplementedError("topology not implemented for cuda")

    monkeypatch.setattr(topologies, "get_topology_desc", lacking)
    with pytest.raises(ConfigError, match=r"compiles for NVIDIA H100.*\[aot\]' brings jax-cuda13-plugin"):
        opened(config.device("h100"))


@pytest.mark.parametrize(
    ("name", "refused"), [("h100", "`target` or `topology` .*of NVIDIA H100"), ("v5e", "`topology` .*of TPU v5 lite")]
)
def test_what_the_compiler_refuses_is_not_to_be_installed(
    name: str, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: no such thing")

    monkeypatch.setattr(topologies, "get_topology_desc", refuses)
    with pytest.raises(ConfigError, match=f"{refused}.*no such thing") as said:
        opened(config.device(name))
    assert "install" not in str(said.value)


def test_the_environment_keeps_what_the_user_has_set() -> None:
    environ = {"XLA_FLAGS": "--xla_dump_to=/x"}
    prepared(environ)
    level = 0 if jax.__version_info__ < (0, 11) else 1
    assert environ["XLA_FLAGS"] == f"--xla_dump_to=/x --xla_gpu_autotune_level={level}"
    assert environ["TPU_SKIP_MDS_QUERY"] == "1"


def gpu(capability: str) -> Any:
    """As JAX has one that is not here; its name is none that JAX knows."""
    return SimpleNamespace(platform="gpu", device_kind="A card of one's own", compute_capability=capability)


def test_kernels_are_lowered_for_a_gpu_that_is_not_here() -> None:
    row, mask = jax.ShapeDtypeStruct((2, 2, 128, 32), jnp.float32), jax.ShapeDtypeStruct((2, 128), jnp.bool_)

    def slope(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> Any:
        return jax.grad(lambda *x: softmax_attention(*x, mask, "pallas-triton").sum(), (0, 1, 2))(q, k, v)

    with meant(gpu("8.9")):
        lowered = jax.jit(slope).trace(row, row, row, mask).lower(lowering_platforms=("cuda",))
    assert "__gpu$xla.gpu.triton" in lowered.as_text()


def test_jax_knows_a_card_of_each_compute_capability() -> None:
    triton = pytest.importorskip("jax.experimental.pallas.triton")
    if not hasattr(triton, "get_gpu_info"):
        pytest.skip("JAX 0.10 does not ask which card it is")
    for major, minor in CARDS:
        with meant(gpu(f"{major}.{minor}")):
            assert triton.get_gpu_info().compute_capability == 10 * major + minor


def test_a_card_whose_compute_capability_is_between_two_is_the_lower_one() -> None:
    named = {said: card(said) for said in ("7.0", "8.7", "9.0", "12.0", "13.0")}
    assert named == {
        "7.0": "Tesla T4",
        "8.7": "NVIDIA A10",
        "9.0": "NVIDIA H100",
        "12.0": "NVIDIA RTX PRO 6000",
        "13.0": "NVIDIA GB10",
    }


def test_of_a_tpu_and_a_cpu_nothing_is_said() -> None:
    for platform in ("cpu", "tpu"):
        with meant(SimpleNamespace(platform=platform)):  # type: ignore[arg-type]
            assert get_abstract_mesh().abstract_device is None
