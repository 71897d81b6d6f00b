"""`lra generate`."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from lra_bench.cli import app, options
from lra_bench.errors import ConfigError
from lra_bench.shapes import LAST_SEED

if TYPE_CHECKING:
    import numpy as np


@app.command()
def generate(
    run: options.Run,
    prompt: Annotated[str | None, typer.Option("--prompt", help="The text that is continued.", metavar="TEXT")] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="The text whose target is written, as a translation.", metavar="TEXT")
    ] = None,
    tokens: Annotated[
        int, typer.Option("--tokens", "-n", min=1, help="Number of symbols to write; of a target, at most.")
    ] = 200,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, help="Divide the logits by it; 0 takes the likeliest symbol.")
    ] = 0.0,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="Draw from so many likeliest symbols; the default is all.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=LAST_SEED, help="Seed of what is drawn; the default is 0.")
    ] = None,
    results: options.Results = options.RESULTS,
    json: options.Json = False,
) -> None:
    """Continue a text with a trained causal model, or write the target of a source, symbol by symbol.

    Example: lra generate linear-bytes-quick-s0-0123456789 --prompt 'The first ' --temperature 0.8
    """
    from lra_bench import data
    from lra_bench.cli import progress, screen
    from lra_bench.cli.streams import shown
    from lra_bench.records import store
    from lra_bench.runs.generation import Drawing, TargetWriter, Writer
    from lra_bench.runs.loaded import Trained

    if (prompt is None) == (source is None):
        raise ConfigError("--prompt or --source: one of them, a text to be continued or one whose target is written")
    if not math.isfinite(temperature):
        raise ConfigError(f"--temperature: {temperature}; a finite number")
    given = next((flag for flag, value in (("--top-k", top_k), ("--seed", seed)) if value is not None), None)
    if temperature == 0 and given:
        raise ConfigError(f"{given}: is of --temperature above 0; nothing is drawn without it")
    with progress.counting("opening the run") as count:
        trained = Trained.open(store.find(run, results), count)
        symbols, drawing = data.of(trained.run.task), Drawing(temperature, top_k, seed or 0)
        begun = symbols.encode(prompt or source or "")
        writer = Writer(trained, drawing) if source is None else TargetWriter(trained, drawing)
    said = []
    for piece in pieces(writer(begun, tokens), symbols.decode):
        said.append(piece)
        if not json:
            sys.stdout.write(shown(piece))
            sys.stdout.flush()
    first, others = writer.seconds
    each = others / (len(said) - 1) if len(said) > 1 else None
    if json:
        screen.print_json(
            {
                "run": trained.run.id, "prompt": prompt, "source": source,
                "written": "".join(said).encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
                "tokens": len(said), "first_token_seconds": first, "token_seconds": each,
                "state_bytes": writer.state_bytes,
            }
        )  # fmt: skip
        return
    sys.stdout.write("\n")
    rest = "" if each is None else f", {1e3 * each:.1f} ms for each that follows"
    screen.warn([f"first symbol after {1e3 * first:.0f} ms{rest}; the state takes {writer.state_bytes:,} bytes"])


def pieces(ids: Iterable[int], decode: Callable[[np.ndarray], str]) -> Iterator[str]:
    """What each id adds to the text; nothing, where a character is not complete yet."""
    import numpy as np

    open_, said = [], ""  # the ids since the last complete character, whose last one is the first here; and their text
    for one in ids:
        open_.append(one)
        text = decode(np.array(open_, np.int32))
        whole = _whole(text)
        yield whole[len(said) :]
        said = max(said, whole, key=len)
        if whole == text:
            open_, said = [one], decode(np.array([one], np.int32))


def _whole(text: str) -> str:
    """Without the bytes at the end of a character that is not written yet."""
    end = len(text)
    while end and len(text) - end < 4 and 0xDC80 <= ord(text[end - 1]) <= 0xDCFF:
        end -= 1
    return text[:end]
