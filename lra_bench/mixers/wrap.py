"""A function, a Flax linen module or an Equinox module as a mixer: one line of a user's own file.

    Mixer = wrap.function(f)                                       f(q, k, v, mask), within multi-head attention
    Mixer = wrap.linen(lambda dims: Mine(dims.width))              module(x, mask)
    Mixer = wrap.equinox(lambda dims, key: Mine(dims.width, key))  module(x, mask) of one example, by `jax.vmap`

`mask` is True where there is a token. Where the file has a `Config`, its options are further arguments by name, of `f`
or of what makes the module. Parameters are float32; a module is called with them in x's dtype, and what it returns is
cast to that dtype. Nothing is drawn within: dropout belongs to the block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from inspect import signature
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from flax.core import meta
from jax.tree_util import keystr, tree_leaves_with_path, tree_map_with_path
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Constant, Dims, MixerBase
from lra_bench.mixers.heads import HeadsMixer


def function(f: Callable[..., Array]) -> type[HeadsMixer]:
    """`f(q, k, v, mask)` between the projections of multi-head attention: [B, H, L, K] each, and [B, L]; so is y.

    Raises:
        ConfigError: it cannot be called with four arrays.
    """
    try:
        signature(f).bind_partial("q", "k", "v", "mask")
    except TypeError:
        raise ConfigError(f"wrap.function: {f.__name__}{signature(f)}: must take (q, k, v, mask)") from None

    class Mixer(HeadsMixer):
        def __init__(self, config: Any, dims: Dims, *, rngs: nnx.Rngs) -> None:
            super().__init__(config, dims, rngs=rngs)
            self.options = _options(config)

        def attend(
            self,
            q: Float[Array, "B H L K"],
            k: Float[Array, "B H L K"],
            v: Float[Array, "B H L K"],
            mask: Bool[Array, "B L"],
        ) -> Float[Array, "B H L K"]:
            return _like(q, f(q, k, v, mask, **dict(self.options)), "wrap.function")

    return _of(Mixer, f)


def linen(make: Callable[..., nn.Module]) -> type[MixerBase]:
    """The Flax linen module that `make(dims)` returns, called as `module(x, mask)`: [B, L, D] and [B, L]; y as x.

    Its collection `params` is all that it may have: a running mean (`batch_stats`) makes the rows of a batch see each
    other.
    """

    class Mixer(_Wrapped):
        def __init__(self, config: Any, dims: Dims, *, rngs: nnx.Rngs) -> None:
            self.dims, self.options = dims, _options(config)
            params = self.drawn(rngs.params())
            self.structure: Any = jax.tree.structure(params)
            self.arrays = _held(params)

        def drawn(self, key: Array) -> Any:
            """Its parameters. The forward pass that linen draws them along is never computed."""
            module, L, D = self.module, self.dims.length, self.dims.width

            @jax.jit
            def draw(key: Array) -> Any:
                return meta.unbox(module.init(key, jnp.zeros((1, L, D)), jnp.ones((1, L), bool)))

            variables = draw(key)
            if further := sorted(variables.keys() - {"params"}):
                raise ConfigError(f"wrap.linen: the module has {', '.join(further)}; a mixer has params alone")
            return variables.get("params", {})

        @property
        def module(self) -> nn.Module:
            module = make(self.dims, **dict(self.options))
            if not isinstance(module, nn.Module):
                raise ConfigError(f"wrap.linen: {type(module).__name__} is no flax.linen.Module")
            return module

        def __call__(
            self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
        ) -> Float[Array, "B L D"]:
            tree = jax.tree.unflatten(self.structure, range(self.structure.num_leaves))
            params = self.filled(tree, x.dtype)
            return _like(x, self.module.apply({"params": params}, x, mask), "wrap.linen")

    return _of(Mixer, make)


def equinox(make: Callable[..., Any]) -> type[MixerBase]:
    """The Equinox module that `make(dims, key)` returns, called as `module(x, mask)` with one example at a time, as
    Equinox's own layers are: [L, D] and [L]; y as x. `jax.vmap` maps it over the batch.

    As Equinox has it, its inexact arrays are parameters, NumPy's among them; integers and Booleans are constants.

    Raises:
        ConfigError: Equinox is not installed.
    """
    try:
        import equinox as eqx
    except ImportError:
        raise ConfigError("wrap.equinox: equinox is not installed; pip install equinox") from None

    class Mixer(_Wrapped):
        def __init__(self, config: Any, dims: Dims, *, rngs: nnx.Rngs) -> None:
            self.dims, self.options = dims, _options(config)
            self.arrays = _held(eqx.filter(self.made(rngs.params()), eqx.is_array))

        def made(self, key: Array) -> Any:
            module = make(self.dims, key, **dict(self.options))
            if not isinstance(module, eqx.Module):
                raise ConfigError(f"wrap.equinox: {type(module).__name__} is no equinox.Module")
            return module

        def __call__(
            self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
        ) -> Float[Array, "B L D"]:
            module = eqx.filter_eval_shape(self.made, jax.eval_shape(jax.random.key, 0))  # all but its arrays
            shapes, rest = eqx.partition(module, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
            whole = eqx.combine(self.filled(shapes, x.dtype), rest)
            return _like(x, jax.vmap(whole)(x, mask), "wrap.equinox")

    return _of(Mixer, make)


class _Wrapped(MixerBase):
    """A module of another library, whose `arrays` are held by their paths in it."""

    arrays: nnx.Dict[nnx.Variable[jax.Array]]

    def filled(self, tree: Any, dtype: Any) -> Any:
        """The tree with the arrays as its leaves, floating-point ones cast to `dtype`."""

        def array(path: Any, _: Any) -> Array:
            own = self.arrays[keystr(path)][...]
            return own.astype(dtype) if jnp.issubdtype(own.dtype, jnp.floating) else own

        return tree_map_with_path(array, tree)


def _held(tree: Any) -> nnx.Dict[nnx.Variable[jax.Array]]:
    """The leaves of a tree of arrays, each by its path: inexact ones as parameters."""
    return nnx.Dict({
        keystr(path): (nnx.Param if jnp.issubdtype(leaf.dtype, jnp.inexact) else Constant)(jnp.asarray(leaf))
        for path, leaf in tree_leaves_with_path(tree)
    })  # fmt: skip


def _options(config: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(asdict(config).items())


def _like(x: Array, y: Any, name: str) -> Array:
    """y in x's dtype.

    Raises:
        ConfigError: it has not x's shape.
    """
    shape = getattr(y, "shape", type(y).__name__)
    if shape != x.shape:
        raise ConfigError(f"{name}: it returns {shape}, not {x.shape}")
    return jnp.asarray(y).astype(x.dtype)


def _of(mixer: Any, own: Callable[..., Any]) -> Any:
    """The class, as one of the user's own file."""
    mixer.__module__, mixer.__doc__ = own.__module__, own.__doc__
    return mixer
