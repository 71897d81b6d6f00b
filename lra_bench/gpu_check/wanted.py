"""What is to be found out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lra_bench import mixers, sweeps
from lra_bench.config import Run

SHORT = 64  # tokens: what carries a mixer's name and options to a process
TOKENS = 2**17  # of a timed batch: 32 texts of 4,096


@dataclass(frozen=True)
class Wanted:
    """Of which models, and in which sizes."""

    task: str  # whose symbols timed steps have, and on which models are trained
    trained: str = ""  # models
    models: str = "all"  # whose steps are timed, and which are checked
    lengths: tuple[int, ...] = (4096, 1024, 16384)  # of timed steps, the most valuable first
    dtypes: tuple[str, ...] = ("bfloat16", "float32")
    tokens: int = TOKENS
    rounds: int = 7
    config: str = "small"
    settings: tuple[str, ...] = ()
    estimates: Path = Path("results/estimates")

    def steps(self, length: int, dtype: str) -> list[Run]:
        """The runs whose steps of a length are timed, and the reference's before them."""
        settings = (f"backbone.dtype={dtype}", f"training.batch={max(1, self.tokens // length)}")
        every = [
            run
            for models in (mixers.reference().stem, self.models)
            for run in sweeps.runs(sweeps.Request(models, self.task, "speed", length=length, settings=settings))
        ]
        return list({run.id: run for run in every}.values())

    def mixers(self) -> list[Run]:
        """Runs that name the mixers, and their options."""
        return sweeps.runs(sweeps.Request(self.models, self.task, "speed", length=SHORT))

    def training(self) -> list[Run]:
        """The runs that are trained."""
        if not self.trained:
            return []
        return sweeps.runs(sweeps.Request(self.trained, self.task, self.config, settings=self.settings))
