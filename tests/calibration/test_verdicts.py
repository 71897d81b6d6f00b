"""Each verdict, of made-up results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lra_bench import calibration
from lra_bench.calibration import Verdict
from lra_bench.calibration.verdicts import Outcome
from lra_bench.config import calibration as files
from lra_bench.config.calibration import Check
from lra_bench.errors import ConfigError
from lra_bench.records import fingerprint, store
from lra_bench.sweeps import Entrant, entrants

CHECK = """\
title: Known
reference: nobody
differs: nothing
failure: this test
config: tiny
rates: [1.0e-2, 2.0e-2]
seeds: "{seeds}"
arms:
  ours: {{models: linear, task: short}}
  theirs: {{models: linformer, task: short}}
expectations:
  - {{arm: ours, claim: it is so, {expected}}}
"""
ALIKE = (0.0, 0.001, -0.001)  # what seeds differ by


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def written(expected: str, seeds: str = "0-2") -> tuple[Check, list[Entrant]]:
    Path("known.yaml").write_text(CHECK.format(expected=expected, seeds=seeds), encoding="utf-8")
    check = files.check("known.yaml")
    assert check is not None
    return check, entrants("known", check)


def put(entrant: Entrant, scores: Sequence[float], rate: float = 2e-2, **facts: Any) -> None:
    """Results of a entrant, by a learning rate that is best on validation; of the other with the first seed alone."""
    for other, runs in entrant.by_rate.items():
        for run, score in zip(runs, scores if other == rate else scores[:1], strict=False):
            known = {"val_score": 0.9 if other == rate else 0.1, "test_score": score, "test_n": 4000, "chance": 0.1}
            store.save(Path("results"), run, store.blank(run, "ok", **{**known, **facts}))


def told(expected: str, ours: Sequence[float], theirs: Sequence[float] = ALIKE, **facts: Any) -> Verdict:
    check, (first, second) = written(expected, "0-2" if len(ours) == 3 else "0")
    put(first, ours, **facts)
    put(second, theirs, **facts)
    (verdict,) = calibration.verdicts("known", check, [first, second], Path("results"))
    return verdict


def near(score: float) -> list[float]:
    return [score + apart for apart in ALIKE]


@pytest.mark.parametrize(
    ("expected", "ours", "theirs", "verdict"),
    [
        ("expect: at-chance, margin: 0.03", near(0.1), near(0.9), "reproduced"),
        ("expect: at-chance, margin: 0.03", near(0.5), near(0.9), "differs"),
        ("expect: at-chance, margin: 0.03", [0.0, 0.1, 0.2], near(0.9), "cannot be told"),
        ("expect: at-chance, margin: 0.03", [0.1], [0.9], "cannot be told"),
        ("expect: at-least, value: 0.9", near(0.95), near(0.1), "reproduced"),
        ("expect: at-least, value: 0.9", [0.95], [0.1], "reproduced"),
        ("expect: at-least, value: 0.9", near(0.5), near(0.1), "differs"),
        ("expect: at-least, value: 0.9", [0.5], [0.1], "cannot be told"),
        ("expect: at-least, value: 0.9", [0.8, 0.99, 0.9], near(0.1), "cannot be told"),
        ("expect: at-most, value: 0.5", near(0.4), near(0.1), "reproduced"),
        ("expect: at-most, value: 0.5", [0.4], [0.1], "cannot be told"),
        ("expect: at-most, value: 0.5", [0.6], [0.1], "differs"),
        ("expect: published, value: 0.8, examples: 100000, runs: 5, margin: 0.03", near(0.8), near(0.1), "reproduced"),
        ("expect: published, value: 0.8, examples: null, runs: null, margin: 0.03", near(0.7), near(0.1), "differs"),
        ("expect: published, value: 0.8, examples: 50, runs: 1, margin: 0.03", near(0.8), near(0.1), "cannot be told"),
        ("expect: better, than: theirs, by: 0.0", near(0.6), near(0.5), "reproduced"),
        ("expect: better, than: theirs, by: 0.2", near(0.6), near(0.5), "differs"),
        ("expect: better, than: theirs, by: 0.0", near(0.5), near(0.5), "cannot be told"),
        ("expect: better, than: theirs, by: 0.0", [0.51], [0.5], "cannot be told"),
        ("expect: same, than: theirs, margin: 0.05", near(0.6), near(0.6), "reproduced"),
        ("expect: same, than: theirs, margin: 0.05", near(0.6), near(0.4), "differs"),
        ("expect: same, than: theirs, margin: 0.05", [0.5, 0.7, 0.9], near(0.7), "cannot be told"),
    ],
)
def test_a_verdict(expected: str, ours: list[float], theirs: list[float], verdict: str) -> None:
    found = told(expected, ours, theirs)
    assert found.verdict == verdict, found
    assert (found.why is None) == (verdict == "reproduced")


THREE = """\
title: Known
reference: nobody
differs: nothing
failure: this test
config: tiny
rates: [1.0e-2]
seeds: "0"
arms:
  ours: {{models: linear, task: short}}
  theirs: {{models: linformer, task: short}}
  third: {{models: fnet, task: short, seeds: "0-2"}}
