"""Causal runs: what is refused, what a run of the next symbol keeps, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flax import nnx
from jax.errors import JaxRuntimeError
from samples import Lra

from lra_bench import data, sweeps
from lra_bench.config import Run, tasks
from lra_bench.errors import ConfigError, RunFailed, TaskError
from lra_bench.launch.refusals import refuse
from lra_bench.runs import lengths
from lra_bench.runs.build import model_spec
from lra_bench.sweeps import Request
from lra_bench.training.program import abstract

CAUSAL = "backbone.causal=true"
TEXT = "".join(f"{i:03d} Häuser. " for i in range(400))
NEXT = """\
title: The next byte
source: causal_lm
args: {}
length: 16
classes: 256
splits: {train: 64, val: 8, test: 8}
metric: bits
test_lengths: [32, 200]
"""


@pytest.mark.parametrize(
    ("model", "task", "settings", "said"),
    [
        ("fnet", "listops", (CAUSAL,), "backbone.causal: fnet cannot be causal"),
        ("linear", "listops", (CAUSAL, "backbone.pool=cls"), "backbone.pool: cls stands before the text"),
        ("linear", "bytes", (), "asks for the symbol that follows, which linear sees"),
        ("linear", "bytes", (CAUSAL,), None),
        ("linear", "listops", (CAUSAL,), None),
        ("transformer-xl[causal=true]", "bytes", (), None),
    ],
)
def test_what_is_refused(model: str, task: str, settings: tuple[str, ...], said: str | None) -> None:
    (run,) = sweeps.runs(Request(model, task, "quick", settings=settings))
    if said is None:
        refuse(run)
        return
    with pytest.raises(ConfigError, match=said):
        refuse(run)


def test_a_causal_text_is_read_out_through_its_last_token_unless_asked_otherwise() -> None:
    (run,) = sweeps.runs(Request("linear", "listops", "quick", settings=(CAUSAL,)))
    assert run.recipe.backbone.pool == "last"
    (run,) = sweeps.runs(Request("linear", "listops", "quick", settings=(CAUSAL, "backbone.pool=mean")))
    assert run.recipe.backbone.pool == "mean"


def test_parts_of_a_text_double() -> None:
    assert lengths.parts(128, 512) == [0, 16, 32, 64, 128, 256, 512]
    assert lengths.parts(4, 4) == [0, 1, 2, 4]


def test_longer_windows_are_of_the_text_that_is_test_at_its_own_length(tmp_path: Path) -> None:
    """Those before it were trained on; in the same bytes there are fewer, and of a longer one none."""
    (tmp_path / "train.txt").write_text(TEXT)
    for name in ("bytes", "masked-lm"):
        task = tasks.load(name).model_copy(
            update={"folder": str(tmp_path), "length": 16, "splits": {"train": 64, "val": 8, "test": 8}}
        )
        own = data.prepare(task).splits["test"].tokens.tobytes()
        longer = lengths._at(task, 48, ())
        assert longer.splits == {"train": 1, "val": 1, "test": 2}
        if name == "bytes":
            found = data.prepare(longer).splits["test"].tokens
            assert all(window.tobytes() in own for window in found)
        with pytest.raises(TaskError, match=r"test has 128 symbols, no window of 200"):
            lengths._at(task, 200, ())


@pytest.mark.parametrize(
    ("model", "bound"),
    [
        ("routing", "bound to L = 16: blocks.mixer.centroids"),
        ("routing[clusters=4]", None),
        ("linear", None),
        ("linformer", "bound to L = 16: "),
    ],
)
def test_what_is_learned_for_one_length_has_no_score_at_another(model: str, bound: str | None) -> None:
    """`routing`'s centroids are learned without a gradient; as many as another length has would be drawn at random."""
    settings = ("backbone.positions=none", "task.length=16")
    (run,) = sweeps.runs(Request(model, "parity", "quick", settings=(*settings, "task.args.min_length=8")))
    made = abstract(model_spec(run))
    kept: Any = SimpleNamespace(run=run, params=nnx.state(made, nnx.Param), rest=nnx.state(made, nnx.Not(nnx.Param)))
    assert lengths._bound(run, kept) is None
    longer = run.model_copy(update={"task": run.task.model_copy(update={"length": 256})})
    said = lengths._bound(longer, kept)
    assert said is None if bound is None else (said or "").startswith(bound)


