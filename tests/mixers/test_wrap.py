"""A function and modules of other libraries as mixers; and the page on mixers of one's own, whose files are run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from samples import Lra

from lra_bench import mixers, templates
from lra_bench.conformance import checks
from lra_bench.conformance.complexity import exponents
from lra_bench.errors import ConfigError
from lra_bench.mixers import wrap
from lra_bench.mixers.base import Constant, Dims
from lra_bench.mixers.card import NoOptions
from lra_bench.records import fingerprint
from lra_bench.training.checkpoint import opened

DIMS = Dims(width=8, heads=2, head_width=4, length=12)
X = jax.random.normal(jax.random.key(1), (2, 12, 8))
MASK = jnp.arange(12) < jnp.array([[12], [7]])
PAGE = Path(__file__).parents[2] / "docs/own-mixer.md"
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S))
WITH_TORCH = {name for name, text in FILES.items() if "import torch" in text}
MIXERS = sorted(FILES.keys() - WITH_TORCH, reverse=True)  # the longest to compile last


class Linen(nn.Module):
    width: int
    mean: bool = False

    @nn.compact
    def __call__(self, x: Any, mask: Any) -> Any:
        y = nn.Dense(self.width)(x * mask[..., None].astype(x.dtype))
        return nn.BatchNorm(use_running_average=True)(y) if self.mean else y


class Equinox(eqx.Module):
    layer: eqx.nn.Linear
    places: jax.Array
    name: str

    def __init__(self, width: int, key: jax.Array) -> None:
        self.layer, self.places = eqx.nn.Linear(width, width, key=key), jnp.arange(12)
        self.name = "no array"

    def __call__(self, x: Any, mask: Any) -> Any:
        return jax.vmap(self.layer)(x) * (mask & (self.places < 9))[:, None].astype(x.dtype)


WRAPPED = {
    "function": wrap.function(lambda q, k, v, mask: jnp.float32((q * k + v) * mask[:, None, :, None])),
    "linen": wrap.linen(lambda dims: Linen(dims.width)),
    "equinox": wrap.equinox(lambda dims, key: Equinox(dims.width, key)),
}


def made(kind: str, config: Any = NoOptions()) -> Any:  # noqa: B008
    return WRAPPED[kind](config, DIMS, rngs=nnx.Rngs(0))


def test_a_function_is_within_the_projections_values() -> None:
    mixer = made("function")
    q, k, v = np.split(np.float64(X) @ np.float64(mixer.qkv[...]), 3, axis=-1)
    y = ((q * k + v) * MASK[..., None]) @ np.float64(mixer.out[...])
    np.testing.assert_allclose(mixer(X, MASK, key=None), y, atol=1e-5)


def test_a_linen_module_has_its_own_values() -> None:
    mixer, key = made("linen"), nnx.Rngs(0).params()
    variables = Linen(8).init(key, X, MASK)
    assert jax.tree.structure(variables["params"]) == mixer.structure
    assert sorted(mixer.arrays) == ["['Dense_0']['bias']", "['Dense_0']['kernel']"]
    np.testing.assert_allclose(mixer(X, MASK, key=None), Linen(8).apply(variables, X, MASK), atol=1e-6)


def test_an_equinox_module_is_mapped_over_the_batch_by_its_values() -> None:
    mixer = made("equinox")
    y = jax.vmap(Equinox(8, nnx.Rngs(0).params()))(X, MASK)
    np.testing.assert_allclose(mixer(X, MASK, key=None), y, atol=1e-6)
    held = {name: type(array) for name, array in mixer.arrays.items()}
    assert held == {".layer.weight": nnx.Param, ".layer.bias": nnx.Param, ".places": Constant}


def test_all_parameters_train_in_xs_dtype_by_their_values() -> None:
    """y in bfloat16 where x is, whatever the module returns, and a slope for each parameter, in float32."""
    for kind in WRAPPED:
        graph, params, rest = nnx.split(made(kind), nnx.Param, ...)

        def loss(params: Any, kind: str = kind, graph: Any = graph, rest: Any = rest) -> jax.Array:
            y = nnx.merge(graph, params, rest, copy=True)(X.astype(jnp.bfloat16), MASK, key=None)
            assert y.dtype == jnp.bfloat16, kind
            return (y.astype(jnp.float32) ** 2).sum()

        leaves = jax.tree.leaves(jax.jit(jax.grad(loss))(params))
        assert len(leaves) == 2, kind
        assert all(leaf.dtype == jnp.float32 and bool(jnp.any(leaf)) for leaf in leaves), kind


def test_modules_are_called_in_xs_dtype_by_its_values() -> None:
    seen = []

    class Spy(eqx.Module):
        w: jax.Array

        def __call__(self, x: Any, mask: Any) -> Any:
            seen.append(self.w.dtype)
            return x * self.w

    mixer = wrap.equinox(lambda dims, key: Spy(jnp.ones(dims.width)))(NoOptions(), DIMS, rngs=nnx.Rngs(0))
    mixer(X.astype(jnp.bfloat16), MASK, key=None)
    assert seen == [jnp.bfloat16]


OPTIONS = '''
from dataclasses import dataclass
import equinox as eqx, jax
from flax import linen as nn
from lra_bench.mixers import wrap

@dataclass(frozen=True)
class Config:
    """One."""

    scale: float = 1.0
    """The factor."""

class Linen(nn.Module):
    scale: float

    def __call__(self, x, mask):
        return self.scale * x

class Equinox(eqx.Module):
    scale: float

    def __call__(self, x, mask):
        return self.scale * x

Mixer = wrap.'''


def test_options_are_passed_on_by_name_and_change_values(tmp_path: Path) -> None:
    wraps = (
        "function(lambda q, k, v, mask, scale: scale * v)",
        "linen(lambda dims, scale: Linen(scale))",
        "equinox(lambda dims, key, scale: Equinox(scale))",
    )
    for wrapped in wraps:
        path = tmp_path / f"{wrapped.partition('(')[0]}_own.py"
        path.write_text(OPTIONS + wrapped)
        module, model_card = mixers.load(path), mixers.read(path)
        one, two = (
            module.Mixer(module.Config(**mixers.turned(model_card, {"scale": scale})), DIMS, rngs=nnx.Rngs(0))
            for scale in (1, 2)
        )
        np.testing.assert_allclose(two(X, MASK, key=None), 2 * one(X, MASK, key=None), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: wrap.function(lambda q, k, v, mask: v[:, 0]), r"wrap.function: it returns \(2, 12, 4\), not \(2, 2"),
        (lambda: wrap.linen(lambda dims: Linen(4)), r"wrap.linen: it returns \(2, 12, 4\), not \(2, 12, 8\)"),
        (lambda: wrap.linen(lambda dims: Linen(8, True)), "wrap.linen: the module has batch_stats; a mixer has"),
        (lambda: wrap.linen(lambda dims: Equinox(8, jax.random.key(0))), r"Equinox is no flax\.linen\.Module"),
        (lambda: wrap.equinox(lambda dims, key: Linen(8)), r"wrap.equinox: Linen is no equinox\.Module"),
    ],
)
def test_what_is_wrong_is_one_line(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()(NoOptions(), DIMS, rngs=nnx.Rngs(0))(X, MASK, key=None)


def test_a_wrong_installation_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "equinox", None)
    with pytest.raises(ConfigError, match=r"^wrap\.equinox: equinox is not installed; pip install equinox$"):
        wrap.equinox(lambda dims, key: None)


def test_a_checkpoint_has_the_values(tmp_path: Path) -> None:
    for kind in WRAPPED:
        graph, state = nnx.split(made(kind))
        other = jax.tree.map(lambda leaf: leaf + 1, state)
        with opened(tmp_path / kind, fresh=True) as checkpoints:
            checkpoints.save(1, other, {})
            restored = checkpoints.latest(state)
        assert restored is not None
        equal = jax.tree.map(np.testing.assert_array_equal, restored[0], other)
        assert jax.tree.structure(nnx.merge(graph, restored[0])) == jax.tree.structure(nnx.merge(graph, other)), equal


def test_the_code_that_is_wrapped_moves_the_hashes_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine, other = tmp_path / "mine.py", tmp_path / "formula.py"
    mine.write_text("from formula import f\nfrom lra_bench.mixers import wrap\nMixer = wrap.function(f)\n")
    other.write_text("def f(q, k, v, mask):\n    return v\n")
    before = mixers.code(mine), fingerprint.of_files([mine])
    other.write_text("def f(q, k, v, mask):\n    return -v\n")
    after = mixers.code(mine), fingerprint.of_files([mine])
    assert not set(before) & set(after)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's files."""
    folder = tmp_path_factory.mktemp("page")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_page_has_the_files_that_its_text_is_of_and_their_values() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count("```python\n") == len(FILES)
    assert len(MIXERS) == 6
    assert len(WITH_TORCH) == 2


