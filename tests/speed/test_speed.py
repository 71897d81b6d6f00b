"""Speed: what is measured once, what is told of it, and how it is marked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from samples import Lra, started

from lra_bench import cli, mixers, speed, sweeps
from lra_bench.cli.speed import _bytes, _measured
from lra_bench.config import Run
from lra_bench.conformance import record
from lra_bench.errors import ConfigError, RunFailed
from lra_bench.launch import local
from lra_bench.measure import peak
from lra_bench.measure.asked import Asked
from lra_bench.records import store
from lra_bench.report import charts, headline, scaling, scaling_fits
from lra_bench.runs import build
from lra_bench.speed.largest import NEAR, largest
from lra_bench.sweeps import Request, Speed

HERE = {"platform": "cpu", "device": "ours, 2 cores", "available_bytes": 10**9}
Facts = list[dict[str, Any]]


def fact(model: str = "softmax", length: int = 1024, ms: float | None = 100.0, **more: Any) -> dict[str, Any]:
    known = {"run": f"{model}{length}", "model": model, "options": {}, "length": length, "mode": "train", "devices": 1}
    timed = {"step_ms_p50": ms, "laps_ms": [ms] * 7 if ms else [], "compiled_bytes": 2**20 * length}
    return known | timed | {"status": "ok" if ms else "oom"} | more


def cell_of(report: Any, title: str, model: str, length: int) -> str:
    table = next(table for table in report.tables if table.title.startswith(title))
    return str(table.cells.loc[model, f"L = {length:,}"])


def kept(name: str) -> Facts:
    return scaling.read(Path(__file__).parents[2] / "results" / "speed" / f"{name}.json")


def test_a_second_at_the_largest_batch_is_of_all_its_texts_and_a_cell_without_says_why() -> None:
    timed = {"room_bytes": 2**20, "largest_batch": 50, "largest_laps_ms": [20.0, 10.0, 10.0], "largest_error": None}
    lacks = timed | {"largest_laps_ms": [], "largest_error": "not timed: a step may need 1.0 GiB here"}
    made = scaling.report([fact("softmax", mode="decode", **lacks), fact("linear", mode="decode", **timed)])
    title = "tokens of all texts a second at the largest batch"
    assert [cell_of(made, title, model, 1024) for model in ("softmax", "linear")] == ["-", "5,000"]
    (table,) = (table for table in made.tables if table.title == title)
    assert "-: softmax, L = 1,024: not timed: a step may need 1.0 GiB here" in table.notes
    assert list(made.numbers["largest_a_second"].dropna()) == [5000.0]
    none = scaling.report([fact("softmax", mode="decode", **lacks)])
    assert cell_of(none, title, "softmax", 1024) == "-", "where nothing was timed too"
    short = scaling.report([fact("linear", mode="decode", **timed | {"largest_lap_tokens": 7})])
    assert "linear, L = 1,024: of the last 7 tokens, which took long enough" in short.tables[5].notes


def test_a_largest_batch_of_more_memory_than_there_is_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    measuring = sys.modules["lra_bench.speed.measure"]
    monkeypatch.setattr(measuring, "available_bytes", lambda _: 2**30)
    monkeypatch.setattr(measuring, "crowded", lambda planned, _: "crowded" if planned > 2**29 else None)
    assert measuring._short(2**31) == "not timed: a step may need 1.0 GiB here"
    assert measuring._short(2**30) == "not timed: crowded"
    assert measuring._short(2**29) is None


@pytest.mark.sweep
@settings(max_examples=5, deadline=None, phases=[Phase.generate])
@given(st.randoms())
def test_the_order_of_measurement_changes_nothing(random: Random) -> None:
    """A shorter length that was measured later bent the exponent of memory, and hid where memory ends."""
    facts = [one for one in kept("cpu") if one["model"] in ("softmax", "linear", "s5")]
    mixed = random.sample(facts, len(facts))
    for made in (scaling_fits.report, scaling.report):
        one, other = made(facts), made(mixed)
        for ours, theirs in zip(one.tables, other.tables, strict=True):
            assert ours.notes == theirs.notes
            assert ours.title == theirs.title
            pd.testing.assert_frame_equal(ours.cells.sort_index(), theirs.cells.sort_index())
    numbers = [scaling_fits.report(order).numbers.sort_values("model", ignore_index=True) for order in (facts, mixed)]
    pd.testing.assert_frame_equal(*numbers)
    drawn = [charts.growth(order, {}).to_dict()["datasets"].values() for order in (facts, mixed)]
    first, second = ([sorted(map(repr, points)) for points in each] for each in drawn)
    assert first == second


def test_other_devices_are_another_line() -> None:
    facts = [fact(), fact(devices=4, ms=30.0)]
    assert list(scaling.report(facts).tables[0].cells.index) == ["softmax[devices=1]", "softmax[devices=4]"]


@given(st.integers(0, 10**6), st.integers(1, 10**4), st.integers(0, 10**8), st.sampled_from((0.7, 1.0, 1.5)))
def test_the_largest_batch_fits_and_a_little_more_does_not(fixed: int, each: int, room: int, power: float) -> None:
    calls = []

    def planned(n: int) -> int:
        calls.append(n)
        return int(fixed + each * n**power)

    found = largest(planned, room)
    assert found == 0 or planned(found) <= room
    assert planned(found + max(1, found // NEAR) + 1) > room
    assert power != 1.0 or len(calls) - 2 <= 9, "few are tried where each example takes as much"


def test_a_median_has_an_interval_where_order_statistics_give_one() -> None:
    few, seven = fact(laps_ms=[1.0, 2, 3, 4, 5]), fact(laps_ms=[1.0, 2, 3, 4, 5, 6, 7])
    assert scaling.interval(few)[0] == 3
    assert np.isnan(scaling.interval(few).low)
    assert scaling.interval(seven) == (4, 1, 7)
    assert not scaling.is_wide(few)
    assert scaling.is_wide(seven)
    assert not scaling.is_wide(fact(laps_ms=[100.0, 101, 102, 103, 104, 105, 106]))


def test_a_step_is_told_against_the_first_model_of_its_own_process() -> None:
    facts = [
        fact(reference_ms=100.0),
        fact("linear", ms=50.0, reference_ms=100.0),
        fact("gla", ms=50.0, reference_ms=80.0),
        fact("fnet", ms=25.0),
        fact("etc", ms=None),
    ]
    report = scaling.report(facts)
    ratios = [cell_of(report, "times faster than softmax", f["model"], 1024) for f in facts]
    assert ratios == ["1.00", "2.00", "1.60", "4.00", "oom"], "a number that was kept alone takes the length's first"
    assert cell_of(report, "training steps a second", "fnet", 1024) == "40"


def test_steps_are_told_against_full_attention_wherever_it_was_timed() -> None:
    """`-m causal` had timed `axial` first, and kept tables told everything against that."""
    timed = {"axial": 10.0, "linear": 5.0, "softmax": 40.0}
    facts = [fact(name, ms=ms, reference_ms=10.0, batch=1) for name, ms in timed.items()]
    report = scaling.report(facts)
    ratios = [cell_of(report, "times faster than softmax", name, 1024) for name in ("softmax", "axial", "linear")]
    assert ratios == ["1.00", "4.00", "8.00"]
    assert dict(report.numbers[["model", "faster"]].to_numpy()) == {"softmax": 1.0, "axial": 4.0, "linear": 8.0}
    assert "faster than softmax from" in scaling_fits.report(facts).tables[0].cells
    for other in ({"ms": None}, {"mode": "infer"}, {"batch": 8}, {"dtype": "bfloat16"}, {"device": "theirs"}):
        unlike = [*facts[:2], facts[2] | fact(**{"ms": 40.0, **other})]
        titles = [table.title for table in scaling.report(unlike).tables]
        assert "times faster than axial" in titles, other


def test_each_batch_is_told_against_full_attention_at_that_batch() -> None:
    def told(batch: int, **times: float) -> Facts:
        return [fact(m, n, ms, batch=batch) for m, ms in times.items() for n in (1024, 2048)]

    facts = [*told(1, linear=5.0, softmax=4.0), *told(8, linear=6.0, softmax=30.0)]
    report = scaling.report(facts)
    of_linear = [cell_of(report, "times faster than softmax", f"linear[batch={n}]", 1024) for n in (1, 8)]
    assert of_linear == ["0.80", "5.00"]
    crossed = scaling_fits.report(facts).tables[0].cells["faster than softmax from"]
    assert [crossed[f"linear[batch={n}]"] for n in (1, 8)] == ["not up to 2,048", "1,024 or less"]
    assert [crossed[f"softmax[batch={n}]"] for n in (1, 8)] == ["", ""]


def test_a_mode_without_full_attention_is_told_against_what_was_timed_beside() -> None:
    decoded = [fact(m, ms=ms, mode="decode", reference_ms=2.0) for m, ms in (("gla", 1.0), ("axial", 2.0))]
    trained = [fact(), fact("linear")]
    report = scaling.report([*trained, *decoded])
    assert cell_of(report, "times faster than axial", "gla", 1024) == "2.00"
    assert set(report.numbers.loc[report.numbers["mode"] == "decode", "faster"]) == {2.0, 1.0}
    assert set(scaling_fits.report([*trained, *decoded]).tables[0].cells.loc["gla (token)"].filter(like="faster")) == {
        ""
    }


def test_kept_prompts_and_tokens_are_told_against_full_attention() -> None:
    for name in ("decode", "prefill"):
        assert "times faster than softmax" in [table.title for table in scaling.report(kept(name)).tables]
    assert "faster than softmax from" in scaling_fits.report(kept("decode")).tables[0].cells


def test_prompts_a_second_are_as_many_as_the_batch_has() -> None:
    prompt = scaling.report([fact(ms=2.0, mode="prefill", batch=8)])
    assert cell_of(prompt, "prompts a second", "softmax", 1024) == "4,000"
    token = scaling.report([fact(ms=2.0, mode="decode", batch=8)])
    assert cell_of(token, "tokens of each text a second", "softmax", 1024) == "500"
    assert cell_of(token, "tokens of all texts of the batch a second", "softmax", 1024) == "4,000"
    single = scaling.report([fact(ms=2.0, mode="decode", batch=1)])
    assert [table.title for table in single.tables if table.title.endswith("a second")] == [
        "tokens of each text a second"
    ]


def test_a_table_of_positions_in_planned_memory_is_said() -> None:
    def notes(params: Sequence[int], mode: str = "decode") -> str:
        facts = [fact(length=n, mode=mode, params=p) for n, p in zip((1024, 2048), params, strict=True)]
        return " ".join(scaling_fits.report(facts).tables[0].notes)

    said = "a table of learned positions"
    assert said in notes((100, 200))
    assert said not in notes((100, 100))
    assert said not in notes((100, 200), "train")
    assert said in " ".join(scaling_fits.report(kept("decode")).tables[0].notes)


def test_work_is_a_share_of_what_the_devices_were_measured_to_do() -> None:
    one = fact(ms=500.0, flops_per_step=3e9, ceiling_flops_per_s=60e9, devices=2)
    assert scaling.hfu(one) == pytest.approx(0.05)
    report = scaling.report([one, fact("linear")])
    assert cell_of(report, "hardware FLOPs utilization (HFU), %", "softmax", 1024) == "5.0"
    assert cell_of(report, "hardware FLOPs utilization (HFU), %", "linear", 1024) == ""
    assert report.numbers["hfu"].tolist()[0] == pytest.approx(0.05)


def test_what_is_no_fair_number_is_marked() -> None:
    facts = [
        fact(standing=record.PASSED),
        fact("linear", standing=record.UNVERIFIED),
        fact("gla", standing=record.DENSE),
        fact("fnet", standing=record.FAILED, laps_ms=[10.0, 100, 100, 100, 100, 100, 190]),
    ]
    report = scaling.report(facts)
    shown = [cell_of(report, "training step, ms", f["model"], 1024) for f in facts]
    assert shown == ["100 (100-100)", "100 (100-100) ?", "100 (100-100) dense", "100 (10-190) ~ !"]
    notes = " ".join(report.tables[0].notes)
    assert all(said in notes for said in ("?: ", "dense: ", "!: ", "~: "))
    assert "~: " not in " ".join(scaling.report(facts[:1]).tables[0].notes)


def test_a_step_that_takes_little_more_than_its_dispatch_is_marked() -> None:
    facts = [fact(ms=1.0, dispatch_ms=0.5), fact("linear", ms=1.6, dispatch_ms=0.5), fact("gla", ms=1.0)]
    report = scaling.report(facts)
    shown = [cell_of(report, "training step, ms", f["model"], 1024) for f in facts]
    assert [text.endswith(" d") for text in shown] == [True, False, False], "of the last, nothing is known"
    assert "d: less than 3 times an empty step (0.5 ms to dispatch one)" in " ".join(report.tables[0].notes)
    assert "d: " not in " ".join(scaling.report(facts[1:]).tables[0].notes)


def test_forward_passes_have_tables_of_their_own() -> None:
    titles = [table.title for table in scaling.report([fact(), fact(mode="infer", ms=30.0)]).tables]
    assert "training steps a second" in titles
    assert "forward passes a second" in titles


def test_growth_of_what_decoding_keeps() -> None:
    lengths = (1024, 2048, 4096, 8192)
    softmax = [fact(length=n, ms=n / 1024, mode="decode", state_bytes=4 * n, card_time=2.0) for n in lengths]
    linear = [fact("linear", n, 1.0, mode="decode", state_bytes=64, compiled_bytes=2**20) for n in lengths]
    table = scaling_fits.report([*softmax, *linear], 2**40).tables[0].cells
    assert list(table["state"]) == ["1.00", "0.00"]
    assert list(table.index) == ["softmax (token)", "linear (token)"]
    assert list(table["its card"]) == ["", ""], "which says how a training step grows"
    assert table["out of memory from"]["linear (token)"] == ""


def test_growth_finds_the_crossover_and_the_wall() -> None:
    lengths = (1024, 2048, 4096, 8192)
    softmax = [fact(length=n, ms=(n / 1024) ** 2, compiled_bytes=n * 2**20) for n in lengths]
    linear = [fact("linear", n, 4 * n / 1024, compiled_bytes=n**2, card_time=1.0) for n in lengths]
    slow = [fact("gla", n, 100 * n / 1024) for n in lengths]
    fast = [fact("fnet", n, n / 2048) for n in lengths]
    told = scaling_fits.report([*softmax, *linear, *slow, *fast], 2**40).numbers.set_index("model")
    assert told["time_exponent"].round(6).tolist() == [2, 1, 1, 1]
    assert told.loc["linear", ["crossover", "crossover_low", "crossover_high"]].tolist() == pytest.approx([4096] * 3)
    assert told["crossover"].tolist()[2:] == [scaling_fits.NEVER, 0]
    assert told["wall"].tolist()[:2] == pytest.approx([2**20, 2**20]), "linear to 1 TiB, and quadratic"
    shown = scaling_fits.report([*softmax, *linear, *slow, *fast], 2**40).tables[0].cells
    column = "faster than softmax from"
    assert shown[column].tolist() == ["", "4,100", "not up to 8,192", "1,024 or less"]
    assert shown["its card"].tolist() == ["", "1", "", ""]


def test_two_commands_that_write_one_file_lose_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = here / "steps.json"
    store.write_json(out, [fact(), fact("linear")])

    def measured(asked: Any, facts: Facts, watch: Any) -> Iterator[Facts]:
        store.write_json(out, [fact(), fact("linear", ms=1.0), fact("gla")])  # by another, meanwhile
        yield [*facts, fact("fnet")]

    monkeypatch.setattr(sweeps, "speed", measured)
    _measured(Speed(Request("fnet", "listops", "quick"), (16,), 1, "train", False, None), out, fresh=False)
    kept = {(one["model"], one["step_ms_p50"]) for one in store.read_json(out)}
    assert kept == {("softmax", 100.0), ("linear", 1.0), ("gla", 100.0), ("fnet", 100.0)}


def test_a_crossover_is_told_of_shared_lengths_alone() -> None:
    column = "faster than softmax from"
    apart = [fact(length=n) for n in (1024, 2048)] + [fact("linear", n, 50.0) for n in (4096, 8192)]
    report = scaling_fits.report(apart)
    assert report.tables[0].cells.loc["linear", column] == ""
    short = [fact(length=n, ms=50.0 if n < 4096 else None) for n in (1024, 2048, 16384)]
    slow = [fact("linear", n, 100.0) for n in (1024, 2048, 16384)]
    assert scaling_fits.report(short + slow).tables[0].cells.loc["linear", column] == "not up to 2,048"


def test_batches_are_lines_of_their_own_and_what_cannot_be_told_apart_is_refused() -> None:
    two = [fact(length=n, ms=batch * n / 1024, batch=batch) for n in (1024, 2048) for batch in (8, 16)]
    for made in (scaling.report, scaling_fits.report):
        assert list(made(two).tables[0].cells.index) == ["softmax[batch=8]", "softmax[batch=16]"]
    assert cell_of(scaling.report(two), "times faster", "softmax[batch=16]", 1024) == "1.00"
    one_a_length = [fact(length=1024, batch=8), fact(length=2048, batch=4)]
    assert list(scaling.report(one_a_length).tables[0].cells.index) == ["softmax"]
    for made in (scaling.report, scaling_fits.report, charts_growth):
        with pytest.raises(ConfigError, match=r"softmax was timed twice at L = 1,024 \(train\)"):
            made([fact(), fact(ms=90.0)])
    again = [fact(ms=100.0), fact("linear", ms=50.0), fact(ms=90.0, parts_hash="newer", run="other")]
    assert cell_of(scaling.report(again), "training step", "softmax", 1024).startswith("90")
    cells = scaling.report([*two, fact(length=4096, batch=8)]).tables[0].cells
    assert list(cells.loc["softmax[batch=8]"]) == ["8 (8-8)", "16 (16-16)", "100 (100-100)"]
    assert scaling.told_apart([]) == []
    with pytest.raises(ConfigError, match="nothing to fit"):
        scaling_fits.report([fact(ms=None), fact(length=2048, ms=None)])


def charts_growth(facts: Facts) -> Any:
    return charts.growth(facts, {})


def test_a_headline_and_a_figure_are_of_one_mode() -> None:
    trained = [fact(ms=100.0), fact("linear", ms=150.0)]
    decoded = [fact(ms=1.0, mode="decode"), fact("linear", ms=0.5, mode="decode")]
    none = pd.DataFrame(columns=["column", "test_score"])
    said = headline.headline(none, [*decoded, *trained])
    assert said.startswith("At 1,024 tokens, 0 of 1 efficient models take less time for a training step")
    assert said.endswith("linear, the fastest, is 0.667 times as fast")
    assert "all 1 efficient models take less time for a token than" in headline.headline(none, decoded)


def test_a_crossover_is_as_unsure_as_the_medians() -> None:
    def line(values: Sequence[float], wide: float) -> scaling_fits.Line:
        v = np.array(values)
        return scaling_fits.Line(np.array([1024.0, 2048, 4096]), v, v / wide, v * wide)

    over = scaling_fits.crossover(line([4, 8, 16], 1.2), line([1, 4, 64], 1.1))
    assert over.low < over.value < over.high
    assert 2048 < over.low < over.high < 4096


def serves(room: int, rounds: int) -> dict[str, Any]:
    """What a process finds of its run's largest batch."""
    timed = {"largest_laps_ms": [4.5] * rounds, "largest_lap_tokens": None, "largest_other_load": 0.0}
    return {"room_bytes": room, "largest_batch": 9, **timed, "largest_error": None}


