"""The encoder-decoder: beside its equation in float64, padding, a growing target, and writing place by place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from samples import first_fast

from lra_bench import mixers
from lra_bench.config import Backbone
from lra_bench.errors import ConfigError
from lra_bench.model import Asked, Choice, EncoderDecoder, ModelSpec, writing
from lra_bench.runs.build import choice

L, M, VOCAB, H = 12, 7, 9, 2
BACKBONE: dict[str, Any] = {
    "layers": 1, "width": 8, "heads": H, "qkv": None, "mlp": 12, "dropout": 0.0, "causal": False,
    "positions": "learned", "patch": 1, "input": "symbols", "pool": "cls", "dtype": "float32", "remat": False,
}  # fmt: skip
DRAW = np.random.default_rng(3)
TOKENS = np.stack([np.pad(DRAW.integers(1, VOCAB, n), (0, L - n)) for n in (L, M, L - 3, M - 2)]).reshape(2, 2, L)


def crossing(name: str, **options: Any) -> Choice:
    card = mixers.model_card(name)
    return choice(card.path, mixers.turned(card, {**card.card.short, **options}), crosses=True)


def make(*choices: Choice, growing: bool = False, **options: Any) -> EncoderDecoder:
    asked = Asked(
        vocab=VOCAB, length=L, classes=VOCAB - 1, streams=2, interaction="cross", growing=growing, everywhere=True
    )
    model = ModelSpec(choices, Backbone(**(BACKBONE | options)), [asked])(rngs=nnx.Rngs(0))
    assert isinstance(model, EncoderDecoder)
    return model


def logits(model: EncoderDecoder, tokens: np.ndarray | jax.Array = TOKENS) -> np.ndarray:
    graph, state = nnx.split(model)
    run = jax.jit(lambda state, tokens: nnx.merge(graph, state)(tokens, tokens > 0, key=None))
    return np.asarray(run(state, jnp.asarray(tokens)))


def norm(p: Mapping[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * p[f"{name}.scale"] + p[f"{name}.bias"]


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray) -> np.ndarray:
    heads = []
    for a, b, c in zip(*(np.split(x, H, axis=-1) for x in (q, k, v)), strict=True):
        scores = np.where(seen, a @ b.T / np.sqrt(b.shape[-1]), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(weights / weights.sum(-1, keepdims=True) @ c)
    return np.concatenate(heads, axis=-1)


def gelu(x: np.ndarray) -> np.ndarray:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def by_hand(p: Mapping[str, np.ndarray], source: np.ndarray, target: np.ndarray, *, growing: bool) -> np.ndarray:
    """Section 3.1 of arXiv 1706.03762, pre-LN, for texts without padding: one layer of each half."""

    def mixed(half: str, x: np.ndarray, seen: np.ndarray) -> np.ndarray:
        q, k, v = np.split(norm(p, f"{half}.before_mixer", x) @ p[f"{half}.mixer.qkv"], 3, axis=-1)
        return x + attention(q, k, v, seen) @ p[f"{half}.mixer.out"]

    def mlp(half: str, x: np.ndarray) -> np.ndarray:
        h = gelu(norm(p, f"{half}.before_mlp", x) @ p[f"{half}.up.kernel"] + p[f"{half}.up.bias"])
        return x + h @ p[f"{half}.down.kernel"] + p[f"{half}.down.bias"]

    e, d = "blocks.encoder.0", "blocks.decoder.0"
    x = p["embed.table"][source] + p["positions"][0, : len(source)]
    memory = norm(p, "memory_norm", mlp(e, mixed(e, x, np.ones((len(x), len(x)), bool))))
    y = p["embed.table"][target] + p["positions"][1, : len(target)]
    y = mixed(d, y, np.tri(len(y), dtype=bool) | (not growing))
    k, v = np.split(memory @ p[f"{d}.cross.kv"], 2, axis=-1)
    q = norm(p, f"{d}.before_cross", y) @ p[f"{d}.cross.q"]
    y = mlp(d, y + attention(q, k, v, np.ones((len(y), len(x)), bool)) @ p[f"{d}.cross.out"])
    h = np.maximum(norm(p, "norm", y) @ p["head.hidden.kernel"] + p["head.hidden.bias"], 0)
    return h @ p["head.logits.kernel"] + p["head.logits.bias"]


@pytest.mark.parametrize("growing", [False, True])
def test_the_equation(growing: bool) -> None:
    model = make(crossing("softmax"), growing=growing)
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    for _, leaf in flat:
        leaf.set_value(jnp.asarray(DRAW.normal(size=leaf.shape), jnp.float32))
    named = {".".join(map(str, path)): np.float64(leaf[...]) for path, leaf in flat}
    arrays = {name: value[0] if name.startswith("blocks.") else value for name, value in named.items()}
    made = logits(model)
    for example, y in zip(TOKENS, made, strict=True):
        source, target = (stream[stream > 0] for stream in example)
        np.testing.assert_allclose(
            y[: len(target)], by_hand(arrays, source, target, growing=growing), atol=2e-4, rtol=2e-4
        )


def test_a_later_symbol_of_a_growing_target_changes_nothing_before_it() -> None:
    changed = TOKENS.copy()
    changed[:, 1, 4] = VOCAB - changed[:, 1, 4]
    for growing in (True, False):
        model = make(crossing("linear"), crossing("softmax"), layers=2, growing=growing)
        apart = abs(logits(model) - logits(model, changed)).max((0, 2))
        assert apart[4] > 0
        assert (apart[:4].max() == 0) == growing


def test_padding_and_places() -> None:
    model = make(crossing("softmax"))
    short = TOKENS[1:, :, : L - 3]
    np.testing.assert_allclose(logits(model, short)[:, : M - 2], logits(model)[1:, : M - 2], atol=1e-5)
    tokens, places = jnp.asarray(TOKENS), jnp.array([[3, 0], [1, 1]])
    some = model(tokens, tokens > 0, key=None, places=places)
    np.testing.assert_allclose(some, np.take_along_axis(logits(model), np.asarray(places)[..., None], 1), atol=1e-5)


@pytest.mark.parametrize("positions", first_fast("learned", "rotary", "sinusoidal", "none"))
def test_written_place_by_place_it_answers_as_in_parallel(positions: str) -> None:
    each = [crossing("local", window=3), crossing("linear"), crossing("performer")]
    model = make(*each, layers=3, growing=True, positions=positions)
    tokens = jnp.asarray(np.where(TOKENS > 0, TOKENS, 1) * (np.arange(2)[:, None] + (TOKENS > 0) > 0))
    whole = logits(model, tokens)

    def run(source: jax.Array, target: jax.Array) -> jax.Array:
        state, begun = writing.prefill(model, writing.init_state(model, source, source > 0, L), target[:, :3])
        _, rest = jax.lax.scan(lambda state, ids: writing.step(model, state, ids), state, target[:, 3:].T)
        return jnp.concatenate([begun, rest.swapaxes(0, 1)], axis=1)

    made = jax.jit(run)(tokens[:, 0], tokens[:, 1])
    np.testing.assert_allclose(made, whole, atol=3e-5 * float(abs(whole).max()))


def test_the_state_is_counted_from_its_arrays() -> None:
    def taken(name: str, length: int) -> int | None:
        asked = Asked(VOCAB, length, VOCAB - 1, streams=2, interaction="cross", growing=True, everywhere=True)
        spec = ModelSpec([crossing(name)], Backbone(**BACKBONE), [asked])
        return writing.bytes_of_a_target(spec, length)

    counters = 2 * 4
    assert taken("softmax", 50) == 2 * 2 * 50 * 8 * 4 + 50 + counters, "keys and values of both, and the source's mask"
    assert taken("linear", 50) == taken("linear", 500) == 2 * H * 4 * 5 * 4 + counters
    assert taken("perceiver", 50) is None


def test_what_writes_no_target_is_one_line() -> None:
    for model, said in (
        (make(crossing("softmax")), "target: whole"),
        (make(crossing("set-transformer"), growing=True), "set-transformer does not decode: its mixer"),
    ):
        with pytest.raises(ConfigError, match=said):
            writing.refuse(model)
    with pytest.raises(ConfigError, match="they end at 12"):
        writing.init_state(make(crossing("softmax"), growing=True), TOKENS[:, 0], TOKENS[:, 0] > 0, L + 1)
