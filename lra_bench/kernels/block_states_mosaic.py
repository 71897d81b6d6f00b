"""The walk of `block-recurrent` over its blocks as one kernel for NVIDIA's Hopper, forward and backward (Mosaic).

A program has one text, and a warpgroup of it 64 rows of the state, in registers from the first block to the last. What
all rows need of a head, its weights, the state's keys and values and the block's tokens, stands in shared memory. The
backward walk holds the gradient by the state alone; all else is recomputed from the states. `recurrent_states` over
`advanced_reference` is its reference.

Products are of bfloat16: a number is cut into one, two or three of them, of which the first holds 8 bits, the next 8
more, and products of small with small parts are left out. Two parts, 16 bits, are what float32 takes, where TensorFloat
would have 11; three where the highest precision is asked for.

What was tested: values and gradients, interpreted on a CPU by JAX 0.10.2 and 0.12.0.1, with the warpgroups' shared
memory, barriers and fences, without the tensor cores. What was compiled only: to machine code for an H100, by JAX
0.10.2 and 0.11.2; 0.12.0.1 was seen to lower it. Never run on a GPU, and never timed there. Where a batch is sharded
over devices XLA does not split the kernel but gathers the batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as gpu
from jaxtyping import Array, Bool, Float, Float32

from lra_bench.kernels.dense import dense_reference
from lra_bench.kernels.layer_norm import layer_norm_reference
from lra_bench.kernels.softmax_attention import LOWEST, softmax_attention_reference

ROWS = 64  # of a warpgroup: the only height that its products have
MOST_GROUPS = 2  # of a program: each then has 255 registers a thread
SHARED = 227 * 2**10 - 4096  # bytes of shared memory that a program may take, less what the compiler asks for
HIGHEST = ("highest", "float32")  # precisions, in JAX's words
# JAX 0.11 lowers a program by warpgroups if it is not told, and has no `where` of a scalar there.
BY_LANE = gpu.CompilerParams(lowering_semantics=gpu.LoweringSemantics.Lane)
Parts = Sequence[Array]  # of numbers, in bfloat16, the largest first


class Operand(NamedTuple):
    """A product's second operand, in shared memory."""

    part: Callable[[int], Any]  # its i-th, in bfloat16
    turned: bool = False  # it is the transpose of what stands there

    @property
    def transposed(self) -> Operand:
        """Its transpose."""
        return Operand(self.part, not self.turned)

    def ref(self, i: int) -> Any:
        """A part, as the tensor cores take it."""
        return self.part(i).T if self.turned else self.part(i)

    def value(self, i: int) -> Float[Array, "L M"]:
        """A part, in registers."""
        return self.part(i)[...].T if self.turned else self.part(i)[...]


class Weights(NamedTuple):
    """What the state is advanced by."""

    scale: Float32[Array, "D"]  # of the normalization
    bias: Float32[Array, "D"]
    ids: Float32[Array, "S D"]
    state: Float32[Array, "D 4J"]  # queries of the state and of the tokens, keys, values
    update: Float32[Array, "2J D"]
    offset: Float32[Array, "D"]
    share: Float32[Array, "D"]  # that is kept


def advanced_reference(
    weights: Weights,
    S: Float32[Array, "B S D"],
    k: Float[Array, "B H W K"],
    v: Float[Array, "B H W K"],
    there: Bool[Array, "B W"],
) -> Float32[Array, "B S D"]:
    """The state after a block."""
    H = k.shape[1]
    c = layer_norm_reference(S.astype(k.dtype), weights.scale, weights.bias) + weights.ids.astype(k.dtype)
    cut = partial(jnp.reshape, shape=(*S.shape[:2], 4, H, -1))
    own, across, keys, values = jnp.moveaxis(cut(dense_reference(c, weights.state)), (2, 3), (0, 2))
    read = softmax_attention_reference(own, keys, values, jnp.ones(S.shape[:2], bool))
    both = jnp.concatenate([read, softmax_attention_reference(across, k, v, there)], axis=1)
    h = both.swapaxes(1, 2).reshape(*S.shape[:2], -1).astype(jnp.float32)
    after = S * weights.share + (h @ weights.update + weights.offset) * (1 - weights.share)
    return jnp.where(there.any(1)[:, None, None], after, S)