expectations:
  - {{arm: ours, expect: better, than: theirs, by: 0.0, claim: it is so}}
  - {{arm: third, claim: of the third, {third}}}
"""


def of_one_run_each(ours: float, theirs: float, third: Sequence[float], said: str) -> Verdict:
    """Beside an arm of three runs, of which something is said."""
    Path("known.yaml").write_text(THREE.format(third=said), encoding="utf-8")
    check = files.check("known.yaml")
    assert check is not None
    every = entrants("known", check)
    for entrant, scores in zip(every, ([ours], [theirs], third), strict=True):
        put(entrant, scores, 1e-2)
    return calibration.verdicts("known", check, every, Path("results"))[0]


ALONE = "one run each; nothing is known of other seeds"
EXAMPLES = 1.96 * (0.6 * 0.4 / 4000 + 0.4 * 0.6 / 4000) ** 0.5  # how far the interval reaches by hand, nearly


@pytest.mark.parametrize(
    ("third", "said"),
    [
        (near(0.2), "expect: at-most, value: 0.5"),
        (near(0.2), "expect: at-chance, margin: 0.03"),
        (near(0.1), "expect: at-least, value: 0.05"),  # it guesses, whatever is said of it
    ],
)
def test_an_arm_that_is_low_lends_no_spread_over_seeds(third: list[float], said: str) -> None:
    found = of_one_run_each(0.6, 0.4, third, said)
    assert (found.verdict, found.why) == ("reproduced", ALONE)
    assert found.low == pytest.approx(0.2 - EXAMPLES, rel=1e-3)
    less = of_one_run_each(0.4, 0.6, third, said)
    assert (less.verdict, less.why) == ("cannot be told", f"surely not; {ALONE}")
    alike = of_one_run_each(0.5, 0.5, third, said)
    assert (alike.verdict, alike.why) == ("cannot be told", f"the interval holds both; {ALONE}")


def test_an_arm_that_learned_lends_its_spread_over_seeds() -> None:
    found = of_one_run_each(0.6, 0.4, [0.6, 0.7, 0.8], "expect: at-least, value: 0.05")
    assert (found.verdict, found.why) == ("cannot be told", "the interval holds both")
    assert (found.low or 0.0) < -0.1


def test_an_arm_that_learns_in_one_run_of_three_is_none_that_guesses() -> None:
    found = of_one_run_each(0.6, 0.4, [0.1, 0.1, 0.9], "expect: at-least, value: 0.05")
    assert (found.verdict, found.why) == ("cannot be told", "the interval holds both")


def test_an_arm_that_is_low_counts_with_its_own_runs() -> None:
    found = told("expect: better, than: theirs, by: 0.0", near(0.6), [0.05, 0.1, 0.15])
    assert found.why is None
    assert (found.low or 0.5) < 0.45, "theirs scatters by 5 points"


def test_three_runs_that_guess_lend_nothing_to_the_one_beside_them_and_have_their_own_error() -> None:
    check, (first, second) = written("expect: better, than: theirs, by: 0.0", "0-2")
    ours = Entrant({rate: runs[:1] for rate, runs in first.by_rate.items()}, first.check, first.arm, first.model)
    put(ours, [0.6])
    put(second, [0.05, 0.1, 0.15])
    (found,) = calibration.verdicts("known", check, [ours, second], Path("results"))
    assert (found.verdict, found.why) == ("reproduced", "of these runs alone; nothing is known of other seeds")
    assert (found.low or 0.5) < 0.5 - 4.3 * 0.05 / 3**0.5 + 0.1, "t(0.975, 2) = 4.3 standard errors of theirs, nearly"


def test_validation_chooses_the_rate_and_other_seeds_follow_it() -> None:
    check, (entrant, other) = written("expect: at-chance, margin: 0.03")
    results = Path("results")
    assert entrant.chosen(results) is None
    assert [run.seed for run in entrant.expected(results)] == [0, 0, 1, 2]
    put(entrant, [0.1])
    assert entrant.chosen(results) == 2e-2
    assert {run.recipe.optimizer.lr for run in entrant.seeds(results)} == {2e-2}
    (verdict,) = calibration.verdicts("known", check, [entrant, other], results)
    assert (verdict.verdict, verdict.why) == ("cannot be told", "2 of 4 runs are left")


def test_a_run_that_failed_is_no_evidence() -> None:
    check, (entrant, other) = written("expect: at-chance, margin: 0.03")
    for runs in entrant.by_rate.values():
        store.save(Path("results"), runs[0], store.blank(runs[0], "nan", "at step 3"))
    (verdict,) = calibration.verdicts("known", check, [entrant, other], Path("results"))
    assert (verdict.verdict, verdict.why) == ("cannot be told", "failed: nan")


def test_a_score_at_another_length() -> None:
    longer = '{"40": 0.2, "80": null}'
    check, (entrant, other) = written("expect: at-chance, margin: 0.03")
    put(entrant, near(0.1), test_at=longer)
    at = [one.model_copy(update={"arm": f"ours@{length}"}) for one in check.expectations for length in (40, 80)]
    told_at = calibration.verdicts(
        "k", check.model_copy(update={"expectations": at}), [entrant, other], Path("results")
    )
    assert [(one.verdict, one.why) for one in told_at] == [
        ("differs", "differs by at least 8.8"),
        ("cannot be told", "not tested at length 80"),
    ]


def test_a_page_names_all_that_a_reader_asks_for() -> None:
    check, every = written("expect: at-least, value: 0.9")
    put(every[0], near(0.95))
    verdicts = calibration.verdicts("known", check, every, Path("results"))
    page = calibration.page({"known": check, "other": check}, verdicts, {"other": "no examples"})
    for said in ("it is so", "95.0 (", "0.02", "Known from: nobody", "would mean: this test", "Skipped: no examples"):
        assert said in page


def row_of(page: str) -> dict[str, str]:
    """The page's first verdict, by the heads of its table."""
    heads, _, row = (line for line in page.splitlines() if line.startswith("|"))
    return {head.strip(): cell.strip() for head, cell in zip(heads.split("|"), row.split("|"), strict=True)}


