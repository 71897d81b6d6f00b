"""The command line's own words, called in this process: panels, the nearest right word, what the shell completes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from samples import Said

from lra_bench import cli
from lra_bench.cli.commands import RENAMED


def test_help_has_every_command_in_a_panel_run_first_and_nothing_cut_off(said: Said) -> None:
    code, text = said("--help")
    assert code == 0
    assert "..." not in text.partition("Commands")[2] + text.partition("\nRun:")[2]
    titles = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles[:3] == ["Options:", "Begin with:", "Run:"]
    assert "Other:" not in titles, "a command that is new stands in a panel"
    assert text.index("\n  run ") < text.index("\n  compare ") < text.index("\n  bundle ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train",), "No such command 'train'; did you mean 'run'?"),
        (("sped",), "No such command 'sped'; did you mean 'speed'?"),
        (("bench", "-m", "linear"), "No such command 'bench'; did you mean 'speed'?"),
        (("zzzz",), "No such command 'zzzz'; it can be: adapt, bundle,"),
        (("data", "shwo"), "No such command 'shwo'; did you mean 'show'?"),
        (("new", "modle"), "No such command 'modle'; did you mean 'model'?"),
        (("ls", "modles"), "'modles': did you mean 'models'?"),
        (("plot", "--kind", "scalng"), "'--kind': 'scalng': did you mean 'scaling'?"),
        (("run", "-m", "a", "-t", "b", "--seed", "x"), "'--seed': 'x' must be an integer"),
        (("run", "-m", "a", "-t", "b", "--timeout", "x"), "'--timeout': 'x' must be a number"),
        (("run", "linformer", "listops"), "unexpected argument 'linformer': its values follow options: lra run -m li"),
        (("run", "-m", "linformer", "listops"), "options: lra run -t listops"),
        (("ls", "models", "tasks"), "unexpected argument 'tasks': lra ls takes 1 at most"),
        (("run", "--modle", "x"), "--model"),
    ],
)
def test_a_wrong_word_gets_the_nearest_right_one(said: Said, arguments: tuple[str, ...], message: str) -> None:
    code, text = said(*arguments)
    assert code == 2
    assert message in text


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("lra ru", ["run"]),
        ("lra run -m linf", ["linformer"]),
        ("lra run -m softmax,linf", ["softmax,linformer"]),
        ("lra run -m softmax+linf", ["softmax+linformer"]),
        ("lra run -m family:ker", ["family:kernel"]),
        ("lra run -m linformer[ra", ["linformer[rank="]),
        ("lra run -m linformer[rank=2,sh", ["linformer[rank=2,sharing="]),
        ("lra plan -t listo", ["listops"]),
        ("lra run -t listops,needle@dist", ["listops,needle@distance-16"]),
        ("lra run -c paper-", ["paper-appendix"]),
        ("lra run -l prun", ["pruned"]),
        ("lra run --set optimizer.l", ["optimizer.lr="]),
        ("lra speed -m linf", ["linformer"]),
        ("lra speed -t listo", ["listops"]),
        ("lra tune --space archi", ["architecture"]),
        ("lra show linf", ["linformer"]),
        ("lra show listo", ["listops"]),
        ("lra show paper-", ["paper-appendix"]),
        ("lra data prepare listo", ["listops"]),
        ("lra data show listops --variant lr", ["lra"]),
        ("lra new model mine --family ker", ["kernel"]),
        ("lra new task mine --from cs", ["csv"]),
        ("lra verify -m linf", ["linformer"]),
        ("lra run -m family : ker".replace(" : ", "\n:\n"), ["kernel"]),  # as bash splits it
        ("lra run -t listops @ qu".replace(" @ ", "\n@\n"), ["quick"]),
        ("lra run --config = paper-".replace(" = ", "\n=\n"), ["paper-appendix"]),
    ],
)
def test_the_shell_completes_names(
    said: Said, monkeypatch: pytest.MonkeyPatch, words: str, completed: list[str]
) -> None:
    monkeypatch.setenv("COMP_WORDS", words.replace(" ", "\n"))
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    monkeypatch.setenv("_LRA_COMPLETE", "complete_bash")
    code, text = said()
    assert code == 0
    assert text.split()[: len(completed)] == completed


def test_every_command_that_shows_or_reads_results_takes_json(said: Said) -> None:
    said("--help")  # which registers all of them
    root = typer.main.get_command(cli.app)
    every = dict(_commands(root, ""))
    options = {name: {flag for param in command.params for flag in param.opts} for name, command in every.items()}
    writes_files = {"new model", "new task", "data export"}
    assert {name for name, flags in options.items() if "--json" not in flags} == writes_files
    assert {name for name, flags in options.items() if "--format" in flags} == {"compare", "probe", "speed", "scale"}


def _commands(group: Any, before: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


@pytest.mark.parametrize("old", [word for word in RENAMED if not word.startswith("-")])
def test_a_command_that_had_another_name_still_does_what_it_did(old: str, said: Said) -> None:
    code, text = said(old, "--help")
    assert code == 0
    assert f"lra: {old} is now {RENAMED[old]}\n" in text
    assert f"Usage: lra {RENAMED[old]} " in text


def test_an_option_that_had_another_name_still_does_what_it_did(said: Said) -> None:
    code, text = said("plan", "-m", "linear", "-t", "listops", "-c", "quick", "--lever", "nothing-of-this-name")
    assert code == 2
    assert "lra: --lever is now --technique\n" in text
    assert "nothing-of-this-name" in text.replace("lra: --lever is now --technique\n", "")