class _Sizes(NamedTuple):
    """Of arrays, and in how many parts numbers are: those that the model's dtype has, and float32's."""

    blocks: int
    batch: int
    heads: int
    tokens: int
    states: int
    width: int
    head_width: int
    low: int
    high: int
    interpreted: bool

    @property
    def groups(self) -> int:
        return self.states // ROWS


def fits(states: int, tokens: int, width: int, head_width: int, dtype: Any) -> bool:
    """Does a program hold such sizes?"""
    if dtype not in (jnp.float32, jnp.bfloat16) or head_width not in (32, 64) or width != ROWS:
        return False
    if states not in range(ROWS, MOST_GROUPS * ROWS + 1, ROWS) or tokens != states:
        return False
    parts = 3 if dtype == jnp.float32 else 1
    numbers = 6 * max(states, tokens) * head_width + 4 * width * head_width
    return 2 * (parts * numbers + 3 * 2 * head_width * width) <= SHARED


def walk(
    weights: Weights,
    start: Float32[Array, "B S D"],
    k: Float[Array, "N B H W K"],
    v: Float[Array, "N B H W K"],
    there: Bool[Array, "N B W"],
    interpret: Any = None,
) -> Float32[Array, "N B S D"]:
    """The state before each block."""
    sizes = _sizes(weights, k, interpret)
    made = jax.ShapeDtypeStruct((len(k), *start.shape), jnp.float32)
    return _call(_forward, sizes, made, False, interpret)(start, *_given(weights, k, v, there, sizes))


def walk_back(
    weights: Weights,
    states: Float32[Array, "N B S D"],
    k: Float[Array, "N B H W K"],
    v: Float[Array, "N B H W K"],
    there: Bool[Array, "N B W"],
    g: Float32[Array, "N B S D"],
    interpret: Any = None,
) -> tuple[Float32[Array, "B S D"], Float32[Array, "N B S D"]]:
    """The gradient by the first state, and by the state after each block, from those by the state before each."""
    sizes = _sizes(weights, k, interpret)
    made = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (states.shape[1:], states.shape)]
    start, after = _call(_backward, sizes, made, True, interpret)(states, g, *_given(weights, k, v, there, sizes))
    return start, after


def _sizes(weights: Weights, k: Float[Array, "N B H W K"], interpret: Any) -> _Sizes:
    N, B, H, W, K = k.shape
    settings: Any = jax.config
    high = 3 if settings.jax_default_matmul_precision in HIGHEST else 2
    return _Sizes(
        blocks=N,
        batch=B,
        heads=H,
        tokens=W,
        states=weights.ids.shape[0],
        width=weights.ids.shape[1],
        head_width=K,
        low=1 if k.dtype == jnp.bfloat16 else high,
        high=high,
        interpreted=interpret is not None,
    )


def _given(weights: Weights, k: Array, v: Array, there: Bool[Array, "N B W"], sizes: _Sizes) -> list[Array]:
    """The kernel's operands beside the states."""
    H, K, D = sizes.heads, sizes.head_width, sizes.width
    state = weights.state.reshape(D, 4, H, K).transpose(2, 1, 0, 3)
    update = weights.update.reshape(2, H, K, D).swapaxes(0, 1)
    vectors = jnp.stack([weights.scale, weights.bias, weights.offset, weights.share])
    stacked = [jnp.stack(_split(x, n, traced=True)) for x, n in ((state, sizes.low), (update, sizes.high))]
    hidden = jnp.where(there, 0, LOWEST).astype(jnp.float32)
    return [*stacked, vectors, weights.ids, k, v, hidden, there.any(2).astype(jnp.int32)]


