"""A device that is not here, to compile for."""

from __future__ import annotations

from pathlib import Path

import pytest
from jax.experimental import topologies

from lra_bench import config
from lra_bench.config.files import shipped
from lra_bench.errors import ConfigError
from lra_bench.estimates.target import opened, prepared, text_proto

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


def test_the_environment_keeps_what_the_user_has_set() -> None:
    environ = {"XLA_FLAGS": "--xla_dump_to=/x"}
    prepared(environ)
    assert environ["XLA_FLAGS"] == "--xla_dump_to=/x --xla_gpu_autotune_level=0"
    assert environ["TPU_SKIP_MDS_QUERY"] == "1"
