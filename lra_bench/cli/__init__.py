"""The command line: parse, one call, print. Rooms are imported inside the commands, so that `--help` is instant."""

# ruff: noqa: F401

from __future__ import annotations

import os
import sys

import typer

from lra_bench import __version__
from lra_bench.errors import LraError

app = typer.Typer(
    name="lra",
    help="The honest comparison of efficient transformers: accuracy, speed and memory of the same compiled step.",
    epilog="Exit codes: 0 done; 1 a cell failed, its row says why; 2 the input is wrong; 130 stopped and saved.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich's help alone takes 0.15 s to import
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lra {__version__}")
        raise typer.Exit


@app.callback()
def _root(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print it.")) -> None:
    pass


def main() -> None:
    """The command `lra`. No traceback reaches a user unless LRA_TRACEBACK is set."""
    from lra_bench.cli import (
        bundle,
        check,
        compare,
        data,
        export,
        levers,
        listing,
        matrix,
        new,
        probe,
        report,
        reproduce,
        run,
        search,
        speed,
    )

    try:
        app()
    except LraError as error:
        _end(str(error), error.exit_code)
    except KeyboardInterrupt:
        _end("stopped", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get("LRA_TRACEBACK"):
            raise
        _end(f"{type(error).__name__}: {error}; LRA_TRACEBACK=1 shows where", 1)


def _end(message: str, code: int) -> None:
    print(f"lra: {message}", file=sys.stderr)
    sys.exit(code)
