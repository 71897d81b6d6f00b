"""Scores of written texts, held against sacrebleu called directly."""

from __future__ import annotations

import numpy as np
import pytest

from lra_bench.metrics import CHRF, of_corpus, sentence_chrf

sacrebleu = pytest.importorskip("sacrebleu")

ASKED = ["the cat sat on the mat", "a dog", "né à Paris", "one two three four"]
WRITTEN = ["the cat sat on a mat", "a dog", "", "one two \ufffd four five"]


def test_a_text_is_scored_by_its_own_chrf_and_all_together_as_a_corpus() -> None:
    each = [sacrebleu.sentence_chrf(one, [other]).score for one, other in zip(WRITTEN, ASKED, strict=True)]
    found = sentence_chrf(WRITTEN, ASKED)
    assert found.dtype == np.float32
    assert found * 100 == pytest.approx(each)
    assert found[1] == 1
    assert found[2] == 0
    assert of_corpus(WRITTEN, ASKED) == pytest.approx(
        {
            "exact_match": 0.25,
            "bleu": sacrebleu.corpus_bleu(WRITTEN, [ASKED]).score,
            "chrf": sacrebleu.corpus_chrf(WRITTEN, [ASKED]).score,
        }
    )
    assert of_corpus(WRITTEN, ASKED)["chrf"] != pytest.approx(np.mean(each), abs=1), "no mean over texts"


def test_chance_is_one_text_for_all_and_the_best_of_the_commonest() -> None:
    texts = ["abcd", "abcd", "abxd", "zzzz", "abcd", "yy"]
    of_each = {text: np.mean([sacrebleu.sentence_chrf(text, [one]).score for one in texts]) / 100 for text in texts}
    assert CHRF.chance(np.array(texts, object)) == pytest.approx(max(of_each.values()))
    assert max(of_each, key=of_each.__getitem__) == "abcd"