def _call(kernel: Callable[..., None], sizes: _Sizes, made: Any, backward: bool, interpret: Any) -> Callable[..., Any]:
    return gpu.kernel(
        partial(kernel, sizes=sizes),
        out_type=made,
        scratch_types=_shared(sizes, backward),
        grid=(sizes.batch,),
        grid_names=("row",),
        num_threads=sizes.groups,
        thread_name="group",
        kernel_name=f"block_states{kernel.__name__}",
        compiler_params=BY_LANE,
        **({} if interpret is None else {"interpret": interpret}),
    )


def _shared(sizes: _Sizes, backward: bool) -> dict[str, Any]:
    """What a program holds in shared memory; rows of a head are as wide as the swizzle of a product's operand."""
    K, D, low, high = sizes.head_width, sizes.width, sizes.low, sizes.high
    swizzled = (gpu.TilingTransform((8, K)), gpu.SwizzleTransform(2 * K))

    def held(*shape: int) -> Any:
        return gpu.SMEM(shape, jnp.bfloat16, transforms=swizzled)

    copies = 4 * low + 2 * high
    shared = {
        "state": held(low, 4, D, K),
        "update": held(high, 2, K, D),
        "tokens": held(2, low, sizes.tokens, K),
        "rows": held(4 if backward else 2, low, sizes.states, K),
        "loaded": gpu.Barrier(num_arrivals=copies),
        "met": gpu.Barrier(num_arrivals=sizes.groups),
    }
    return shared | ({"sums": gpu.SMEM((2, sizes.states), jnp.float32)} if backward else {})