def page_of(expected: str, **facts: Any) -> str:
    check, (first, second) = written(expected)
    put(first, near(0.6), **facts)
    put(second, near(0.5), **facts)
    told_of = calibration.verdicts("known", check, [first, second], Path("results"))
    return calibration.page({"known": check}, told_of, {})


def test_a_page_has_the_score_that_ours_is_held_against() -> None:
    row = row_of(page_of("expect: better, than: theirs, by: 0.0"))
    assert row["ours"] == "60.0 (58.5-61.5, 3 runs)"
    assert row["other"] == "linformer of theirs: 50.0 (48.5-51.5, 3 runs)"
    assert "published" not in row
    assert "other" not in row_of(page_of("expect: at-least, value: 0.5"))


def test_a_page_has_the_published_number() -> None:
    row = row_of(page_of("expect: published, value: 0.612, examples: null, runs: null, margin: 0.03"))
    assert row["published"] == "61.2"


def test_when_and_by_which_code_the_runs_were_made_is_said() -> None:
    check, (first, second) = written("expect: better, than: theirs, by: 0.0")
    put(first, near(0.6), started="2026-01-02T03:04:05+00:00", **fingerprint.of(first.grid[0]))
    put(second, near(0.5), started="2026-01-04T03:04:05+00:00", code_hash="of-another")
    told_of = calibration.verdicts("known", check, [first, second], Path("results"))
    page = calibration.page({"known": check}, told_of, {})
    now = fingerprint.common()
    assert (
        f"8 runs, begun from 2026-01-02 to 2026-01-04, by code {now} (4 runs), of-another (4 runs); 4 of 8 are by the "
        f"code and libraries that they are judged with (code {now})"
    ) in page
    (numbers,) = calibration.report(told_of).numbers.to_dict("records")
    assert (numbers["first_started"], numbers["last_started"]) == (
        "2026-01-02T03:04:05+00:00", "2026-01-04T03:04:05+00:00",
    )  # fmt: skip
    assert (numbers["code_hash"], numbers["present_code"]) == (f"{now}; of-another", False)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"started": "2026-01-02T03:04:05+00:00", "code_hash": "abc"}, "begun on 2026-01-02, by code abc; none is by"),
        ({}, "8 runs, by code that is not known; none is by the code"),
    ],
)
def test_runs_of_other_code_are_said_to_be(facts: dict[str, str], said: str) -> None:
    assert said in page_of("expect: better, than: theirs, by: 0.0", **facts)


