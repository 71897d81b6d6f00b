"""Trained short, tested long: a finished run's model on its task at other lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lra_bench import data
from lra_bench.errors import ConfigError
from lra_bench.runs import lengths as other_lengths
from lra_bench.runs.lengths import Reading
from lra_bench.runs.loaded import Trained


def over(folder: Path, lengths: Sequence[int], settings: Sequence[str], count: data.Progress) -> Iterator[Reading]:
    """The run in `folder`, tested at each length, in order: `lengths.over`.

    Raises:
        ConfigError: the run cannot be opened, or the task cannot be had at a length.
    """
    trained = Trained.open(folder, count)
    if words := trained.run.techniques.words:
        raise ConfigError(
            f"{folder}: was trained with techniques ({words}); its model is tested at its own length alone"
        )
    return other_lengths.over(trained, lengths, settings, count)
