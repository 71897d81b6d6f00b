"""What `import lra_bench as lra` offers, against the commands that do the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from samples import Lra

import lra_bench
from lra_bench import mixers
from lra_bench.errors import ConfigError, DataError


@pytest.mark.slow
def test_the_functions_stay_functions_whatever_is_imported() -> None:
    heavy = "import lra_bench.runs.execute, lra_bench.sweeps, lra_bench.records.store, lra_bench as lra"
    said = "print(*(callable(getattr(lra, name)) for name in lra.__all__), set(lra.__all__) <= set(dir(lra)))"
    done = subprocess.run([sys.executable, "-c", f"{heavy}; {said}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"] * (len(lra_bench.__all__) + 1)
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        _ = lra_bench.runn  # type: ignore[attr-defined]


def test_a_mixer_by_itself_is_the_one_of_the_models() -> None:
    one, same, other = (
        lra_bench.mixer("linformer", width=8, heads=2, length=12, rank=4, seed=seed) for seed in (3, 3, 4)
    )
    x = jax.random.normal(jax.random.key(0), (2, 12, 8))
    mask = jnp.arange(12) < jnp.array([[12], [7]])
    y = one(x, mask, key=None)
    assert y.shape == x.shape
    np.testing.assert_array_equal(y, same(x, mask, key=None))
    assert np.abs(y - other(x, mask, key=None)).max() > 0
    path = mixers.model_card("linformer").path
    np.testing.assert_array_equal(
        lra_bench.mixer(path, width=8, heads=2, length=12, rank=4, seed=3)(x, mask, key=None), y
    )


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("linfromer", {}, "did you mean 'linformer'"),
        ("linformer", {"rnak": 4}, "did you mean 'rank'"),
        ("linformer", {"rank": 0}, "rank"),
        ("linformer", {"heads": 3}, "width 8: is no multiple of heads 3"),
        ("fnet", {"rotary": True}, "fnet: has no queries and keys"),
    ],
)
def test_a_mixer_that_cannot_be_had_is_named(name: str, asked: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        lra_bench.mixer(name, **{"width": 8, "heads": 2, "length": 12, **asked})  # type: ignore[arg-type]


def test_what_is_asked_for_wrongly_is_named_before_anything_starts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    with pytest.raises(ConfigError, match=r"^setting training\.stepz=3: .*did you mean 'steps'"):
        lra_bench.run("linear", "short", "tiny", training={"stepz": 3})
    with pytest.raises(ConfigError, match=r"lra\.sweep runs several"):
        lra_bench.run("linear,softmax", "short", "tiny")
    with pytest.raises(ConfigError, match="no results here"):
        lra_bench.results(here)
    assert not (here / "results").exists()


@pytest.mark.slow
def test_a_run_from_python_is_the_commands(
    lra: Lra, here: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setenv("LRA_CACHE", str(cache))
    result = lra_bench.run("linear", "short", "tiny", seed=1, training={"steps": 8}, **{"optimizer.lr": 0.02})
    assert (result.status, result.steps, result.changed) == ("at-chance", 8, "optimizer.lr=0.02 training.steps=8")
    assert "step 8/8" in capfd.readouterr().err
    done = lra(
        "run", "-m", "linear", "-t", "short", "-c", "tiny", "--seed", 1, "--set", "training.steps=8",
        "--set", "optimizer.lr=0.02", "--json",
    )  # fmt: skip
    assert json.loads(done.stdout)[0]["started"] == result.started, "the command finds the run finished"
    table = lra_bench.sweep(
        ["linear"], ["short"], "tiny", seeds=(1,), verbose=False, training={"steps": 8}, optimizer={"lr": 0.02}
    )
    assert table["started"].tolist() == [result.started]
    assert capfd.readouterr().err == ""
    assert lra_bench.results().set_index("run").loc[result.run, "test_score"] == result.test_score

    loaded = lra_bench.load(result)
    assert loaded.result == result
    assert loaded.scores("test").mean() == pytest.approx(result.test_score)
    test = loaded.examples("test")
    predicted = loaded.predict(test.tokens.astype(np.int32), batch=8)
    hits = [int(one["answer"]) == label for one, label in zip(predicted, test.label, strict=True)]
    assert hits == (loaded.scores("test") > 0).tolist()
    tokens = jnp.asarray(test.tokens, jnp.int32)
    assert np.asarray(loaded.model(tokens, tokens > 0, key=None)).argmax(-1).tolist() == [
        int(one["answer"]) for one in predicted
    ]
    assert loaded.predict("[MAX 2 9 ]", top=2)[0].keys() == {"answer", "p", "top"}
    with pytest.raises(DataError, match="input:1: "):
        loaded.predict(["[MAX 2 hello ]"])