class _Program:
    """A warpgroup's part of one text: what both walks do."""

    def __init__(self, operands: Sequence[Any], shared: dict[str, Any], sizes: _Sizes) -> None:
        self.sizes, self.shared = sizes, shared
        self.state, self.update, self.vectors, self.ids, self.k, self.v, self.hidden, self.some = operands
        self.text, self.group = lax.axis_index("row"), lax.axis_index("group")
        self.mine = pl.ds(self.group * ROWS, ROWS)

    def load(self, ref: Any, at: Any, layout: Any = gpu.Layout.WGMMA) -> Array:
        """From memory into registers, as products have it."""
        return ref[at] if self.sizes.interpreted else _load(ref, at, layout=layout, optimized=False)

    def along(self, x: Float[Array, " M"], shape: tuple[int, ...]) -> Float[Array, "ROWS M"]:
        """The same in every row."""
        return self._laid(lax.broadcast_in_dim(x, shape, (1,)))

    def across(self, x: Float[Array, " ROWS"], shape: tuple[int, ...]) -> Float[Array, "ROWS M"]:
        """The same in every column."""
        return self._laid(lax.broadcast_in_dim(x, shape, (0,)))

    def _laid(self, x: Array) -> Array:
        return x if self.sizes.interpreted else gpu.layout_cast(x, gpu.Layout.WGMMA)

    def zeros(self) -> Float[Array, "ROWS D"]:
        return self._laid(jnp.zeros((ROWS, self.sizes.width), jnp.float32))

    def heads(self, of: Callable[[Array], Array]) -> Float[Array, "ROWS D"]:
        """The sum over all of them."""
        return lax.fori_loop(0, self.sizes.heads, lambda head, total: total + of(head), self.zeros())

    def row(self, ref: Any, at: Any, columns: int) -> Float[Array, "ROWS M"]:
        """A vector of memory, in every row."""
        return self.along(self.load(ref, at, gpu.Layout.WGMMA.reduce(0)), (ROWS, columns))

    def vector(self, i: int) -> Float[Array, "ROWS D"]:
        return self.row(self.vectors, (i, slice(None)), self.sizes.width)

    def product(self, a: Parts, b: Operand, columns: int, parts: int) -> Float32[Array, "ROWS M"]:
        """Of a's rows with b, of which each has so many parts at most."""
        pairs = [(i, j) for i in range(len(a)) for j in range(parts) if i + j < max(len(a), parts)]
        if self.sizes.interpreted:
            products = (a[i].astype(jnp.float32) @ b.value(j).astype(jnp.float32) for i, j in pairs)
            return sum(products, start=jnp.zeros((ROWS, columns), jnp.float32))

        def added(total: Any) -> Array:
            for i, j in pairs:
                gpu.wgmma(total, a[i], b.ref(j))
                gpu.wgmma_wait(0)
            return total[...]

        return pl.run_scoped(added, gpu.WGMMAAccumulatorRef((ROWS, columns), jnp.float32))

    def with_state(self, a: Parts, i: int) -> Float32[Array, "ROWS K"]:
        """a W, of the head's i-th part of the weights."""
        return self.product(a, self.weights(i), self.sizes.head_width, self.sizes.low)

    def normalized(self, S: Float32[Array, "ROWS D"]) -> tuple[Array, Array]:
        """The state with zero mean and unit variance, and what it was divided by."""
        S, shape = self.rounded(S), S.shape
        centered = S - self.across(S.sum(1) / shape[1], shape)
        inverse = self.across(lax.rsqrt((centered * centered).sum(1) / shape[1] + 1e-6), shape)
        return centered * inverse, inverse

    def read(self, S: Float32[Array, "ROWS D"]) -> Parts:
        """The state as it is projected."""
        c = self.rounded(self.normalized(S)[0] * self.vector(0) + self.vector(1))
        return self.split(c + self.rounded(self.load(self.ids, self.mine)))

    def rounded(self, x: Array) -> Array:
        """As the model's dtype has it."""
        return self.split(x)[0].astype(jnp.float32) if self.sizes.low == 1 else x

    def split(self, x: Array, parts: int | None = None) -> Parts:
        return _split(x, parts or self.sizes.low, traced=self.sizes.interpreted)

    def meet(self) -> None:
        """Wait until all warpgroups are here."""
        gpu.barrier_arrive(self.shared["met"])
        gpu.barrier_wait(self.shared["met"])

    def begin(self, n: Array, h: Array) -> None:
        """Bring the head's weights and the block's tokens into shared memory, once nobody reads the last ones."""
        self.shown()  # copies are of the asynchronous proxy, which sees what was read before them by this fence alone

        @pl.when(self.group == 0)
        def _() -> None:
            for name, ref in (("state", self.state), ("update", self.update)):
                for part in range(ref.shape[0]):
                    for i in range(ref.shape[2]):
                        gpu.copy_gmem_to_smem(ref.at[part, h, i], self.shared[name].at[part, i], self.shared["loaded"])

        for i, ref in enumerate((self.k, self.v)):
            self.put(self.shared["tokens"].at[i], self.load(ref, (n, self.text, h, self.mine)).astype(jnp.float32))
        gpu.barrier_wait(self.shared["loaded"])

    def put(self, ref: Any, x: Float32[Array, "ROWS K"]) -> None:
        """This warpgroup's rows into shared memory."""
        for i, part in enumerate(self.split(x)):
            ref.at[i, self.mine][...] = part

    def shown(self) -> None:
        """Wait until what all warpgroups did with shared memory is known to all."""
        gpu.commit_smem()
        self.meet()

    def rows(self, i: int) -> Operand:
        """Those of all warpgroups."""
        return Operand(lambda part: self.shared["rows"].at[i, part])

    def tokens(self, i: int) -> Operand:
        """The block's keys or values."""
        return Operand(lambda part: self.shared["tokens"].at[i, part])

    def updates(self, i: int) -> Operand:
        """The head's weights of the update, by what was read: in the state, in the tokens."""
        return Operand(lambda part: self.shared["update"].at[part, i])

    def weights(self, i: int) -> Operand:
        """The head's weights of the state: queries of itself and of the tokens, keys, values."""
        return Operand(lambda part: self.shared["state"].at[part, i])

    def scores(self, q: Parts, keys: Operand) -> Float32[Array, "ROWS M"]:
        K, M = self.sizes.head_width, self.sizes.states
        return self.product(q, keys.transposed, M, self.sizes.low) * K**-0.5

    def hides(self, n: Array) -> Float32[Array, "ROWS W"]:
        """What is added to the scores of the block's tokens."""
        return self.row(self.hidden, (n, self.text, slice(None)), self.sizes.tokens)

    def softmax(self, scores: Float32[Array, "ROWS M"]) -> tuple[Array, Array, Array]:
        """Weights before they are divided by their sum, the sum, and the highest score."""
        top = scores.max(1)
        weights = jnp.exp(scores - self.across(top, scores.shape))
        return weights, weights.sum(1), top

    def attended(self, scores: Float32[Array, "ROWS M"], values: Operand) -> Float32[Array, "ROWS K"]:
        weights, total, _ = self.softmax(scores)
        mixed = self.product(self.split(weights), values, self.sizes.head_width, self.sizes.low)
        return mixed / self.across(total, mixed.shape)


