"""Axial attention (Ho et al., arXiv 1912.12180, section 3.1): tokens stand in a grid and attend along their row, then
along their column.

    r = A_row(x),   y = r + A_column(x + r)      in sequence, as two residual layers of one axis each
                    y = r + A_column(x)          as a sum

each A being softmax attention of its own. An image's grid is its own; a text is written line by line into about sqrt L
rows. Padding, at the end of the grid too, is no key on either axis.

Where it is causal (sections 3.2 and 3.3), a token sees its own row up to itself, and the rows above it through what
columns attend to, each up to its place, which is then shifted down by a row:

    y = A_row<=(x) + shift(A_column<=(x + A_row(x)))         x, not x + A_row(x), as a sum

The grid is that of the longest text then, as a text that is not yet at its end has none of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

from lra_bench.errors import ConfigError
from lra_bench.kernels.softmax_attention import softmax_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.caches import KeyValues, attended, behind, empty, extended
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
    causal_form="yes",
    public="axial-attention (PyPI, PyTorch)",
    differs="both axes in one layer, with weights of their own: two residual layers without the MLP and norm between "
    "them; a text's grid is arbitrary; what stands before an image's pixels (cls) has a row of its own above them; "
    "no shifts but where it is causal, and then one to the right is not needed: a token sees itself; what comes from "
    "the rows above is added to what the row gives (the authors' code: the row's layers read it)",
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


class Grid(NamedTuple):
    """The row that is not yet at its end, what was seen down to the row above it, and the columns so far."""

    row: KeyValues
    x: Float[Array, "B C D"]
    above: Float[Array, "B C D"]
    k: Float[Array, "B H R C K"]
    v: Float[Array, "B H R C K"]


class Mixer(HeadsMixer):
    """Every token looks along its row, then along its column."""

    longest: int

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.form, self.rows, self.grid = config.form, config.rows, dims.grid
        self.longest = dims.length
        self.columns = HeadsMixer(config, dims, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        if self.causal:
            return self.looking_back(x, mask)
        row = self.output(self.along(*self.project(x), mask, down=False))
        seen = x + row if self.form == "sequence" else x
        return row + self.columns.output(self.along(*self.columns.project(seen), mask, down=True))

    def looking_back(self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"]) -> Float[Array, "B L D"]:
        """The causal form. Padding asks for nothing: what it is given moves on to the row below."""
        x = jnp.where(mask[..., None], x, 0)
        q, k, v = self.project(x)
        row = self.output(self.along(q, k, v, mask, down=False, causal=True))
        seen = x + self.output(self.along(q, k, v, mask, down=False)) if self.form == "sequence" else x
        above = self.along(*self.columns.project(seen), mask, down=True, causal=True, shifted=True)
        return row + self.columns.output(above)

    def along(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
        *,
        down: bool,
        causal: bool = False,
        shifted: bool = False,
    ) -> Float[Array, "B H L K"]:
        """Softmax attention inside each row, or down each column.

        Args:
            causal: up to each token's place.
            shifted: along a line, by one place: what the first one is given is 0.
        """
        L = q.shape[2]
        front, cols = self.layout(L)
        q, k, v, there = (lines(part, front, cols, down=down) for part in (q, k, v, mask[:, None, :, None]))
        there = there.reshape(-1, k.shape[3])
        y = softmax_attention(flat(q), flat(k), flat(v), there, self.impl, causal).reshape(q.shape)
        y = jnp.pad(y, ((0, 0),) * 3 + ((1, 0), (0, 0)))[:, :, :, :-1] if shifted else y
        return tokens(y, front, L, down=down)

    def layout(self, length: int) -> tuple[int, int]:
        """How many tokens stand before the grid, and how many columns it has."""
        longest = self.longest if self.causal else length
        if self.rows is not None:
            return 0, -(-longest // self.rows)
        if self.grid is not None and math.prod(self.grid) <= longest:
            return min(longest - math.prod(self.grid), length), self.grid[1]
        return 0, math.isqrt(longest - 1) + 1

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """The row and the column of each token of the longest text."""
        front, cols = self.layout(self.longest)
        above = -(-front // cols) * cols
        i = np.arange(self.longest)
        at = np.where(i < front, i, i - front + above)
        return at // cols, at % cols

    def ends(self) -> np.ndarray:
        """Of each token of the longest text: is it the last one of a row that has one below?"""
        rows, _ = self.places()
        return np.append(rows[1:] > rows[:-1], False)

    def init_state(self, batch: int, length: int) -> Grid:
        """One row's keys, values and x, and all columns' keys and values."""
        rows, cols = self.places()[0][length - 1] + 1, self.layout(self.longest)[1]
        x = jnp.zeros((batch, cols, self.out.shape[1]), self.dtype)
        columns = jnp.zeros((batch, self.heads, rows, cols, self.head_width), self.dtype)
        return Grid(empty(self, batch, cols), x, x, columns, columns)

    def prefill(self, state: Grid, x: Float[Array, "B N D"]) -> tuple[Grid, Float[Array, "B N D"]]:
        N, (_, cols) = x.shape[1], self.places()
        y = self(x, jnp.ones(x.shape[:2], bool), key=None)
        row = extended(state.row, *self.project(x)[1:])
        newest = {c: i for i, c in enumerate(cols[:N])}
        slots, tokens = np.asarray([*newest]), np.asarray([*newest.values()])
        state = state._replace(row=row, x=state.x.at[:, slots].set(x[:, tokens].astype(state.x.dtype)))
        ends = np.flatnonzero(self.ends()[:N])
        return (self.whole_rows(state, x[:, : ends[-1] + 1]) if len(ends) else state), y

    def whole_rows(self, state: Grid, x: Float[Array, "B N D"]) -> Grid:
        """With keys and values of whole rows in their columns, and what the columns give the row below them."""
        mask = jnp.ones(x.shape[:2], bool)
        seen = x
        if self.form == "sequence":
            seen = x + self.output(self.along(*self.project(x), mask, down=False).astype(x.dtype))
        laid = (lines(h, *self.layout(x.shape[1]), down=False) for h in self.columns.project(seen))
        q, *new = (jnp.moveaxis(h, 1, 2) for h in laid)
        count = q.shape[2]
        k, v = (old.at[:, :, :count].set(h.astype(old.dtype)) for old, h in zip((state.k, state.v), new, strict=True))
        return state._replace(k=k, v=v, above=self.below(q[:, :, -1], k, v, count - 1).astype(state.above.dtype))

    def step(self, state: Grid, x: Float[Array, "B D"]) -> tuple[Grid, Float[Array, "B D"]]:
        i = state.row.place
        rows, cols = self.places()
        c = jnp.asarray(cols)[i]
        row, y = attended(state.row, *self.projected_at(x[:, None], i), lambda i, j: j >= i - c)
        y = self.output(y.astype(x.dtype))[:, 0] + state.above[:, c].astype(x.dtype)
        state = state._replace(row=row, x=state.x.at[:, c].set(x.astype(state.x.dtype)))
        last = jnp.asarray(self.ends())[i]
        at = jnp.asarray(rows)[i]
        above, *new = lax.cond(last, self.shifted, unshifted, state, at, i - c)
        at = behind(at, above)
        k, v = (old.at[:, :, at].set(h) for old, h in zip((state.k, state.v), new, strict=True))
        return state._replace(above=above, k=k, v=v), y

    def shifted(
        self, state: Grid, at: Int[Array, ""], first: Int[Array, ""]
    ) -> tuple[Float[Array, "B C D"], Float[Array, "B H C K"], Float[Array, "B H C K"]]:
        """At the end of the row `at`, whose first token's place is `first`: what the columns give the row below, and
        the row's keys and values in them."""
        there = jnp.arange(state.x.shape[1]) < state.row.place - first
        x = jnp.where(there[:, None], state.x, 0)
        seen = x
        if self.form == "sequence":
            y = softmax_attention(*self.projected_at(x, first), jnp.broadcast_to(there, x.shape[:2]), self.impl)
            seen = x + self.output(y.astype(x.dtype))
        q, *new = (jnp.where(there[:, None], h, 0) for h in self.columns.projected_at(seen, first))
        new_k, new_v = (h.astype(state.k.dtype) for h in new)
        k, v = state.k.at[:, :, at].set(new_k), state.v.at[:, :, at].set(new_v)
        return self.below(q, k, v, at).astype(x.dtype), new_k, new_v

    def below(
        self,
        q: Float[Array, "B H C K"],
        k: Float[Array, "B H R C K"],
        v: Float[Array, "B H R C K"],
        at: Int[Array, ""] | int,
    ) -> Float[Array, "B C D"]:
        """What the columns down to the row `at`, whose queries these are, give the row below it."""
        rows, cols = self.places()
        exists = np.zeros((max(rows) + 1, max(cols) + 1), bool)
        exists[rows, cols] = True
        mask = jnp.asarray(exists)[: k.shape[2]] & (jnp.arange(k.shape[2]) <= at)[:, None]
        q, k_down, v_down = (flat(jnp.moveaxis(h, 3, 1)) for h in (q[:, :, None], k, v))
        y = softmax_attention(q, k_down, v_down, jnp.tile(mask.T, (len(k), 1)), self.impl)
        y = jnp.moveaxis(y.reshape(len(k), -1, *y.shape[1:]), 1, 3)[:, :, 0]
        return self.columns.output(y)


def unshifted(
    state: Grid, at: Int[Array, ""], first: Int[Array, ""]
) -> tuple[Float[Array, "B C D"], Float[Array, "B H C K"], Float[Array, "B H C K"]]:
    """Before the end of a row: as it was."""
    return state.above, state.k[:, :, at], state.v[:, :, at]


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
