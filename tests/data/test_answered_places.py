"""Tasks that are answered at places of a text: what they ask, how often, and what one symbol, always named, gets."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import numpy as np
import pytest

from lra_bench import data
from lra_bench.config import Overlay, TaskSpec, tasks
from lra_bench.data import generated
from lra_bench.data.sources.synthetic import group_words, memorization
from lra_bench.errors import TaskError
from lra_bench.metrics import METRICS, TOKEN_ACCURACY
from lra_bench.shapes import Split

COUNTS = {"train": 300, "val": 100, "test": 400}
CHANCE = {  # what one symbol, always named, gets of each task as it ships, to within TOLERANCE
    "mqar": 0.0,
    "cross-recall": 0.0,
    "copy": 1 / 8,
    "selective-copy": 1 / 14,
    "memorize": 1 / 127,
    "compress": 31 / 32 / 15,
    "in-context-recall": 1 / 8,
    "noisy-recall": 1 / 8,
    "fuzzy-recall": 1 / 8,
    "state-tracking": 1 / 120,
}
TOLERANCE = 0.03


@pytest.fixture(autouse=True)
def _alone(alone: None) -> None:
    """No other process does the work."""


@pytest.fixture(params=CHANCE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def asked_of(name: str, variant: str | None = None, **values: Any) -> tuple[TaskSpec, dict[str, Split]]:
    task = tasks.load(name, variant=variant, settings=[Overlay("test", {"splits": COUNTS, **values})])
    return task, data.prepare(task).splits


def test_every_task_of_that_kind_is_here() -> None:
    assert {name for name in tasks.names() if tasks.load(name).metric == TOKEN_ACCURACY.name} == set(CHANCE)


def test_one_symbol_always_named_gets_the_chance_level(name: str) -> None:
    task, splits = asked_of(name)
    assert METRICS[task.metric].chance(splits["test"].label) == pytest.approx(CHANCE[name], abs=TOLERANCE)


def test_no_text_asks_at_more_places_than_its_source_says_and_one_at_as_many(name: str) -> None:
    task, splits = asked_of(name)
    counts = np.concatenate([(split.label > 0).sum(1) for split in splits.values()])
    assert counts.min() > 0
    assert counts.max() <= data.asked(task)
    if name not in ("in-context-recall", "noisy-recall", "fuzzy-recall"):  # by chance all keys of a text come again
        assert counts.max() == data.asked(task)


def test_a_symbol_is_asked_for_where_there_is_a_text(name: str) -> None:
    _, splits = asked_of(name)
    assert all(((split.label == 0) | (split.tokens[:, -1] > 0)).all() for split in splits.values())


@pytest.mark.parametrize("task", sorted(CHANCE))
def test_every_variant_can_be_made(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "MOST", 32)
    for variant in tasks.variants(task):
        spec = tasks.load(task, variant=variant)
        source, args = data.of(spec), data.arguments(spec)
        source._module.fits(args, spec.length)  # type: ignore[attr-defined]
        symbols = data.vocabulary(spec)
        assert spec.classes < len(symbols)
        made, _ = source._module.draw(args, spec.length, 0, 0)  # type: ignore[attr-defined]
        assert made.tokens.max() < len(symbols)
        assert made.label.max() <= spec.classes
        assert made.lengths.max() <= spec.length


def test_the_map_is_the_same_in_all_texts_and_by_all_seeds() -> None:
    known: dict[int, int] = {}
    for seed in (0, 1):
        _, splits = asked_of("memorize", seed=seed)
        for split in splits.values():
            for tokens, label in zip(split.tokens[:, 0], split.label, strict=True):
                for key, value in zip(tokens[::2].tolist(), label[1::2].tolist(), strict=True):
                    assert known.setdefault(key, value) == value
    assert len(known) == len(set(known.values())) == 127
    assert len(memorization.values_of_keys(8192)) == 4095


def test_training_texts_show_nearly_all_keys_of_a_small_map_and_not_of_a_large_one() -> None:
    def share(variant: str | None, keys: int) -> float:
        spec = tasks.load("memorize", variant=variant, settings=[Overlay("test", {"splits": {"val": 1, "test": 1}})])
        return len(np.unique(data.prepare(spec).splits["train"].tokens[:, 0, ::2])) / keys

    assert share(None, 127) == 1
    assert 0.6 < share("vocab-8192", 4095) < 0.66  # 1 - 1/e


def test_noise_has_its_share_of_the_pairs_and_leaves_one() -> None:
    task, splits = asked_of("noisy-recall", variant="noise-80")
    words = [data.of(task).decode(tokens).split()[::2] for tokens in splits["test"].tokens[:, 0]]
    share = np.mean([[word[0] == "n" for word in text] for text in words])
    assert share == pytest.approx(0.8 * 62 / 64, abs=0.02)
    assert all(sum(word[0] == "k" for word in text) >= 2 for text in words)


def test_keys_of_train_may_be_shorter_than_those_that_are_tested() -> None:
    task, splits = asked_of("fuzzy-recall")

    def sizes(split: str) -> set[int]:
        texts = [data.of(task).decode(tokens).split() for tokens in splits[split].tokens[:, 0]]
        runs = [itertools.groupby(text, key=lambda word: word[0]) for text in texts]
        return {len(list(run)) for each in runs for kind, run in each if kind == "k"}

    assert (sizes("train"), sizes("val"), sizes("test")) == ({1, 2, 3}, {3}, {3})


@pytest.mark.parametrize("group", get_args(group_words.Group))
def test_a_group_is_one(group: group_words.Group) -> None:
    table = group_words.products(group)
    each = np.arange(len(table))
    assert len(table) == {"Z2": 2, "Z5": 5, "S3": 6, "A5": 60, "S5": 120}[group]
    assert (table[0] == each).all()
    assert (table[:, 0] == each).all()
    assert (np.sort(table, axis=0) == each[:, None]).all()
    assert (np.sort(table, axis=1) == each).all()
    a, b, c = np.random.default_rng(0).integers(0, len(table), (3, 200))
    assert (table[table[a, b], c] == table[a, table[b, c]]).all()
    assert (table == table.T).all() == (group[0] == "Z")


@pytest.mark.parametrize(("variant", "modulus"), [("parity", 2), ("mod-5", 5)])
def test_the_state_of_a_cyclic_group_is_a_sum(variant: str, modulus: int) -> None:
    _, splits = asked_of("state-tracking", variant=variant)
    tokens, label = splits["test"].tokens[:, 0].astype(int), splits["test"].label.astype(int)
    sums = np.where(tokens > 0, tokens - 1, 0).cumsum(axis=1) % modulus
    assert (label == np.where(tokens > 0, 1 + sums, 0)).all()


def test_answers_through_a_bottleneck_are_of_places() -> None:
    with pytest.raises(TaskError, match="bottleneck: true, and by the metric accuracy no place is answered"):
        tasks.load("listops", settings=[Overlay("test", {"bottleneck": True})])