@pytest.mark.parametrize("name", MIXERS)
def test_a_file_of_the_page_passes_by_its_values(name: str, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All checks but the complexity, whose compilation takes seconds."""
    cheap = {title: check for title, check in checks.CHECKS.items() if check is not exponents}
    monkeypatch.setattr(checks, "CHECKS", cheap)
    verdicts = list(checks.verify(mixers.model_card(str(page / name))))
    assert len(verdicts) == 9
    assert not [verdict for verdict in verdicts if not verdict.passed]


def test_the_page_has_what_lra_new_model_writes_and_its_values(tmp_path: Path) -> None:
    written, _ = templates.model("average", "other", tmp_path)
    year = re.compile("year=[0-9]+")
    assert year.sub("", FILES["average.py"]) == year.sub("", written.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_port_has_pytorchs_values(page: Path) -> None:
    pytest.importorskip("torch")
    done = subprocess.run([sys.executable, "compare_gate.py"], cwd=page, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["attention.py", "mean_linen.py", "mean_equinox.py"])
def test_a_file_of_the_page_is_trained(name: str, page: Path, lra: Lra, here: Path) -> None:
    done = lra("run", "-m", page / name, "-t", "short", "-c", "tiny", "--results", here / "results")
    assert done.returncode == 0, done.stderr


def test_wrong_arguments_of_a_function_are_one_line() -> None:
    def of_three(q, k, v):  # type: ignore[no-untyped-def]
        return v

    with pytest.raises(ConfigError, match=r"wrap\.function: of_three\(q, k, v\): must take \(q, k, v, mask\)"):
        wrap.function(of_three)
