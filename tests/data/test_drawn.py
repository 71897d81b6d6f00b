"""The diagnostics: drawn from a seed for ever the same, none twice, their labels what their texts say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lra_bench import data
from lra_bench.config import Overlay, tasks
from lra_bench.data import cache, generated, silent
from lra_bench.data.generated import Dice
from lra_bench.data.sources.synthetic import multi_query
from lra_bench.errors import DataError, TaskError

COUNTS = {"train": 30, "val": 10, "test": 20}
# A task for each source and each of its forms, its args made small, and the first digits of what they give.
KNOWN = {
    "parity": ({"min_length": 5}, 24, "2b48fe2f191a"),
    "needle": ({"distance": None, "decoys": True}, 24, "2c8c738c25ca"),
    "induction-heads": ({"letters": 6}, 24, "9b29f573da48"),
    "recall-one": ({"pairs": 6, "values": 4}, 24, "7f6e61c8f1d9"),
    "mqar": ({"vocab": 16, "pairs": 5, "alpha": 0.01}, 24, "9f82c939a2bf"),
    "cross-recall": ({"vocab": 16, "pairs": 5}, 24, "45cc8299110f"),
    "copy": ({"symbols": 5}, 24, "12b35600749d"),
    "selective-copy": ({"symbols": 5}, 24, "c229267286ed"),
    "memorize": ({"vocab": 16}, 24, "ebc164b3cb6e"),
    "compress": ({"vocab": 8}, 24, "e4e21d7d2312"),
    "in-context-recall": ({"vocab": 8}, 24, "cb24f6e0ec76"),
    "noisy-recall": ({"vocab": 8}, 24, "4d9ce029c4df"),
    "fuzzy-recall": ({"motif": 2}, 24, "59a8e9450890"),
    "state-tracking": ({"min_length": 5}, 24, "c06746c5280d"),
    "adding": ({}, 24, "0536b14f0df7"),
}


@pytest.fixture(params=KNOWN)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _alone(alone: None) -> None:
    """No other process does the work."""


def made(name: str, seed: int = 0, counts: dict[str, int] = COUNTS) -> tuple[Any, Any, dict[str, data.Split]]:
    args, length, _ = KNOWN[name]
    task = tasks.load(name, settings=[Overlay("test", {"args": args, "length": length})])
    source, typed = data.load(task.source), data.arguments(task)
    return source, typed, source.build(typed, length, counts, seed, None, silent)


def test_every_drawn_source_is_here() -> None:
    drawn = {source for source in data.names() if isinstance(data.load(source), generated.Drawn)}
    assert drawn == {tasks.load(name).source for name in KNOWN}


def test_the_bytes_are_the_same_for_ever(name: str) -> None:
    """If this fails, rows that stand compare with nothing: raise the source's VERSION, or undo it."""
    assert cache.content_of(made(name)[2])[:12] == KNOWN[name][2]


def test_labels_are_what_the_texts_say(name: str) -> None:
    source, args, built = made(name)
    for split in built.values():
        for tokens, label in zip(split.tokens, split.label, strict=True):
            source.check(args, tokens, label)
            with pytest.raises(DataError, match=r"its label is given as \d+ and is \d+"):
                source.check(args, tokens, label + 1)


def test_a_text_that_is_none_is_refused(name: str) -> None:
    source, args, built = made(name)
    turned = built["test"].tokens[0, :, ::-1]
    for broken in (turned[:, :4], np.ones_like(turned[:, :3])):
        with pytest.raises(DataError):
            source.check(args, broken, -1)


def test_no_text_stands_twice_and_splits_are_apart(name: str) -> None:
    _, _, built = made(name)
    rows = [tokens.tobytes() for split in built.values() for tokens in split.tokens]
    assert len(set(rows)) == len(rows) == sum(COUNTS.values())


def test_a_longer_train_leaves_the_others_alone(name: str) -> None:
    _, _, built = made(name)
    _, _, longer = made(name, counts={**COUNTS, "train": 50})
    for split in ("val", "test"):
        assert np.array_equal(built[split].tokens, longer[split].tokens)
    assert np.array_equal(built["train"].tokens, longer["train"].tokens[:30])
    _, _, other = made(name, seed=1)
    assert not np.array_equal(built["test"].tokens, other["test"].tokens)