def test_runs_of_the_present_code_are_said_to_be() -> None:
    check, every = written("expect: at-least, value: 0.9")
    put(every[0], near(0.95), **fingerprint.of(every[0].grid[0]))
    verdicts = calibration.verdicts("known", check, every, Path("results"))
    assert "; all are by the code and libraries" in calibration.page({"known": check}, verdicts, {})
    assert calibration.report(verdicts).numbers["present_code"].all()


@pytest.mark.parametrize("name", files.checks())
@pytest.mark.parametrize("quick", [False, True])
def test_a_shipped_check_names_what_is_there(name: str, quick: bool) -> None:
    check = files.check(name, quick=quick)
    if check is None:
        return
    every = entrants(name, check)
    assert {entrant.arm for entrant in every} == set(check.arms)
    tested = {files.parted(one.arm)[0] for one in check.expectations}
    tested |= {files.parted(one.than)[0] for one in check.expectations if isinstance(one, files.Better | files.Same)}
    assert tested == set(check.arms), "an arm that no expectation is of is run for nothing"
    for one in check.expectations:
        arm, length = files.parted(one.arm)
        tasks = [entrant.task for entrant in every if entrant.arm == arm]
        assert length is None or all(length in task.test_lengths for task in tasks)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("arm: ours", "arm: hers"), "'hers' is none of the arms ours, theirs"),
        (("margin: 0.03", "margn: 0.03"), r"expectations\.0\.margn: unknown key; did you mean 'margin'\?"),
        (("task: short}", "tusk: short}"), r"tusk: unknown key; did you mean 'task'\?"),
        (("rates: [1.0e-2, 2.0e-2]", "rates: []"), "rates"),
        (("reference: nobody\n", ""), "reference: missing"),
    ],
)
def test_a_wrong_check_is_one_line(change: tuple[str, str], said: str) -> None:
    text = CHECK.format(expected="expect: at-chance, margin: 0.03", seeds="0").replace(*change)
    Path("known.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        files.check("known.yaml")


def test_a_model_whose_seeds_scatter_has_a_variance_of_its_own() -> None:
    _, (entrant, _) = written("expect: at-least, value: 0.5")
    put(entrant, (0.5, 0.7, 0.9))
    outcome = Outcome.of(entrant, None, Path("results"))
    assert outcome.score.variance == pytest.approx(0.04)
