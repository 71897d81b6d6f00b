"""Greedy decoding: each symbol is the one that a forward pass over the text so far finds likeliest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from samples import TINY

from lra_bench import sweeps
from lra_bench.config import Run
from lra_bench.errors import ConfigError, RunFailed, TaskError
from lra_bench.metrics import sentence_chrf
from lra_bench.model import EncoderDecoder, writing
from lra_bench.records import store
from lra_bench.runs import build, execute, scoring
from lra_bench.shapes import Split
from lra_bench.sweeps import Request
from lra_bench.training import trainer
from lra_bench.training.greedy import BROKEN, written
from lra_bench.training.program import Program

pytest.importorskip("sacrebleu")

L = 10
TASK = """\
title: Words backward
source: translation
args: {source: source, target: target, header: true, quoted: false}
folder: ..
length: 10
classes: 257
streams: 2
interaction: cross
target: growing
splits: {train: 40, val: 6, test: 11}
metric: chrf
"""
silent = lambda *_, **__: None  # noqa: E731


Made = tuple[Run, Program, dict[str, Split]]


@pytest.fixture(scope="module")
def stand_here(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Path]:
    """In a folder that has words and the same words backward."""
    here = tmp_path_factory.mktemp("here")
    for kind, name, text in (("configs", "tiny", TINY), ("tasks", "backward", TASK)):
        (here / kind).mkdir()
        (here / kind / f"{name}.yaml").write_text(text)
    words = [f"w{i:02d}"[: 2 + i % 2] + chr(97 + i % 26) * (i % 5) for i in range(80)]
    lines = [f"{word}\t{word[::-1]}\n" for word in dict.fromkeys(words)]
    (here / "train.tsv").write_text("".join(["source\ttarget\n", *lines]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setenv("LRA_CACHE", str(cache))
        yield here


@pytest.fixture(scope="module")
def made(stand_here: Path) -> Made:
    """A run on them, its program and its examples."""
    (run,) = sweeps.runs(Request("softmax", "backward", "tiny", settings=("backbone.embedding_std=1.0",)))
    splits, _ = build.examples(run, silent)
    return run, build.built(run, splits["train"]), splits


def test_a_text_goes_on_from_what_is_written_and_stops_at_its_end() -> None:
    """Here the state counts symbols, and the next one is twice the last: 8 ends it, and 5 is answered by no number."""

    def after(count: jax.Array, last: jax.Array) -> tuple[jax.Array, jax.Array]:
        return count + 1, jnp.where(last[:, None] == 5, jnp.nan, jax.nn.one_hot(2 * last - 1, 12))

    text = np.asarray(written(after, jnp.int32(0), jnp.array([1, 3, 5, 4]), 5, 8))
    assert text.tolist() == [[2, 4, 8, 0, 0], [6, 12, 1, 2, 4], [BROKEN, 0, 0, 0, 0], [8, 0, 0, 0, 0]]


def test_from_a_state_and_over_the_text_it_is_the_same(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    run, program, splits = made
    state, test = program.init, splits["test"]
    found = trainer.answers(program, state.params, state.rest, test, silent, "test")

    def refuse(model: EncoderDecoder) -> None:
        raise ConfigError("does not decode")

    monkeypatch.setattr(writing, "refuse", refuse)
    other = replace(program)
    assert (trainer.answers(other, state.params, state.rest, test, silent, "test") == found).all()


def test_each_symbol_is_the_likeliest_after_those_before_it(made: Made) -> None:
    """The text that was written, given to the forward pass as a whole: what it finds likeliest is that text."""
    run, program, splits = made
    params, rest, test = program.init.params, program.init.rest, splits["test"]
    texts = trainer.answers(program, params, rest, test, silent, "test")
    assert texts.shape == (11, L)
    assert len({tuple(text) for text in texts.tolist()}) > 1, "it looks at the source"
    given = np.concatenate([test.tokens[:, 1, :1], np.where(texts > 0, texts, 0)[:, :-1]], 1)
    tokens = np.stack([test.tokens[:, 0], given], 1).astype(np.int32)
    logits = program.answers({}, params, rest, tokens, tokens > 0)
    asked = texts > 0
    assert (np.asarray(logits.argmax(-1) + 1)[asked] == texts[asked]).all()


def test_scores_are_those_of_the_texts(made: Made, tmp_path: Path) -> None:
    import sacrebleu

    run, program, splits = made
    reader, test = program.objective.texts, splits["test"]
    assert reader is not None
    asked = reader.of(test.label)
    sources = [reader.decode(tokens) for tokens in test.tokens[:, 0]]
    assert asked == [source[::-1] for source in sources]
    right = np.asarray(test.label, np.int32)
    assert program.objective.scores(right, test.label).tolist() == [1.0] * len(test)
    half = np.where(np.arange(len(right))[:, None] % 2, np.roll(right, 1, 0), right)
    wrote = [reader.decode(ids) for ids in half]
    assert program.objective.scores(half, test.label) == pytest.approx(sentence_chrf(wrote, asked))
    facts = scoring.of_texts(program, [half], [test], tmp_path)
    assert facts["bleu"] == pytest.approx(sacrebleu.corpus_bleu(wrote, [asked]).score)
    kept = store.read_json(tmp_path / "texts.json")
    assert kept[1] == {"source": sources[1], "asked": asked[1], "written": wrote[1]}
    assert facts["exact_match"] == np.mean([one == other for one, other in zip(wrote, asked, strict=True)])


def test_logits_that_are_not_finite_are_a_failed_evaluation(made: Made) -> None:
    run, program, splits = made
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, program.init.params)
    with pytest.raises(RunFailed, match="val: the logits of 6 of 6 examples are not finite"):
        trainer.evaluate(program, broken, program.init.rest, splits["val"], silent, "val")


def test_texts_are_of_targets_that_grow_and_end(stand_here: Path) -> None:
    with pytest.raises(TaskError, match=r"metric: chrf: of written texts: interaction: cross and target: growing"):
        sweeps.runs(Request("softmax", "backward", "tiny", settings=("task.target=whole",)))
    with pytest.raises(TaskError, match=r"metric: chrf: its source has no END"):
        build.built(
            sweeps.runs(Request("softmax", "cross-recall@quick-growing", "tiny", settings=("task.metric=chrf",)))[0]
        )


@pytest.mark.slow
def test_a_run_is_ranked_by_chrf_and_has_the_other_scores_beside(made: Made, tmp_path: Path) -> None:
    from lra_bench.measure.clocks import Stopwatch
    from lra_bench.report.summary import of_texts

    run, _, splits = made
    folder = tmp_path / "results/runs/one"
    folder.mkdir(parents=True)
    result = execute.execute(run, folder, silent, lambda step: False, Stopwatch(), fresh=True)
    assert result.metric == "chrf"
    assert 0 <= result.test_score <= 1
    assert result.test_n == 11
    assert list(of_texts.heads(result.as_dict())) == ["exact match %", "BLEU", "corpus chrF"]
