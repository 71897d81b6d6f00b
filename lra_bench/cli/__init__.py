"""The command line: parse, one call, print. Rooms are imported inside the commands, so that `--help` is instant."""

# ruff: noqa: F401

from __future__ import annotations

import os
import sys

import typer

from lra_bench import __version__
from lra_bench.cli import streams
from lra_bench.cli.commands import App
from lra_bench.cli.completion import whole_words
from lra_bench.errors import LraError, of_place, users_fault
from lra_bench.launch import variables

OUTPUT = "stdout, or a file"  # where a command writes, if an error does not say

app = App(
    name="lra",
    help="Compare efficient transformers fairly on Long Range Arena and related tasks: accuracy, speed and memory.",
    epilog="Exit codes: 0 done; 1 a run failed, its result says why; 2 the input is wrong; 130 stopped and saved.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lra {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def registered() -> typer.Typer:
    """The command line with all its commands, whose modules are imported now."""
    from lra_bench.cli import (
        bundle,
        calibrate,
        check,
        compare,
        data,
        export,
        generate,
        listing,
        new,
        probe,
        report,
        reproduce,
        run,
        search,
        speed,
        sweep,
        techniques,
    )

    return app


def main() -> None:
    """The command `lra`. No traceback reaches a user unless LRA_TRACEBACK is set."""
    streams.in_utf8()
    streams.opened()
    _alone()
    try:
        try:
            with whole_words():
                registered()()
        finally:
            sys.stdout.flush()
    except LraError as error:
        _end(str(error), error.exit_code)
    except KeyboardInterrupt:
        _end("stopped", 130)
    except BrokenPipeError:
        streams.silenced()
        sys.exit(0)
    except Exception as error:
        if os.environ.get("LRA_TRACEBACK"):
            raise
        fault = users_fault(error, OUTPUT) or (of_place(error, OUTPUT) if isinstance(error, OSError) else None)
        if fault is not None:
            streams.silenced()
            _end(str(fault), fault.exit_code)
        _end(f"{type(error).__name__}: {error}; LRA_TRACEBACK=1 shows where", 1)


def _alone() -> None:
    """Have no variable of the environment change numbers, nor a file of the working folder stand for a library's
    module in the processes that are started from here."""
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    for line in variables.left_out(os.environ):
        print(streams.shown(f"lra: {line}"), file=sys.stderr)


def _end(message: str, code: int) -> None:
    print(streams.shown(f"lra: {message}"), file=sys.stderr)
    sys.exit(code)
