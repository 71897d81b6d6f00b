"""A task's own training inputs, symbols of which are asked for: what a model is pretrained on before it sees a label.

Self-pretraining (Amos et al., arXiv 2310.02980, section 2): `masked`, `rate` of a text's symbols are asked for (BERT,
arXiv 1810.04805, section 3.1: of those, eight in ten show a mask, one a symbol drawn at random, one itself); `causal`,
at each place the symbol that follows. The task's val and test are not looked at: those here are cut from the end of its
train. The mask is a symbol more than the task has; pairs of texts are texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from lra_bench import data
from lra_bench.config import Strict, TaskSpec
from lra_bench.data import Progress
from lra_bench.data.generated import Dice
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import SPLITS, Split

MASK = "<mask>"
AT_ONCE = 1024  # texts


class Asked(Strict):
    """What is asked for."""

    objective: Literal["masked", "causal"]
    rate: Annotated[float, Field(gt=0, lt=1)]  # share of the symbols, where they are masked


@dataclass(frozen=True)
class Denoising:
    """The training inputs of a task, as a `Source`."""

    task: TaskSpec

    VERSION: ClassVar[int] = 1
    HEADER: ClassVar[str] = "Source\tTarget"
    PUBLISHED: ClassVar[bool] = True  # a task's inputs may be some twice: its labels are what differs
    Args: ClassVar[type[Strict]] = Asked

    def vocabulary(self, args: Asked) -> tuple[str, ...]:
        """The task's symbols, and the mask."""
        return (*data.vocabulary(self.task), MASK)

    def values(self, args: Asked) -> np.ndarray | None:
        """The task's, the mask's 0: float32 [V, F]."""
        stand_for = data.values(self.task)
        return None if stand_for is None else np.concatenate([stand_for, np.zeros_like(stand_for[:1])])

    def files(self, folder: Path) -> dict[str, Path]:
        """None: those of the task are its own."""
        raise TaskError(f"{folder}: no files are read for pretraining; they are the task's, {self.task.name}")

    def build(
        self, args: Asked, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
    ) -> dict[str, Split]:
        """The texts of the task's train, in order, as so many of each split; what is asked for is drawn from `seed`."""
        train = data.prepare(self.task, progress).splits["train"]
        texts = train.tokens.reshape(-1, train.tokens.shape[-1])
        built, first = {}, 0
        for number, (split, n) in enumerate((split, splits[split]) for split in SPLITS):
            parts, dice = [], Dice(seed, number)
            for done in range(0, n, AT_ONCE):
                here = np.asarray(texts[first + done : first + min(done + AT_ONCE, n)])
                parts.append(self._asked(here, args, dice))
                progress(f"hiding symbols, {split}", min(done + AT_ONCE, n), n)
            shown, label = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            built[split] = Split(shown[:, None], (shown > 0).sum(-1, dtype=np.int32)[:, None], label)
            first += n
        return built

    def _asked(self, texts: np.ndarray, args: Asked, dice: Dice) -> tuple[np.ndarray, np.ndarray]:
        """Texts [n, L] as they are shown, and as labels [n, L] the symbols that are asked for, else 0."""
        mask = len(data.vocabulary(self.task))
        kind = np.promote_types(texts.dtype, np.min_scalar_type(mask))
        if args.objective == "causal":
            return texts.astype(kind), np.pad(texts[:, 1:], ((0, 0), (0, 1)))
        rank = np.argsort(np.argsort(np.where(texts > 0, dice.order(texts.shape), texts.shape[1])))
        count = np.maximum(1, np.round(args.rate * (texts > 0).sum(-1, keepdims=True)))
        asked = (rank < count) & (texts > 0)
        fate, random = dice.throw(10, texts.shape), 1 + dice.throw(mask - 1, texts.shape)
        instead = np.where(fate == 0, random, np.where(fate == 1, texts, mask))
        return np.where(asked, instead, texts).astype(kind), np.where(asked, texts, 0).astype(texts.dtype)

    def check(self, args: Asked, tokens: np.ndarray, label: Any) -> None:
        """DataError: a symbol is asked for where the text has none, or a mask stands where nothing is asked for."""
        asked = label > 0
        if (asked & (tokens[0] == 0)).any() or not asked.any():
            raise DataError("a symbol is asked for where there is none, or none at all")
        if ((tokens[0] == len(data.vocabulary(self.task))) & ~asked).any():
            raise DataError("a mask stands where nothing is asked for")

    def encode(self, text: str) -> np.ndarray:
        """As the task's."""
        return data.of(self.task).encode(text)

    def decode(self, tokens: np.ndarray) -> str:
        """As the task's, masks left out."""
        return data.of(self.task).decode(tokens[tokens < len(data.vocabulary(self.task))])

    def row(self, tokens: np.ndarray, label: Any) -> str:
        """The text, and the symbols that are asked for."""
        return f"{self.decode(tokens[0])}\t{self.decode(label[label > 0])}"
