"""The backbone: pools, streams, padding, precision, depth, dropout. Its mixer here is softmax, in its plain form."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from samples import first_fast

import lra_bench.model.layers
from lra_bench import config, mixers
from lra_bench.config import Backbone
from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Auxiliary, Memory, MixerBase
from lra_bench.mixers.layers import sinusoids
from lra_bench.mixers.softmax import Config, Mixer
from lra_bench.model import Asked, Choice, Embedding, Model, Patches, sizes

L, VOCAB, CLASSES = 21, 17, 5
BACKBONE: dict[str, Any] = {
    "layers": 2, "width": 16, "heads": 2, "qkv": None, "mlp": 24, "dropout": 0.0,
    "positions": "sinusoidal", "patch": 1, "input": "symbols", "pool": "mean", "dtype": "float32", "remat": False,
}  # fmt: skip
MASK = jnp.arange(L) < jnp.array([L, 9, 0])[:, None, None]
TOKENS = jnp.where(MASK, jax.random.randint(jax.random.key(9), (3, 1, L), 1, VOCAB), 0)


def make(streams: int = 1, **options: Any) -> Model:
    backbone = Backbone(**(BACKBONE | options))
    asked = Asked(vocab=VOCAB, length=L, classes=CLASSES, streams=streams)
    model = Model([Choice(Mixer, Config(impl="plain"))], backbone, asked, rngs=nnx.Rngs(0))
    if backbone.pool == "cls":
        model.cls[...] = jnp.linspace(-1, 1, backbone.width)
    return model


def logits(model: Model, tokens: Any = TOKENS, mask: Any = MASK, key: jax.Array | None = None) -> np.ndarray:
    return np.asarray(jax.jit(lambda tokens, mask: model(tokens, mask, key=key))(tokens, mask))


def gradients(model: Model, key: jax.Array | None = None) -> Any:
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    loss = lambda params: jnp.square(nnx.merge(graph, params, rest)(TOKENS, MASK, key=key)).mean()  # noqa: E731
    return jax.jit(jax.grad(loss))(params)


def close(a: Any, b: Any, **tolerance: float) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), a, b)


@pytest.mark.parametrize("pool", first_fast("cls", "mean"))
@pytest.mark.parametrize("positions", first_fast("sinusoidal", "learned"))
def test_padding_changes_nothing_and_nothing_is_infinite(pool: str, positions: str) -> None:
    model = make(pool=pool, positions=positions)
    whole = logits(model)
    np.testing.assert_allclose(logits(model, TOKENS[:2, :, :9], MASK[:2, :, :9])[1], whole[1], atol=1e-5)
    np.testing.assert_allclose(logits(model, jnp.where(MASK, TOKENS, 3)), whole, atol=1e-6)
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    for leaf in jax.tree.leaves(gradients(model)):
        assert jnp.isfinite(leaf).all()


@pytest.mark.parametrize("grid", [None, (4, 4)])
def test_embeddings_and_positions_begin_with_the_deviation_that_is_asked_for(grid: tuple[int, int] | None) -> None:
    """A patch of four symbols, whose embeddings are added up, begins as a symbol does."""
    backbone = Backbone(**BACKBONE | {"width": 256, "positions": "learned", "patch": 2 if grid else 1})
    backbone = backbone.model_copy(update={"embedding_std": 0.3, "position_std": 0.05})
    asked = Asked(vocab=64, length=16 if grid else 64, classes=CLASSES, grid=grid)
    model = Model([Choice(Mixer, Config(impl="plain"))], backbone, asked, rngs=nnx.Rngs(0))
    x, _ = model.embed(
        jax.random.randint(jax.random.key(1), (64, asked.length), 1, 64), jnp.ones((64, asked.length), bool)
    )
    assert float(x.std()) == pytest.approx(0.3, rel=0.05)
    assert float(model.positions[...].std()) == pytest.approx(0.05, rel=0.05)


def test_small_begins_as_its_source_and_the_others_as_long_range_arena() -> None:
    said = {name: config.recipe(name).resolve("listops")[0].backbone for name in ("small", "base", "quick", "paper")}
    found = {name: (backbone.embedding_std, backbone.position_std) for name, backbone in said.items()}
    assert found == {"small": (0.02, 0.02)} | dict.fromkeys(("base", "quick", "paper"), (1.0, 0.02))


def test_mean_is_over_the_tokens_that_are_there() -> None:
    model = make()
    seen = jax.jit(lambda tokens, mask: model.encode(tokens, mask, key=None))(TOKENS[:, 0], MASK[:, 0])
    assert not seen[2].any()
    x = model.layers(model.embed.table[TOKENS[:, 0]] + model.positions[...], MASK[:, 0], key=None)
    np.testing.assert_allclose(seen[1], model.norm(x)[1, :9].mean(0), atol=1e-5)


def test_cls_is_pooled_alone_and_always_there() -> None:
    model = make(pool="cls")
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    assert model.positions.shape == (L + 1, 16)
    assert np.ptp(logits(model), axis=0).min() > 0  # an empty text has the cls token, and logits of its own
    x = jnp.concatenate([jnp.broadcast_to(model.cls[...], (3, 1, 16)), model.embed.table[TOKENS[:, 0]]], 1)
    mask = jnp.concatenate([jnp.ones((3, 1), bool), MASK[:, 0]], 1)
    pooled = model.norm(model.layers(x + model.positions[...], mask, key=None)[:, 0])
    np.testing.assert_allclose(model.encode(TOKENS[:, 0], MASK[:, 0], key=None), pooled, atol=1e-5)


def test_two_streams_share_the_backbone() -> None:
    model = make(streams=2)
    one, other = TOKENS[:, 0], TOKENS[::-1, 0]
    tokens, mask = jnp.stack([one, other], 1), jnp.stack([MASK[:, 0], MASK[::-1, 0]], 1)
    a, b = (model.encode(tokens[:, s], mask[:, s], key=None) for s in (0, 1))
    np.testing.assert_allclose(model.encode(one, MASK[:, 0], key=None), a, atol=1e-6)
    head = model.head.logits(jax.nn.relu(model.head.hidden(jnp.concatenate([a, b, a * b, a - b], -1))))
    np.testing.assert_allclose(logits(model, tokens, mask), head, atol=1e-5)


@pytest.mark.slow
def test_remat_and_depth_change_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    key = jax.random.key(1)
    made = {remat: make(dropout=0.2, remat=remat) for remat in (False, True)}
    values, slopes = logits(made[False], key=key), gradients(made[False], key=key)
    close(logits(made[True], key=key), values, atol=1e-6)
    close(gradients(made[True], key=key), slopes, atol=1e-6)
    monkeypatch.setattr(lra_bench.model.layers, "UNROLLED", 0)
    for model in made.values():
        close(logits(model, key=key), values, atol=1e-6)
        close(gradients(model, key=key), slopes, atol=1e-6)


def test_layers_are_not_the_same_layer() -> None:
    up = make().blocks.up.kernel
    assert up.shape == (2, 16, 24)
    assert abs(up[0] - up[1]).max() > 0.1


def test_bfloat16() -> None:
    half, full = make(dtype="bfloat16"), make()
    close(nnx.state(half, nnx.Param), nnx.state(full, nnx.Param))
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(half, nnx.Param))} == {jnp.dtype("float32")}
    a, b = logits(half), logits(full)
    assert a.dtype == np.float32
    np.testing.assert_allclose(a, b, atol=0.1 * abs(b).max())
    assert abs(a - b).max() > 0  # it did compute in half precision
    for leaf in jax.tree.leaves(gradients(half)):
        assert leaf.dtype == jnp.float32


@pytest.mark.slow
def test_dropout_is_drawn_by_the_key_in_training_only() -> None:
    model, one, other = make(dropout=0.3), jax.random.key(1), jax.random.key(2)
    np.testing.assert_array_equal(logits(model, key=one), logits(model, key=one))
    assert abs(logits(model, key=one) - logits(model, key=other)).max() > 1e-3
    assert abs(logits(model, key=one) - logits(model)).max() > 1e-3
    np.testing.assert_array_equal(logits(model), logits(make(dropout=0.0)))


def test_no_two_dropouts_of_a_step_share_their_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    model, keys = make(dropout=0.5), []
    noise = lra_bench.model.layers.dropout
    monkeypatch.setattr(lra_bench.model.layers, "dropout", lambda x, key, rate: keys.append(key) or noise(x, key, rate))
    model(TOKENS, MASK, key=jax.random.key(1))
    assert len({tuple(np.asarray(jax.random.key_data(key))) for key in keys}) == 1 + 2 * 3


@pytest.mark.parametrize(
    ("options", "length", "vocab", "classes", "streams", "count"),
    [
        ({"layers": 4, "width": 512, "heads": 8, "mlp": 1024, "pool": "cls"}, 2000, 17, 10, 1, 8_948_746),
        ({"layers": 4, "width": 256, "heads": 4, "mlp": 1024, "pool": "cls"}, 1000, 257, 2, 1, 3_486_722),
    ],
    ids=["listops", "text"],
)
def test_as_many_parameters_as_lra(
    options: dict, length: int, vocab: int, classes: int, streams: int, count: int
) -> None:
    """The counts that users of the original report; traced, nothing is made."""
    backbone = Backbone(**(BACKBONE | options))
    asked = Asked(vocab=vocab, length=length, classes=classes, streams=streams)
    model = nnx.eval_shape(lambda: Model([Choice(Mixer, Config())], backbone, asked, rngs=nnx.Rngs(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))) == count


def test_sinusoids() -> None:
    table = sinusoids(30, 8)
    np.testing.assert_allclose(table[7, 2], np.sin(7 / 10000 ** (2 / 8)), rtol=1e-5)
    np.testing.assert_allclose(table[7, 3], np.cos(7 / 10000 ** (2 / 8)), rtol=1e-5)


def test_rotary_positions_are_the_only_ones() -> None:
    model = make(positions="rotary")
    assert not hasattr(model, "positions")
    text, there = TOKENS[:1], MASK[:1]
    turned = logits(model, text[..., ::-1], there)
    assert abs(turned - logits(model, text, there)).max() > 1e-3  # order is seen
    plain = make(positions="none")
    np.testing.assert_allclose(logits(plain, text[..., ::-1], there), logits(plain, text, there), atol=1e-5)


def test_rotary_is_refused_where_there_is_nothing_to_turn() -> None:
    class Fixed(MixerBase):
        pass

    for mixer in (
        Fixed,
        mixers.load(mixers.model_card("etc").path).Mixer,
        mixers.load(mixers.model_card("compressive").path).Mixer,
    ):
        with pytest.raises(ConfigError, match="rotary"):
            Model(
                [Choice(mixer, None)], Backbone(**BACKBONE | {"positions": "rotary"}), Asked(5, L, 2), rngs=nnx.Rngs(0)
            )


@pytest.mark.parametrize("grid", [None, (4, 6)])
def test_a_patch_is_a_projection_of_its_symbols(grid: tuple[int, int] | None) -> None:
    """ViT's E x_p, x_p the symbols of the patch, one-hot, side by side."""
    length, places = (24, 4) if grid else (21, 2)
    embed = Embedding(VOCAB, 8, Patches(2, grid), 1.0, rngs=nnx.Rngs(0))
    tokens = jax.random.randint(jax.random.key(1), (3, length), 1, VOCAB)
    mask = jnp.arange(length) < jnp.array([length, 7, 0])[:, None]
    y, there = embed(tokens, mask)
    E = np.asarray(embed.table[...]).reshape(places, VOCAB, 8)
    for row in range(3):
        cells = np.pad(np.where(mask[row], tokens[row], -1), (0, -length % 2), constant_values=-1)
        cut = cells.reshape(2, 2, 3, 2).swapaxes(1, 2).reshape(6, 4) if grid else cells.reshape(-1, 2)
        for n, patch in enumerate(cut):
            expected = sum((E[place, symbol] for place, symbol in enumerate(patch) if symbol >= 0), np.zeros(8))
            np.testing.assert_allclose(y[row, n], expected, atol=1e-5)
            assert there[row, n] == (patch >= 0).any()


