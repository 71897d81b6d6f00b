"""Axial attention (Ho et al., arXiv 1912.12180, section 3.1): tokens stand in a grid and attend along their row, then
along their column.

    r = A_row(x),   y = r + A_column(x + r)      in sequence, as two residual layers of one axis each
                    y = r + A_column(x)          as a sum

each A being softmax attention of its own. An image's grid is its own; a text is written line by line into about sqrt L
rows. Padding, at the end of the grid too, is no key on either axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Shaped

from lra_bench.errors import ConfigError
from lra_bench.kernels.softmax_attention import softmax_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.card import Card, Walked
from lra_bench.mixers.heads import HeadsMixer

CARD = Card(
    title="Axial",
    family="fixed-pattern",
    paper="1912.12180",
    equation="section 3.1",
    year=2019,
    time=1.5,
    memory=1.0,
    exact_when="rows = 1 and W_v = 0 along the columns",
    exact_without="the columns",
    public="axial-attention (PyPI, PyTorch)",
    differs="both axes in one layer, with weights of their own: two residual layers without the MLP and norm between "
    "them; a text's grid is arbitrary; what stands before an image's pixels (cls) has a row of its own above them; "
    "both ways, no shifts",
    padded_length="the rows into which a text is folded",
)


@dataclass(frozen=True)
class Config(Walked):
    """How the grid is laid, and how its axes are joined."""

    rows: int | None = None
    """Rows of the grid; None: an image's own, about sqrt L of a text."""

    form: str = "sequence"
    """sequence: columns attend to what the rows made; sum: both axes see x, and are added."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows is not None and self.rows < 1:
            raise ConfigError(f"rows: {self.rows}; at least 1")
        if self.form not in ("sequence", "sum"):
            raise ConfigError(f"form: '{self.form}'; it can be: sequence, sum")


class Mixer(HeadsMixer):
    """Every token looks along its row, then along its column."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.form, self.rows, self.grid = config.form, config.rows, dims.grid
        self.columns = HeadsMixer(config, dims, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        row = self.output(self.along(*self.project(x), mask, down=False))
        seen = x + row if self.form == "sequence" else x
        return row + self.columns.output(self.along(*self.columns.project(seen), mask, down=True))

    def along(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
        *,
        down: bool,
    ) -> Float[Array, "B H L K"]:
        """Softmax attention inside each row, or down each column."""
        L = q.shape[2]
        front, cols = self.layout(L)
        q, k, v, there = (lines(part, front, cols, down=down) for part in (q, k, v, mask[:, None, :, None]))
        there = there.reshape(-1, k.shape[3])
        y = softmax_attention(flat(q), flat(k), flat(v), there, self.impl)
        return tokens(y.reshape(q.shape), front, L, down=down)

    def layout(self, length: int) -> tuple[int, int]:
        """How many tokens stand before the grid, and how many columns it has."""
        if self.rows is not None:
            return 0, -(-length // self.rows)
        if self.grid is not None and math.prod(self.grid) <= length:
            return length - math.prod(self.grid), self.grid[1]
        return 0, math.isqrt(length - 1) + 1


def lines(x: Shaped[Array, "B H L K"], front: int, cols: int, *, down: bool) -> Shaped[Array, "B N H M K"]:
    """The grid's rows, or its columns; the `front` tokens fill rows of their own above it."""
    parts = [fill(part, cols) for part in (x[:, :, :front], x[:, :, front:])]
    grid = jnp.concatenate(parts, axis=2)
    return jnp.moveaxis(grid, 3 if down else 2, 1)


def flat(x: Shaped[Array, "B N H M K"]) -> Shaped[Array, "BN H M K"]:
    """The lines as rows of the batch."""
    return x.reshape(-1, *x.shape[2:])


def tokens(y: Shaped[Array, "B N H M K"], front: int, length: int, *, down: bool) -> Shaped[Array, "B H L K"]:
    """What `lines` was given."""
    grid = jnp.moveaxis(y, 1, 3 if down else 2)
    B, H, rows, cols, K = grid.shape
    above = -(-front // cols) * cols
    line = grid.reshape(B, H, rows * cols, K)
    return jnp.concatenate([line[:, :, :front], line[:, :, above : above + length - front]], axis=2)


def fill(x: Shaped[Array, "B H L K"], cols: int) -> Shaped[Array, "B H R C K"]:
    """Result by row, the last one filled up with zeros."""
    B, H, L, K = x.shape
    return jnp.pad(x, ((0, 0), (0, 0), (0, -L % cols), (0, 0))).reshape(B, H, -(-L // cols), cols, K)


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """One row; a column, of one token, adds nothing."""
    mixer = Mixer(Config(rows=1), dims, rngs=rngs)
    values = 2 * mixer.columns.qkv.shape[1] // 3
    mixer.columns.qkv[...] = mixer.columns.qkv[...].at[:, values:].set(0)
    return [mixer]