@pytest.fixture
def child(here: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A child that times every run by its place in the line; whom it was asked to, and what for."""
    monkeypatch.chdir(here)
    monkeypatch.setenv("LRA_CACHE", str(here / "cache"))
    monkeypatch.setattr(local, "machine", lambda: HERE)
    seen: list[list[str]] = []

    def measure(runs: Sequence[Any], asked: Asked, tell: Any, **_: Any) -> Facts:
        alone = len(runs) == 1 and not asked.peak_rate
        seen.append([f"{run.model} {run.task.length}{' alone' if alone else ''}" for run in runs])
        if alone and runs[0].model == "fnet":
            raise RunFailed("died")
        place = {k: HERE[k] for k in ("platform", "device")}
        found = [
            fact(c.model, c.task.length, 10.0 * (i + 1), run=c.id, options=c.options) | place
            for i, c in enumerate(runs)
        ]
        return [
            f | ({"peak_bytes": 7} | (serves(asked.room, asked.room_rounds) if asked.room else {}) if alone else {})
            for f in found
        ]

    monkeypatch.setattr(local, "measure", measure)
    return seen


def ask(models: str, lengths: Sequence[int] = (16, 32), known: Facts | None = None, **more: Any) -> Facts:
    request = Request(models, "short", "tiny")
    return list(sweeps.speed(Speed(request, lengths, 3, **more), known or [], lambda *_: None))[-1]


def test_what_is_known_is_not_measured_again_and_a_new_one_is_beside_the_first(child: list[list[str]]) -> None:
    facts = ask("softmax,linear", (16,))
    assert child == [["softmax 16", "linear 16"]]
    facts = ask("softmax,linear,gla", (16, 32), facts)
    assert child[1:] == [["softmax 16", "gla 16"], ["softmax 32", "linear 32", "gla 32"]]
    assert [(f["model"], f["length"]) for f in facts] == [
        ("softmax", 16), ("linear", 16), ("gla", 16), ("softmax", 32), ("linear", 32), ("gla", 32),
    ]  # fmt: skip
    assert all(f["reference_ms"] == 10.0 for f in facts)
    assert {f["standing"] for f in facts} == {record.UNVERIFIED}
    ask("softmax,linear,gla", (16, 32), facts)
    assert len(child) == 3, "all of it was known"


def test_full_attention_is_timed_first_wherever_it_is_listed(child: list[list[str]]) -> None:
    facts = ask("axial,linear,softmax", (16,))
    assert child == [["softmax 16", "axial 16", "linear 16"]]
    assert {fact["reference_ms"] for fact in facts} == {facts[0]["step_ms_p50"]}
    ask("linear,axial", (16,))
    assert child[1] == ["linear 16", "axial 16"], "others keep their order"


def test_steps_of_two_dtypes_are_told_apart(child: list[list[str]]) -> None:
    half = Request("softmax,linear", "short", "tiny", settings=("backbone.dtype=bfloat16",))
    facts = [*ask("softmax,linear", (16,)), *list(sweeps.speed(Speed(half, (16,), 3), [], lambda *_: None))[-1]]
    assert [fact["dtype"] for fact in facts] == ["float32"] * 2 + ["bfloat16"] * 2
    assert "linear[dtype=bfloat16]" in scaling.report(facts).tables[0].cells.index


def test_a_peak_is_of_a_process_alone_and_one_that_dies_spares_the_rest(child: list[list[str]]) -> None:
    facts = ask("softmax,fnet,linear", (16,), peak=True)
    assert child[1:] == [["softmax 16 alone"], ["fnet 16 alone"], ["linear 16 alone"]]
    assert [f.get("peak_bytes") for f in facts] == [7, None, 7]
    assert facts[1]["peak_error"] == "died"
    facts = ask("softmax,linear", (16,), facts, room=10**9)
    assert child[4:] == [["softmax 16 alone"], ["linear 16 alone"]], "the largest batch, which was not known"
    assert (facts[0]["largest_batch"], facts[0]["largest_laps_ms"]) == (9, [4.5] * 3), (
        "as many rounds as were asked for"
    )
    ask("softmax,linear", (16,), facts, room=10**9)
    assert len(child) == 6, "all of it was known"
    assert len(ask("softmax", (16,), facts, peak=True, mode="infer")) == 4, "a forward pass is another number"


def test_a_process_that_dies_as_the_largest_batch_is_timed_leaves_what_it_found(
    child: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = ask("linear", (16,))

    def dies(runs: Sequence[Any], asked: Asked, tell: Any, **_: Any) -> Facts:
        tell({"event": "measured", "run": runs[0].id, "facts": [{"run": runs[0].id}]})
        tell({"event": "found_largest", "run": runs[0].id, "facts": {"largest_batch": 9, "peak_bytes": 7} | UNTIMED})
        raise RunFailed("killed")

    UNTIMED = serves(10**9, 0)
    monkeypatch.setattr(local, "measure", dies)
    (found,) = ask("linear", (16,), facts, room=10**9)
    assert (found["largest_batch"], found["peak_bytes"]) == (9, 7)
    assert (found["largest_laps_ms"], found["largest_error"]) == ([], "not timed: killed")
    monkeypatch.setattr(local, "measure", lambda *_, **__: pytest.fail("it is not tried again"))
    ask("linear", (16,), [found], room=10**9)


def test_numbers_of_two_machines_are_not_mixed(child: list[list[str]]) -> None:
    facts = ask("softmax", (16,))
    facts[0]["device"] = "theirs, 64 cores"
    with pytest.raises(ConfigError, match="was measured on cpu, theirs, 64 cores, and this is cpu, ours, 2 cores"):
        ask("softmax,linear", (16,), facts)


def test_a_certificate_is_of_the_code_the_options_and_the_platform(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRA_CACHE", str(here / "cache"))
    mixer = here / "mine.py"
    mixer.write_text(mixers.model_card("linear").path.read_text())

    def verdicts(*broken: int) -> list[dict[str, Any]]:
        return [{"check": n, "passed": n not in broken} for n in range(1, 8)]

    assert record.standing(mixer, {"a": 1}, "cpu") == record.UNVERIFIED
    for broken, standing in (((), "passed"), ((6,), "dense"), ((2, 6), "failed")):
        record.keep(mixer, {"a": 1}, "cpu", verdicts(*broken))
        assert record.standing(mixer, {"a": 1}, "cpu") == standing
    assert record.standing(mixer, {"a": 2}, "cpu") == record.UNVERIFIED
    assert record.standing(mixer, {"a": 1}, "gpu") == record.UNVERIFIED
    with monkeypatch.context() as other:
        other.setattr(record.fingerprint, "of_files", lambda files: "0123456789")
        assert record.standing(mixer, {"a": 1}, "cpu") == record.UNVERIFIED, "the kernels' code is another"
    mixer.write_text(mixer.read_text() + "\nOTHER = 1\n")
    assert record.standing(mixer, {"a": 1}, "cpu") == record.UNVERIFIED


def test_the_peak_rate_is_the_best_that_larger_products_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def seconds(n: int, dtype: str) -> float:
        tried.append(n)
        return 2 * n**3 / {512: 1e9, 1024: 2e9, 2048: 3e9, 4096: 2.9e9}[n] if n < 8192 else 1e9

    monkeypatch.setattr(peak, "_product_s", seconds)
    monkeypatch.setattr(peak, "ENOUGH_S", 1e9)
    assert peak.peak_rate() == pytest.approx(3e9)
    assert tried == [512, 1024, 2048, 4096]


@pytest.mark.slow
def test_the_peak_rate_is_of_the_numbers_that_the_backbone_computes_in(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys.modules["lra_bench.speed.measure"], "peak_rate", {"float32": 1e9, "bfloat16": 3e9}.get)
    asked = [Request("linear", "short", "tiny", settings=more) for more in ((), ("precision.compute=bf16",))]
    facts = speed.measure([sweeps.runs(one)[0] for one in asked], Asked(1, peak_rate=True))
    assert [fact["ceiling_flops_per_s"] for fact in facts] == [1e9, 3e9]


def test_a_model_without_an_implementation_here_fails_alone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process goes on with the others, and with the device's rate."""

    def unlike(run: Run) -> Iterator[Any]:
        raise RunFailed("softmax: no implementation is left")
        yield

    monkeypatch.chdir(here)
    monkeypatch.setattr(build, "unlike", unlike)
    monkeypatch.setattr(sys.modules["lra_bench.speed.measure"], "peak_rate", lambda _: 1e9)
    (found,) = speed.measure(sweeps.runs(Request("softmax", "short", "tiny")), Asked(1, peak_rate=True))
    assert (found["status"], found["error"]) == ("error", "softmax: no implementation is left")
    assert found["ceiling_flops_per_s"] == 1e9


def test_the_peak_rate_is_measured() -> None:
    assert peak._product_s(256, "float32") > 0


@pytest.mark.parametrize(("text", "size"), [("16GiB", 2**34), ("800MB", 8 * 10**8), ("1024", 1024), ("1.5 g", 1.5e9)])
def test_sizes(text: str, size: int) -> None:
    assert _bytes(text) == size


def test_a_wrong_size_is_named() -> None:
    with pytest.raises(ConfigError, match="--memory 16 apples: must be a size as 16GiB"):
        _bytes("16 apples")


@pytest.mark.slow
def test_a_forward_pass_takes_less_than_a_training_step(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    (run,) = sweeps.runs(Request("linear", "short", "tiny"))
    (train,) = speed.measure([run], Asked(6, peak_rate=True))
    (infer,) = speed.measure([run], Asked(6, "infer", room=2**20, room_rounds=3))
    assert (train["mode"], infer["mode"]) == ("train", "infer")
    assert len(train["laps_ms"]) == len(infer["laps_ms"]) == 6
    assert infer["flops_per_step"] < 0.5 * train["flops_per_step"]
    assert infer["compiled_bytes"] < train["compiled_bytes"]
    assert train["ceiling_flops_per_s"] > 1e8
    assert train["peak_bytes"] > train["compiled_bytes"]
    assert infer["largest_batch"] > 8
    assert (len(infer["largest_laps_ms"]), infer["largest_error"]) == (3, None)
    assert 0 < train["dispatch_ms"] < train["step_ms_p50"]
    assert 0 < infer["dispatch_ms"] < infer["step_ms_p50"]
    assert (train["matmul"], train["deterministic"], train["devices"]) == ("float32", True, 1)


def test_a_forward_pass_is_of_what_is_kept_to_answer_with(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    (run,) = sweeps.runs(Request("linear", "short", "tiny", settings=("quantize.weights=8",)))
    (infer,) = speed.measure([run], Asked(1, "infer"))
    assert (infer["status"], infer["error"]) == ("ok", None)


@pytest.mark.sweep
def test_prompts_and_tokens_of_causal_models_are_timed(lra: Lra, here: Path) -> None:
    asked = ("speed", "-m", "softmax,linear,fnet", "-n", "16,32", "--batch", "2", "--rounds", "2", "--out", "d.json")
    done = lra(*asked, "--mode", "decode")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("backbone.causal: fnet cannot be causal") == 1
    assert "state, KiB" in done.stdout
    facts = {(f["model"], f["length"]): f for f in json.loads((here / "d.json").read_text())}
    assert {f["mode"] for f in facts.values()} == {"decode"}
    kept = {key: fact["state_bytes"] for key, fact in facts.items()}
    counters = 3 * 4  # of the model, and of each layer
    assert kept["softmax", 32] - kept["softmax", 16] == kept["softmax", 16] - counters
    assert kept["linear", 32] == kept["linear", 16]
    prompt = lra("speed", "-m", "linear", "-n", "32", *asked[5:], "--mode", "prefill", "--json")
    assert prompt.returncode == 0, prompt.stderr
    every = json.loads((here / "d.json").read_text())
    work = {(f["mode"], f["model"], f["length"]): f["flops_per_step"] for f in every}
    assert work["prefill", "linear", 32] > 20 * work["decode", "linear", 32]
    room = ("--largest-batch", "--memory", "16MiB", "--mode", "decode", "--json")
    (served,) = json.loads(lra("speed", "-m", "linear", "-n", "16", "--batch", "1", "--rounds", "1", *room).stdout)
    assert served["largest_batch"] > 100
    assert served["largest_a_second"] > 1.5 * 1e3 / served["step_ms_p50"], "tokens of all texts, not of one"
    none = lra("speed", "-m", "fnet", "-n", "16", "--mode", "decode")
    assert (none.returncode, none.stderr[:44]) == (2, "lra: backbone.causal: fnet cannot be causal: "[:44])


@pytest.mark.slow
def test_speed_measures_and_keeps(lra: Lra, here: Path) -> None:
    models = "softmax,softmax[impl=plain],linear"
    done = lra("speed", "-m", models, "-n", "64,128", "--rounds", "2", "--out", "b/speed.json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("softmax on listops: compiling") == 4
    assert "L = 128: timed round 2/2" in done.stderr
    assert "times faster than softmax[impl=auto]" in done.stdout
    facts = json.loads((here / "b/speed.json").read_text())
    assert [(f["model"], f["length"]) for f in facts] == [
        (model, length) for length in (64, 128) for model in ("softmax", "softmax", "linear")
    ]
    assert all(f["step_ms_p50"] > 0 and f["compiled_bytes"] > 0 and f["ceiling_flops_per_s"] > 0 for f in facts)
    assert lra("speed", "--read", "b/speed.json").stdout == done.stdout
    again = lra("speed", "-m", models, "-n", "64,128", "--out", "b/speed.json")
    assert (again.stdout, again.stderr) == (done.stdout, "")
    renewed = lra("speed", "-m", "linear", "-n", "64", "--rounds", "2", "--out", "b/speed.json", "--overwrite")
    assert renewed.returncode == 0, renewed.stderr
    *others, anew = json.loads((here / "b/speed.json").read_text())
    assert others == [fact for fact in facts if fact is not facts[2]], "what is not asked for stays"
    assert (anew["model"], anew["length"], anew["laps_ms"] != facts[2]["laps_ms"]) == ("linear", 64, True)
    (here / "b/speed.json").write_text(json.dumps(facts))
    (here / "other.json").write_text(json.dumps([{**facts[0], "length": None}, {"model": "linear"}]))
    wrong = lra("speed", "--read", "other.json")
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "lra: other.json: not the numbers of lra speed: they lack 'options'\n",
    )
    grown = lra("scale", "b/speed.json", "--json")
    assert [line["model"] for line in json.loads(grown.stdout)] == [
        "softmax[impl=auto]",
        "softmax[impl=plain]",
        "linear",
    ]


@pytest.mark.slow
def test_ctrl_c_keeps_the_lengths_that_are_done(here: Path, cache: Path) -> None:
    command = [str(Path(sys.executable).parent / "lra"), "speed", "-m", "linear", "-n", "16,32", "--rounds", "100000"]
    env = {**os.environ, "LRA_CACHE": str(cache)}
    first = subprocess.run([*command[:-3], "16", "--rounds", "2", "--out", "s.json"], cwd=here, env=env, timeout=300)
    assert first.returncode == 0
    child = started(here, cache, *command[1:], "--out", "s.json")
    assert child.stderr is not None
    for line in child.stderr:
        if "L = 32: timed round" in line:
            break
    os.killpg(child.pid, signal.SIGINT)
    said = child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert "what is known is in s.json; the same command resumes" in said
    assert "Traceback" not in said
    assert [f["length"] for f in json.loads((here / "s.json").read_text())] == [16]


@pytest.mark.parametrize(
    "arguments",
    [
        ("speed", "--overwrite"), ("speed", "--read", "s.json", "--peak"), ("speed", "--json", "--format", "md"),
        ("speed", "--read", "s.json", "-m", "softmax"), ("speed", "--read", "s.json", "-n", "1024"),
        ("speed", "--read", "s.json", "--rounds", "7"), ("speed", "--device", "h100", "--rounds", "3"),
        ("scale", "--results", "r", "--memory", "1GiB"), ("sweep", "m.yaml", "--plan", "--dry-run"),
        ("plan", "-m", "linear", "-t", "short", "-c", "tiny", "--out", "jobs.sh", "--json"),
    ],
)  # fmt: skip
def test_a_flag_that_would_be_ignored_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(here)
    (here / "s.json").write_text(json.dumps([fact()]))
    monkeypatch.setattr(sys, "argv", ["lra", *arguments, *(["--read", "s.json"] if "md" in arguments else [])])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err.splitlines()
    assert (ended.value.code, len(said)) == (2, 1)
    assert "--" in said[0]