def test_patches_shorten_the_text_for_any_mixer() -> None:
    model = make(patch=4, pool="cls")
    assert model.positions.shape == (1 + 6, 16)
    assert np.isfinite(logits(model)).all()
    with pytest.raises(ConfigError, match=r"backbone\.patch: 4 x 4"):
        sizes(Backbone(**BACKBONE | {"patch": 4}), 60, (6, 10))


class Counts(MixerBase):
    """Remembers how often it was trained, and adds a loss of its own."""

    def __init__(self, config: Any, dims: Any, *, rngs: nnx.Rngs) -> None:
        self.seen, self.own = Memory(jnp.int32(0)), Auxiliary(jnp.float32(0))
        self.scale = nnx.Param(jnp.float32(2))

    def __call__(self, x: jax.Array, mask: jax.Array, *, key: jax.Array | None) -> jax.Array:
        if key is not None:
            self.seen[...], self.own[...] = self.seen[...] + 1, self.scale[...] ** 2
        return x * self.scale[...].astype(x.dtype)


@pytest.mark.parametrize("unrolled", [0, 2])
@pytest.mark.parametrize("remat", [False, True])
def test_what_a_mixer_keeps_comes_out_of_a_training_call(
    unrolled: int, remat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lra_bench.model.layers, "UNROLLED", unrolled)
    backbone = Backbone(**BACKBONE | {"remat": remat})
    model = Model([Choice(Counts, None)], backbone, Asked(VOCAB, L, CLASSES), rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def call(params: Any, rest: Any, key: jax.Array | None) -> tuple[jax.Array, Any]:
        model = nnx.merge(graph, params, rest)
        model(TOKENS, MASK, key=key)
        own = sum(leaf.sum() for leaf in jax.tree.leaves(nnx.state(model, Auxiliary)))
        return own, nnx.state(model, nnx.Not(nnx.Param))

    (own, trained), slope = jax.value_and_grad(call, has_aux=True)(params, rest, jax.random.key(0))
    assert own == 8
    np.testing.assert_array_equal(trained["blocks"]["mixer"]["seen"][...], [1, 1])
    np.testing.assert_array_equal(slope["blocks"]["mixer"]["scale"][...], [4, 4])
    _, after = call(params, trained, None)
    np.testing.assert_array_equal(after["blocks"]["mixer"]["seen"][...], [1, 1])


def answering(pool: str = "mean", **asked: Any) -> Model:
    """A model that answers at places, without an order of its symbols."""
    backbone = Backbone(**BACKBONE | {"pool": pool, "positions": "none"})
    return Model([Choice(Mixer, Config(impl="plain"))], backbone, Asked(VOCAB, L, CLASSES, **asked), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_answers_at_some_places_are_those_at_all_of_them(pool: str) -> None:
    model, places = answering(pool, everywhere=True), jnp.array([[3, 20, 0], [0, 1, 1], [5, 5, 5]])
    some = jax.jit(partial(model, key=None))(TOKENS, MASK, places=places)
    close(some, jnp.take_along_axis(logits(model), places[..., None], axis=1), atol=1e-6)


def test_answers_through_a_bottleneck_are_of_each_place_and_of_the_text_as_a_whole() -> None:
    model, turned = answering(answers=L), TOKENS[:1, :, ::-1]
    whole = logits(model, TOKENS[:1], MASK[:1])
    assert whole.shape == (1, L, CLASSES)
    close(logits(model, turned, MASK[:1]), whole, atol=1e-5)
    assert float(jnp.abs(whole[0, 0] - whole[0, 1]).max()) > 1e-3
    each = answering(everywhere=True)
    close(logits(each, turned, MASK[:1])[:, ::-1], logits(each, TOKENS[:1], MASK[:1]), atol=1e-5)