def _forward(start: Any, *refs: Any, sizes: _Sizes, **shared: Any) -> None:
    *operands, states = refs
    program = _Program(operands, shared, sizes)
    text, mine = program.text, program.mine

    def step(n: Array, S: Float32[Array, "ROWS D"]) -> Float32[Array, "ROWS D"]:
        states.at[n, text, mine][...] = S
        c = program.read(S)
        h = program.heads(lambda head: _updated(program, c, n, head)) + program.vector(2)
        share = program.vector(3)
        return jnp.where(program.some[n, text] > 0, S * share + h * (1 - share), S)

    S = lax.fori_loop(0, sizes.blocks - 1, step, program.load(start, (text, mine)))
    states.at[sizes.blocks - 1, text, mine][...] = S


def _updated(program: _Program, c: Parts, n: Array, head: Array) -> Float32[Array, "ROWS D"]:
    """What a head adds to the state."""
    sizes = program.sizes
    program.begin(n, head)
    own, across = (program.split(program.with_state(c, i)) for i in (0, 1))
    for i in (0, 1):
        program.put(program.shared["rows"].at[i], program.with_state(c, 2 + i))
    program.shown()
    read = program.attended(program.scores(own, program.rows(0)), program.rows(1))
    met = program.attended(program.scores(across, program.tokens(0)) + program.hides(n), program.tokens(1))
    added = [
        program.product(program.split(x), program.updates(i), sizes.width, sizes.high)
        for i, x in enumerate((read, met))
    ]
    return added[0] + added[1]


def _backward(states: Any, g: Any, *refs: Any, sizes: _Sizes, **shared: Any) -> None:
    *operands, start, after = refs
    program = _Program(operands, shared, sizes)
    text, mine, last = program.text, program.mine, sizes.blocks - 1

    def step(i: Array, pull: Float32[Array, "ROWS D"]) -> Float32[Array, "ROWS D"]:
        n = last - 1 - i
        at = (n, text, mine)
        after.at[n, text, mine][...] = pull
        share = program.vector(3)
        c = program.read(program.load(states, at))
        h = program.split(pull * (1 - share), sizes.high)
        total = program.heads(lambda head: _pulled(program, c, h, n, head))
        through = _through_norm(program, program.load(states, at), total) + pull * share
        return program.load(g, at) + jnp.where(program.some[n, text] > 0, through, pull)

    after.at[last, text, mine][...] = program.zeros()
    pull = lax.fori_loop(0, last, step, program.load(g, (last, text, mine)))
    start.at[text, mine][...] = pull


def _through_norm(
    program: _Program, S: Float32[Array, "ROWS D"], pull: Float32[Array, "ROWS D"]
) -> Float32[Array, "ROWS D"]:
    """The gradient by the state from the one by its normalized form."""
    unit, inverse = program.normalized(S)
    pull = pull * program.vector(0)
    mean, slope = (program.across(x.sum(1) / x.shape[1], x.shape) for x in (pull, pull * unit))
    return inverse * (pull - mean - unit * slope)