@pytest.mark.parametrize("name", ["state-tracking", "parity"])
def test_words_of_a_greater_length_are_longer_than_any_that_was_trained_on(name: str) -> None:
    """And asked alone where no such word has a place; at a smaller length they are as before."""
    task = tasks.load(name, variant="quick").model_copy(update={"splits": {"train": 8, "val": 8, "test": 64}})
    longer = lengths._at(task, 60, ())
    test = data.prepare(longer).splits["test"]
    assert test.lengths.min() > task.length
    if test.label.ndim == 2:
        asked = lengths._beyond(longer, test, task.length).label
        assert not asked[:, : task.length].any()
        assert (asked[:, task.length :] == test.label[:, task.length :]).all()
        assert (asked > 0).any(axis=1).all()
    shorter = lengths._at(task, task.length - 1, ())
    assert shorter.args == task.args
    assert lengths._beyond(shorter, test, task.length) is test


def test_a_length_that_does_not_fit_costs_no_score_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the result: of what was trained to its end nothing is lost by a further test."""
    (tmp_path / "train.txt").write_text(TEXT)
    (run,) = sweeps.runs(Request("linear", "bytes", "quick", settings=(CAUSAL, f"task.folder={tmp_path}")))
    sizes = {"length": 16, "splits": {"train": 64, "val": 8, "test": 8}, "test_lengths": [32, 48]}
    trained: Any = SimpleNamespace(run=run.model_copy(update={"task": run.task.model_copy(update=sizes)}))
    failed = {48: RunFailed("no room", "oom"), 32: JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")}

    def read(run: Run, *_: Any) -> dict[str, float]:
        if run.task.length in failed:
            raise failed[run.task.length]
        return {"0": 1.0}

    said: list[str] = []
    for name, double in (("_bound", lambda *_: None), ("_of_parts", read), ("_read", read)):
        monkeypatch.setattr(lengths, name, double)

    def tell(event: str, **facts: Any) -> None:
        said.append(facts["said"])

    assert json.loads(str(lengths.by_place(trained, data.silent, tell))) == {"0": 1.0}
    assert json.loads(str(lengths.scores(trained, data.silent, tell))) == {"32": None, "48": None}
    assert said == [
        "no scores by place at L = 48: no room",
        "no scores by place at L = 32: it does not fit in memory",
        "no score at L = 32: it does not fit in memory",
        "no score at L = 48: no room",
    ]
    monkeypatch.setattr(lengths.distributed, "several", lambda: True)
    with pytest.raises(JaxRuntimeError):
        lengths.by_place(trained, data.silent, tell)
    failed[32] = ValueError("a fault of ours")
    with pytest.raises(ValueError, match="a fault of ours"):
        lengths.by_place(trained, data.silent, tell)


@pytest.mark.slow
def test_a_run_of_the_next_byte_has_its_scores_by_place_and_writes(lra: Lra, here: Path) -> None:
    (here / "texts").mkdir()
    (here / "texts/train.txt").write_text(TEXT)
    (here / "tasks/next.yaml").write_text(NEXT)
    asked = ("--set", "task.folder=texts", "--set", CAUSAL, "--set", "backbone.positions=rotary")
    done = lra("run", "-m", "softmax", "-t", "next", "-c", "tiny", *asked, "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    parts, at = json.loads(row["test_by_place"]), json.loads(row["test_at"])
    assert list(parts) == ["0", "2", "4", "8", "16"]
    assert at["200"] is None
    assert "no score at L = 200: test has 128 symbols, no window of 200" in done.stderr
    widths = (2, 2, 4, 8, 16)
    mean = sum(width * score for width, score in zip(widths, parts.values(), strict=True)) / sum(widths)
    assert mean == pytest.approx(at["32"], rel=1e-4)
    assert row["state_bytes"] == 2 * 16 * 16 * 4 + 4, "keys and values, and a place"
    name = f"softmax-next-tiny-s0-{row['run']}"
    said = ("generate", name, "--prompt", "00", "-n", "9")
    one, two = (json.loads(lra(*said, "--json").stdout) for _ in range(2))
    assert one["written"] == two["written"]
    assert one["tokens"] == 9
    assert lra(*said).stdout.strip()
    drawn = {lra(*said, "--temperature", "5", "--seed", str(seed)).stdout for seed in range(3)}
    assert len(drawn) == 3
    for flag in ("--top-k", "--seed"):
        ignored = lra(*said, flag, "1")
        assert (ignored.returncode, f"{flag}: is of --temperature" in ignored.stderr) == (2, True)
    assert lra(*said, "--temperature", "1", "--seed", str(2**70)).returncode == 2
    assert lra(*said, "--temperature", "nan").returncode == 2
    empty = lra("generate", name, "--prompt", "")
    assert (empty.returncode, empty.stderr.strip()[-40:]) == (2, "lra: --prompt: at least one symbol"[-40:])