def test_labels_are_balanced(name: str) -> None:
    _, _, built = made(name, counts={"train": 4000})
    classes = tasks.load(name, settings=[Overlay("test", {"args": KNOWN[name][0]})]).classes
    label = built["train"].label
    if label.dtype == np.float32:
        assert abs(label.mean() - 0.99) < 5 * label.std() / np.sqrt(4000)
        return
    label = label[:, :-1] if name == "compress" else label  # its last symbol is the sign
    asked = label[label > 0] if label.ndim == 2 else label
    counts = np.bincount(asked)
    shares = counts[counts > 0] / len(asked) if label.ndim == 2 else counts / 4000
    assert len(counts) - (label.ndim == 2) <= classes
    assert abs(shares - 1 / len(shares)).max() < 5 * np.sqrt(1 / len(shares) / 4000)


def test_they_are_what_verify_wants_as_they_ship(name: str) -> None:
    small = [Overlay("test", {"splits": COUNTS})]
    for variant in (None, "quick"):
        checks = data.verify(tasks.load(name, variant=variant, settings=small))
        assert [check for check in checks if not check.ok] == []


def test_files_are_refused(name: str, tmp_path: Any) -> None:
    task = tasks.load(name, settings=[Overlay("test", {"folder": str(tmp_path)})])
    with pytest.raises(DataError, match="these examples are generated, nobody has released files of them"):
        data.prepare(task)


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("parity", {"length": 99}, "args.min_length: 100, more than length 99"),
        ("needle", {"args": {"distance": 99}, "length": 100}, "args.distance: 99; .* length 100 it can be 1 to 98"),
        ("needle", {"args": {"distance": "9-99"}, "length": 100}, "args.distance: 99; .* length 100 it can be 1 to 98"),
        ("needle", {"args": {"distance": "9-4"}, "length": 100}, "args.distance: from 9 to 4; the first is the least"),
        ("needle", {"args": {"distance": "0-4"}, "length": 100}, "args.distance: a number of places as 16, or two as"),
        ("induction-heads", {"length": 2}, "length: 2; at least 3"),
        ("recall-one", {"length": 128}, "args.pairs: 64; with the question they do not fit length 128"),
        ("mqar", {"length": 15}, "args.pairs: 4; with their queries they do not fit length 15"),
        ("mqar", {"args": {"vocab": 8}}, "args.pairs: 4; of args.vocab 8 only 3 are keys"),
        ("cross-recall", {"length": 31}, "args.pairs: 16; they do not fit length 31"),
        ("cross-recall", {"args": {"vocab": 8}}, "args.pairs: 16; of args.vocab 8 only 3 are keys"),
        ("copy", {"length": 20}, "args.symbols: 10; twice, with the sign, they do not fit length 20"),
        ("memorize", {"length": 31}, "length: 31; keys and signs take an even number"),
        ("compress", {"length": 1}, "length: 1; at least 2"),
        ("in-context-recall", {"length": 9}, "length: 9; pairs take an even number, 4 at least"),
        ("fuzzy-recall", {"length": 11}, "args.motif: 3; two pairs do not fit length 11"),
        ("fuzzy-recall", {"args": {"vocab": 6}}, "args.motif: 3; of args.vocab 6 only 2 are of keys"),
        ("state-tracking", {"length": 2}, "args.min_length: 3, more than length 2"),
        ("parity", {"args": {"min_length": 1}, "length": 2}, "60 examples are asked for, 6 were found"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(name: str, changed: dict[str, Any], message: str) -> None:
    task = tasks.load(name, settings=[Overlay("test", {"splits": COUNTS, **changed})])
    with pytest.raises(TaskError, match=message):
        data.prepare(task)


def test_the_needle_lies_where_it_is_asked_to() -> None:
    task = tasks.load("needle", settings=[Overlay("test", {"args": {"distance": 7}, "length": 24, "splits": COUNTS})])
    built = data.prepare(task).splits["test"]
    source, args = data.load("needle"), data.arguments(task)
    text = source.decode(built.tokens[0, 0]).split()
    assert text[-1 - 7 - 1] == "#"
    with pytest.raises(DataError, match="its needle lies 7 from the question, not 8 to 8"):
        source.check(args.model_copy(update={"distance": 8}), built.tokens[0], int(built.label[0]))


def test_the_noise_has_digits_where_it_is_asked_to() -> None:
    settings = [Overlay("test", {"args": {"decoys": False}, "length": 24, "splits": COUNTS})]
    task = tasks.load("needle", settings=settings)
    source, built = data.load("needle"), data.prepare(task).splits["test"]
    texts = [source.decode(tokens[0]).split() for tokens in built.tokens]
    assert {sum(symbol.isdigit() for symbol in text) for text in texts} == {1}
    assert {symbol for text in texts for symbol in text} >= set("abcxyz")
    tokens = built.tokens[0].copy()
    free = next(n for n, symbol in enumerate(texts[0]) if symbol.isalpha())
    tokens[0, free] = source.encode("7")[0]
    with pytest.raises(DataError, match="it holds more digits than its needle"):
        source.check(data.arguments(task), tokens, int(built.label[0]))


def test_the_needle_lies_between_two_distances() -> None:
    """Each of them comes, and none else; a text of one beyond them is refused."""
    settings = [Overlay("test", {"args": {"distance": "5-8"}, "length": 24, "splits": COUNTS})]
    built = data.prepare(tasks.load("needle", settings=settings)).splits["test"]
    source = data.load("needle")
    texts = [source.decode(tokens[0]).split() for tokens in built.tokens]
    assert {len(text) - 2 - text.index("#") for text in texts} == {5, 6, 7, 8}
    far = next(n for n, text in enumerate(texts) if text[-1 - 8 - 1] == "#")
    args = data.arguments(tasks.load("needle")).model_copy(update={"distance": "5-7"})
    with pytest.raises(DataError, match="its needle lies 8 from the question, not 5 to 7"):
        source.check(args, built.tokens[far], int(built.label[far]))


def test_queries_come_soon_by_a_power_law() -> None:
    """Against NumPy's own choice without replacement, by the weights of arXiv 2312.04927's code."""
    pairs, places, texts = 3, 8, 4000
    weights = np.arange(1, places + 1) ** (0.01 - 1.0)
    drawn = multi_query.gaps(Dice(0, 0), multi_query.power_law(places, 0.01), (texts, pairs))
    assert all(len(set(row)) == pairs for row in drawn.tolist())
    draw = np.random.default_rng(0)
    expected = [draw.choice(places, pairs, replace=False, p=weights / weights.sum()) for _ in range(texts)]
    ours, theirs = (np.bincount(np.ravel(each), minlength=places) / texts for each in (drawn, expected))
    assert abs(ours - theirs).max() < 0.04
    first = np.bincount(drawn[:, 0], minlength=places) / texts
    assert abs(first - weights / weights.sum()).max() < 0.04


def test_different_integers_are_all_equally_likely() -> None:
    rows = Dice(0, 0).distinct(4, (6000, 2))
    counts = np.bincount(rows @ [4, 1], minlength=16).reshape(4, 4)
    assert counts.diagonal().tolist() == [0, 0, 0, 0]
    assert abs(counts[~np.eye(4, dtype=bool)] / 6000 - 1 / 12).max() < 0.02


def test_fewer_symbols_are_the_first_ones() -> None:
    small, large = (tasks.load("mqar", variant=variant) for variant in ("quick", None))
    assert data.vocabulary(large)[: len(data.vocabulary(small))] == data.vocabulary(small)
    assert [len(data.vocabulary(task)) for task in (small, large)] == [65, 8193]
    assert [data.asked(task) for task in (small, large, tasks.load("mqar", variant="zoology-512"))] == [4, 4, 64]
    assert data.asked(tasks.load("masked-lm")) == 1024