def _pulled(program: _Program, c: Parts, h: Parts, n: Array, head: Array) -> Float32[Array, "ROWS D"]:
    """The gradient by the state as it is projected, through one head."""
    sizes, split = program.sizes, program.split
    program.begin(n, head)
    own, across, keys, values = (split(program.with_state(c, i)) for i in range(4))
    of_read, of_met = (
        split(program.product(h, program.updates(i).transposed, sizes.head_width, sizes.high)) for i in (0, 1)
    )
    for i, parts in enumerate((keys, values, own, of_read)):
        _put_parts(program, i, parts)
    program.shown()
    scores = program.scores(own, program.rows(0))
    of_scores = _of_scores(program, scores, of_read, program.rows(1), keep=True)
    of_own = program.product(split(of_scores), program.rows(0), sizes.head_width, sizes.low)
    scores = program.scores(across, program.tokens(0)) + program.hides(n)
    of_scores = _of_scores(program, scores, of_met, program.tokens(1))
    of_across = program.product(split(of_scores), program.tokens(0), sizes.head_width, sizes.low)
    program.meet()
    total = program.zeros()
    for i, x in enumerate((of_own, of_across, *_of_keys(program, keys, values))):
        total = total + _through_state(program, x, i)
    return total


def _put_parts(program: _Program, i: int, parts: Parts) -> None:
    for j, part in enumerate(parts):
        program.shared["rows"].at[i, j, program.mine][...] = part


def _through_state(program: _Program, x: Float32[Array, "ROWS K"], i: int) -> Float32[Array, "ROWS D"]:
    """x W^T, of the head's i-th part of the weights."""
    sizes = program.sizes
    return program.product(program.split(x), program.weights(i).transposed, sizes.width, sizes.low)


def _of_scores(
    program: _Program, scores: Float32[Array, "ROWS M"], g: Parts, values: Operand, keep: bool = False
) -> Float32[Array, "ROWS M"]:
    """The gradient by the scores, before they are scaled; `keep` what the keys' gradients need of each row."""
    weights, total, top = program.softmax(scores)
    weights = weights / program.across(total, scores.shape)
    of_weights = program.product(g, values.transposed, scores.shape[1], program.sizes.low)
    mean = (weights * of_weights).sum(1)
    if keep:
        program.shared["sums"].at[0, program.mine][...] = top + jnp.log(total)
        program.shared["sums"].at[1, program.mine][...] = mean
    return weights * (of_weights - program.across(mean, scores.shape)) * program.sizes.head_width**-0.5


def _of_keys(program: _Program, keys: Parts, values: Parts) -> tuple[Array, Array]:
    """The gradients of the state's own keys and values: the scores the other way round, by rows of keys."""
    sizes, split = program.sizes, program.split
    logsumexp, mean = (program.row(program.shared["sums"], (i, slice(None)), sizes.states) for i in (0, 1))
    weights = jnp.exp(program.scores(keys, program.rows(2)) - logsumexp)
    of_weights = program.product(values, program.rows(3).transposed, sizes.states, sizes.low)
    of_scores = weights * (of_weights - mean) * sizes.head_width**-0.5
    of_keys = program.product(split(of_scores), program.rows(2), sizes.head_width, sizes.low)
    return of_keys, program.product(split(weights), program.rows(3), sizes.head_width, sizes.low)


def _load(ref: Any, at: Any, **how: Any) -> Array:
    """As JAX 0.10 takes its arguments, and as those after it do."""
    index = inspect.signature(gpu.load).parameters.get("idx")
    needed = index is not None and index.default is inspect.Parameter.empty
    return gpu.load(ref, at, **how) if needed else gpu.load(ref.at[at], **how)


def _split(x: Float[Array, "..."], parts: int, traced: bool = False) -> list[Array]:
    """Numbers whose sum x is, as near as so many of bfloat16 come.

    Args:
        traced: by XLA, which takes a number that is cast to and fro for the number itself, but for `reduce_precision`.
    """
    split: list[Array] = []
    for _ in range(parts):
        near = lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7) if traced else x
        split.append(near.astype(jnp.bfloat16))
        x = x - (near if traced else split[-1].astype(jnp.float32))
    return split
