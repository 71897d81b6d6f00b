"""Techniques: at zero strength each changes nothing, bit for bit; pulled, each does what its paper says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from samples import Lra, first_fast, first_slow
from steps import batch, learned, same, stepped

from lra_bench import config, data, sweeps
from lra_bench.config import Overlay, Run, Techniques
from lra_bench.errors import ConfigError, LraError
from lra_bench.kernels.dense import dense, exact, instead
from lra_bench.metrics import ACCURACY, BITS, EXACT_MATCH, SQUARED_ERROR
from lra_bench.mixers.base import Dynamics
from lra_bench.runs import build
from lra_bench.sweeps import Request, Settings
from lra_bench.techniques import adapt, distill, prune, quantize, structured_pruning
from lra_bench.techniques.base import Dependencies, ModelState
from lra_bench.techniques.parameters import flat, is_matrix
from lra_bench.training.optimizer import learning_rate
from lra_bench.training.program import Program

MODELS = ("softmax", "linformer", "performer")
EACH, EACH_SLOWLY = first_fast(*MODELS), first_slow(*MODELS[1:], MODELS[0])
TWO_LAYERS = ("backbone.layers=2", "backbone.dropout=0.0", "backbone.heads=4")


@pytest.fixture(autouse=True)
def _stand_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def run_of(model: str = "softmax", *settings: str, techniques: str = "none") -> Run:
    asked = Request(model, "short", "tiny", settings=(*TWO_LAYERS, *settings), techniques=techniques)
    return sweeps.runs(asked)[0]


def stock(of: Run) -> Dependencies:
    """As if what the run stands on had been trained: drawn, and moved a little from what it was drawn at."""
    parts = {}
    for name, one in (("start", of.start), ("teacher", of.teacher)):
        if one is not None:
            graph, params, rest = learned(build.built(one, None, stock(one)))
            moved = jax.tree.map(lambda leaf: leaf + 0.05 * jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape)), params)
            parts[name] = ModelState(graph, moved, rest)
    return Dependencies(**parts, examples=lambda count: [batch(8)])


def built(of: Run) -> Program:
    return build.built(of, None, stock(of))


AT_ZERO = [
    "precision.loss_scale=2.0", "prune.sparsity=0.0", "prune.steps=5", "quantize.weights=32", "quantize.steps=5",
    "distill.temperature=4.0", "pretrain.rate=0.5", "adapt.rank=4", "continued.steps=0", "multitask.temperature=3.0",
]  # fmt: skip


@pytest.mark.parametrize("setting", AT_ZERO)
def test_a_technique_at_zero_strength_is_no_technique(setting: str) -> None:
    assert run_of("softmax", setting).id == run_of().id
    assert run_of("softmax", setting).start is None


@pytest.mark.sweep
@pytest.mark.parametrize("model", EACH_SLOWLY)
def test_layers_that_share_with_none_are_as_without(model: str) -> None:
    alone, shared = built(run_of(model)), built(run_of(model, "sharing.groups=2"))
    assert same(alone.init, shared.init)
    assert same(stepped(alone), stepped(shared))


@pytest.mark.sweep
@pytest.mark.parametrize("model", EACH_SLOWLY)
def test_sparsity_of_zero_trains_as_without(model: str) -> None:
    technique = config.techniques((), [Overlay("test", {"prune": {"sparsity": 0.5, "steps": 3}})]).prune
    assert technique is not None
    plain = built(run_of(model))
    none = replace(plain.setup, rule=lambda rule: prune.pruned(rule, technique.model_copy(update={"sparsity": 0.0}), 3))
    thinned = Program.build(none, plain.recipe, plain.seed)
    assert same(stepped(plain).params, stepped(thinned).params)
    assert same(prune.sparse(plain.init.params, 0.0), plain.init.params)


@pytest.mark.parametrize("model", EACH)
def test_32_bits_are_what_was_trained(model: str) -> None:
    params = built(run_of(model)).init.params
    assert same(quantize.quantized(params, 32), params)
    assert same(quantize.rounded(params, 32), params)
    assert same(quantize.restored(params), params)


@pytest.mark.sweep
@pytest.mark.parametrize("model", EACH_SLOWLY)
def test_adapters_of_rank_zero_leave_the_backbone_as_it_was(model: str) -> None:
    asked = run_of(model, "adapt.start=[recall-one]", "adapt.rank=0")
    program, trained = built(asked), stepped(built(asked))
    before, after = flat(program.weights(program.init.params)), flat(program.weights(trained.params))
    start = flat(stock(asked).start.params)  # type: ignore[union-attr]
    backbone = [path for path in flat(program.given["frozen"]) if path[0] == "blocks"]
    assert len(backbone) >= 10
    for path in backbone:
        np.testing.assert_array_equal(after[path][...], start[path][...])
    assert all((after[path][...] != before[path][...]).any() for path in before if path[:2] == ("head", "hidden"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "how"),
    first_slow(("softmax", "adapt.rank=4"), ("linformer", "adapt.bottleneck=4"), ("performer", "adapt.rank=4")),
)
def test_adapters_answer_as_the_backbone_before_they_are_trained(model: str, how: str) -> None:
    program = built(run_of(model, "adapt.start=[recall-one]", how))
    plain = built(run_of(model, "adapt.start=[recall-one]"))
    shown = program.show(batch(8))
    given = [one.forward(one.kept(one.init.params), one.init.rest, *shown) for one in (program, plain)]
    np.testing.assert_array_equal(*given)
    trained = stepped(program)
    held = flat(program.given["frozen"])
    assert set(flat(trained.params)).isdisjoint(held)
    merged = flat(program.weights(trained.params))
    changed = [path for path in held if (merged[path][...] != held[path][...]).any()]
    assert bool(changed) == ("rank" in how)
    assert all(is_matrix(path, held[path]) for path in changed)
    norms = [path for path in flat(trained.params) if {"norm", "before_mlp", "before_mixer"} & set(path)]
    assert len(norms) == (6 if "bottleneck" in how else 0), "as Houlsby et al. train LayerNorms; LoRA trains none"


@pytest.mark.slow
def test_low_rank_updates_are_of_that_rank() -> None:
    program = built(run_of("softmax", "adapt.start=[recall-one]", "adapt.rank=2", "adapt.alpha=6.0"))
    trained, held = stepped(program), flat(program.given["frozen"])
    path = ("blocks", "up", "kernel")
    change = flat(program.weights(trained.params))[path][...] - held[path][...]
    assert [int(np.linalg.matrix_rank(np.asarray(layer), tol=1e-5)) for layer in change] == [2, 2]
    a, b = (flat(trained.params)[(adapt.LORA, *path, name)][...] for name in "ab")
    np.testing.assert_allclose(change, 6.0 / 2 * a @ b, atol=1e-6)


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("model", "inside"),
    first_slow(*((model, ("distill.hidden=1.0", "distill.attention=1.0")) for model in MODELS), ("softmax", ())),
)
def test_a_student_that_is_its_teacher_has_nothing_to_learn(model: str, inside: tuple[str, ...]) -> None:
    asked = run_of(model, f"distill.teacher={model}", "distill.soft=1.0", "distill.temperature=3.0", *inside)
    plain = learned(build.built(asked.teacher))  # type: ignore[arg-type]
    program = build.built(asked, None, Dependencies(teacher=plain))
    assert same(program.init.params, plain.params)
    state, loss = program.training.step(jax.tree.map(jnp.copy, program.init), *program.feed(batch(8)))
    assert abs(float(loss)) < 1e-6
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.params, plain.params)
    assert max(jax.tree.leaves(moved)) < 1e-3  # of a learning rate of 1e-2, at which Adam's first step is 1e-2 for all


@pytest.mark.slow
def test_distillation_moves_the_student_to_its_teacher() -> None:
    asked = run_of(
        "linformer", "distill.teacher=softmax", "distill.soft=1.0", "distill.hidden=1.0", "distill.attention=1.0"
    )
    program, losses = built(asked), []
    state = jax.tree.map(jnp.copy, program.init)
    for _ in range(60):
        state, loss = program.training.step(state, *program.feed(batch(8)))
        losses.append(float(loss))
    assert losses[-1] < losses[0] / 2


def smaller(**options: float) -> tuple[Run, Dependencies]:
    """A student of one layer, half as wide as its teacher of two; and the teacher, not yet trained."""
    (choice,) = sweeps.models("linformer")
    teacher = run_of()
    parsed = Settings.parse(("backbone.layers=1", "backbone.width=8"), None, [choice[0].model_card])
    student = sweeps.of_model(teacher, choice, parsed)
    technique = config.techniques((), [Overlay("test", {"distill": {"teacher": "softmax", **options}})]).distill
    assert technique is not None
    asked = sweeps.taught(student.with_technique("distill", technique), teacher)
    return asked, Dependencies(teacher=learned(built(teacher)))


@pytest.mark.sweep
def test_states_of_another_width_are_compared_through_a_matrix_that_is_learned() -> None:
    asked, stock = smaller(hidden=1.0, attention=1.0, soft=0.0)
    program = build.built(asked, None, stock)
    alone = built(asked.model_copy(update={"techniques": Techniques(), "teacher": None}))
    state = stepped(program)
    W = flat(state.params)[(distill.TRANSLATION, "hidden")][...]
    assert W.shape == (8, 16)
    for path in ((distill.TRANSLATION, "hidden"), (distill.TRANSLATION, "embeddings")):
        assert float(jnp.abs(flat(state.params)[path][...] - flat(program.init.params)[path][...]).max()) > 0
    assert set(flat(program.weights(state.params))) == set(flat(alone.init.params))
    assert same(program.weights(program.init.params), alone.init.params)
    shown = batch(8)
    asked_of = [jnp.asarray(array) for array in (shown.tokens, shown.mask)]
    ours: list[jax.Array] = []
    theirs: list[jax.Array] = []
    model: Any = nnx.merge(program.graph, program.weights(state.params), state.rest, copy=True)
    logits = model(*asked_of, key=None, states=ours)
    teacher: Any = nnx.merge(*stock.teacher)  # type: ignore[misc]
    teacher(*asked_of, key=None, states=theirs)
    W_e = flat(state.params)[(distill.TRANSLATION, "embeddings")][...]
    there = np.asarray(model.there(*asked_of))
    pairs = zip(ours, (W_e, W), (theirs[0], theirs[2]), strict=True)
    far = [np.square(np.asarray(a @ M - b))[there].mean() for a, M, b in pairs]
    heads = [distill.scores(m, layer, s) for m, layer, s in ((model, 1, ours), (teacher, 2, theirs))]
    both = there[:, None, :, None] & there[:, None, None, :]
    apart = np.square(np.asarray(heads[0] - heads[1]))[np.broadcast_to(both, heads[0].shape)].mean()
    by_hand = program.objective.loss(logits, jnp.asarray(shown.label)).mean() + np.mean(far) + apart
    _, loss = program.training.step(jax.tree.map(jnp.copy, state), *program.feed(shown))
    assert float(loss) == pytest.approx(float(by_hand), rel=1e-5)


def test_a_student_is_trained_as_its_teacher_was_before_a_technique_was_pulled_on_it() -> None:
    pulled = run_of("softmax", "continued.steps=2", "quantize.weights=8")
    (choice,) = sweeps.models("linear")
    student = sweeps.of_model(pulled, choice, Settings.parse((), None, []))
    assert (student.recipe.training.steps, student.start, student.techniques.words) == (12, None, None)
    assert student.id == run_of("linear").id


def test_softened_answers_by_metric() -> None:
    z, t = jnp.asarray([[1.0, -1.0, 0.5]]), jnp.asarray([[0.0, 2.0, 0.0]])
    p, q = (np.exp(np.asarray(a[0]) / 2) / np.exp(np.asarray(a[0]) / 2).sum() for a in (t, z))
    by_hand = 4 * (p * np.log(p / q)).sum()
    no = jnp.zeros(1, jnp.int32)
    assert float(distill.soft_loss(z, t, no, ACCURACY, 2.0)[0]) == pytest.approx(by_hand, rel=1e-5)
    assert float(distill.soft_loss(z, t, no, SQUARED_ERROR, 2.0)[0]) == pytest.approx((1 + 9 + 0.25) / 3)
    s, r = (1 / (1 + np.exp(-np.asarray(a[0]) / 2)) for a in (t, z))
    both = 4 * (s * np.log(s / r) + (1 - s) * np.log((1 - s) / (1 - r))).mean()
    assert float(distill.soft_loss(z, t, no, EXACT_MATCH, 2.0)[0]) == pytest.approx(both, rel=1e-5)
    everywhere = distill.soft_loss(jnp.stack([z, t], 1), jnp.stack([t, t], 1), jnp.asarray([[3, 1]]), BITS, 2.0)
    assert float(everywhere[0]) == pytest.approx(by_hand / 2, rel=1e-5)
    unasked = distill.soft_loss(jnp.stack([z, z], 1), jnp.stack([t, t], 1), jnp.asarray([[3, 0]]), BITS, 2.0)
    assert float(unasked[0]) == pytest.approx(by_hand, rel=1e-5)


def test_layers_are_mapped_as_tinybert_maps_them() -> None:
    assert distill.layer_map(4, 12, "uniform") == [3, 6, 9, 12]
    assert distill.layer_map(2, 12, "last") == [11, 12]
    assert distill.layer_map(4, 2, "uniform") == [1, 1, 2, 2]


@pytest.mark.slow
def test_scores_of_attention_where_there_are_none_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"distill\.attention: a mixer without queries and keys"):
        stepped(built(run_of("fnet", "distill.teacher=softmax", "distill.attention=1.0")))
    asked = run_of("softmax", "distill.teacher=softmax", "distill.attention=1.0", "backbone.heads=2")
    program = build.built(asked, None, Dependencies(teacher=learned(built(run_of()))))
    with pytest.raises(ConfigError, match=r"distill\.attention: the student's are \(2, 20, 20\), .*\(4, 20, 20\)"):
        stepped(program)


def test_sparsity_rises_by_the_cubic_schedule() -> None:
    technique = config.techniques((), [Overlay("test", {"prune": {"sparsity": 0.8, "ramp": 0.5, "steps": 100}})]).prune
    assert technique is not None
    found = [float(prune.target(technique, 100, step)) for step in (0, 25, 50, 100)]
    assert found == pytest.approx([0, 0.8 * (1 - 0.5**3), 0.8, 0.8])


@pytest.mark.slow
@pytest.mark.parametrize("by", first_slow("magnitude", "movement"))
def test_further_training_ends_at_the_sparsity_asked_for(by: str) -> None:
    asked = run_of("softmax", "prune.sparsity=0.75", f"prune.by={by}", "prune.steps=6", "prune.every=2")
    program = built(asked)
    state = stepped(program, 6)
    for path, W in flat(state.params).items():
        if is_matrix(path, W):
            layers = W[...] if path[0] == "blocks" else W[...][None]
            share = 0.75 if path[0] == "blocks" or by == "magnitude" else 0.0  # Sanh et al. prune the layers alone
            for layer in layers:
                assert int((layer == 0).sum()) == int(share * layer.size), path


def of_one_layer(values: list[float]) -> Any:
    return nnx.State({"blocks": {"up": {"kernel": nnx.Param(jnp.asarray([[values]]))}}})


def by_movement(steps: int) -> prune.config.Prune:
    options = {"sparsity": 0.5, "by": "movement", "steps": steps, "every": 1, "ramp": 0.0}
    technique = config.techniques((), [Overlay("test", {"prune": options})]).prune
    assert technique is not None
    return technique


@pytest.mark.parametrize(("slopes", "left"), [([1.0, -1.0], [0.0, 0.2]), ([-1.0, 1.0], [3.1, 0.0])])
def test_movement_keeps_what_moves_away_from_zero(slopes: list[float], left: list[float]) -> None:
    params, grads = of_one_layer([3.0, 0.1]), of_one_layer(slopes)
    rule = prune.pruned(optax.sgd(0.1), by_movement(1), 1)
    update, _ = rule.update(grads, rule.init(params), params)
    np.testing.assert_allclose(
        flat(optax.apply_updates(params, update))[structured_pruning.UP][...], [[left]], rtol=1e-6
    )


def test_what_movement_takes_out_stays_where_it_was_and_may_come_back() -> None:
    """Sanh et al., section 4, by hand: dL/dW = dL/dW' * M, and S = - sum of W dL/dW'; W decays, whatever M is."""
    rule = prune.pruned(optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1)), by_movement(3), 3)
    params = of_one_layer([2.0, 1.0])
    state, decay = rule.init(params), 0.1 * 0.1
    for slopes, left in (([1.0, -1.0], [0.0, 1.1 - decay]), ([-3.0, 1.0], None), ([-3.0, 1.0], None)):
        update, state = rule.update(of_one_layer(slopes), state, params)
        params = optax.apply_updates(params, update)
        if left is not None:
            np.testing.assert_allclose(flat(params)[structured_pruning.UP][...], [[left]], rtol=1e-6)
    first = 2.0 - 0.1 - decay * 2.0  # then it is out for a step, in which it decays alone, and comes back
    second = first * (1 - decay)
    np.testing.assert_allclose(flat(params)[structured_pruning.UP][..., 0], [[second * (1 - decay) + 0.3]], rtol=1e-6)


@pytest.mark.sweep
def test_what_was_pruned_stays_so_in_a_later_training() -> None:
    asked = run_of("softmax", "prune.sparsity=0.5", "quantize.weights=8", "quantize.steps=3")
    before = asked.start
    assert before is not None
    thinned = built(before)
    program = build.built(asked, None, replace(stock(asked), start=learned(thinned)))
    state = stepped(program)
    for path, W in flat(state.params).items():
        if is_matrix(path, W):
            zero = flat(thinned.init.params)[path][...] == 0
            assert zero.any()
            assert (W[...][zero] == 0).all()
            assert (W[...][~zero] != flat(thinned.init.params)[path][...][~zero]).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", first_slow("linformer", "softmax", "performer", "local", "nystromformer", "linear", "cosformer")
)
def test_heads_and_neurons_are_taken_out_and_the_shapes_shrink(model: str) -> None:
    asked = run_of(model, "prune.heads=0.5", "prune.neurons=0.25")
    program = built(asked)  # which holds the small model against the large one in which the heads are silent
    every = flat(program.init.params)
    assert every[("blocks", "mixer", "out")].shape == (2, 8, 16)
    assert every[("blocks", "up", "kernel")].shape == (2, 16, 12)
    assert every[("head", "hidden", "kernel")].shape == (16, 16)
    assert np.isfinite(
        np.asarray(program.forward(program.init.params, program.init.rest, *program.show(batch(8))))
    ).all()


def test_the_heads_and_neurons_that_go_are_those_that_matter_least() -> None:
    params = {"heads": np.asarray([[0.1, 0.4, 0.2, 0.3]]), "neurons": np.asarray([[5.0, 1.0]])}
    np.testing.assert_array_equal(structured_pruning.left(params["heads"], 0.5), [[1, 3]])
    np.testing.assert_array_equal(structured_pruning.left(params["neurons"], 0.5), [[0]])
    np.testing.assert_array_equal(structured_pruning.left(params["heads"], 0.0), [[0, 1, 2, 3]])
    np.testing.assert_array_equal(structured_pruning.left(params["neurons"], 0.9), [[0]])


@pytest.mark.slow
def test_importance_is_the_slope_at_a_gate() -> None:
    """Against gates that are really there: a factor on a head's rows of W_o, moved by hand."""
    asked = run_of()
    program = built(asked)
    graph, params, rest = learned(program)
    shown = batch(8)

    def loss(params: Any, one: Any) -> jax.Array:
        logits = nnx.merge(graph, params, rest)(one[0][None], one[0][None] > 0, key=None)
        return program.objective.loss(logits, one[1][None])[0]

    found = structured_pruning.importance(loss, params, 4, [(jnp.asarray(shown.tokens), jnp.asarray(shown.label))])

    def gated(gate: float) -> np.ndarray:
        every = flat(params)
        W = every[structured_pruning.OUT][...]
        every[structured_pruning.OUT] = every[structured_pruning.OUT].replace(W.at[1, 4:8].multiply(gate))
        moved = nnx.from_flat_state(every)
        return np.asarray(
            [loss(moved, (jnp.asarray(t), jnp.asarray(y))) for t, y in zip(shown.tokens, shown.label, strict=True)]
        )

    slope = np.abs(gated(1.05) - gated(0.95)).sum() / 0.1
    assert found.heads[1, 1] == pytest.approx(slope, rel=2e-2)
    assert found.heads.shape == (2, 4)
    assert found.neurons.shape == (2, 16)


def test_a_model_without_heads_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"prune\.heads: fnet has no heads that are put through a W_o"):
        built(run_of("fnet", "prune.heads=0.5"))


@pytest.mark.slow
@pytest.mark.parametrize("model", EACH_SLOWLY)
def test_integers_are_near_the_model_and_its_simulation(model: str) -> None:
    plain = run_of(model)
    asked = run_of(model, "quantize.weights=8", "quantize.activations=8", "quantize.steps=1")
    ground = stock(asked)
    program = build.built(asked, None, ground)
    assert len(program.given["ranges"]) == 2 * 4 + 2 + 2 * 2 * (model == "linformer")
    tokens = jnp.asarray(batch(8).tokens)

    def logits(params: Any, within: Any) -> np.ndarray:
        with within:
            return np.asarray(nnx.merge(program.graph, params, program.init.rest)(tokens, tokens > 0, key=None))

    params, ranges = program.init.params, program.given["ranges"]
    plainly = logits(params, instead(exact))
    whole = logits(quantize.rounded(params, 8), quantize.whole(ranges, 8))
    simulated = logits(quantize.rounded(params, 8), quantize.simulated(ranges))
    largest = np.abs(plainly).max()
    assert 0 < np.abs(whole - plainly).max() < 0.1 * largest
    assert np.abs(whole - simulated).max() < 0.02 * largest
    assert plain.id == asked.start.id  # type: ignore[union-attr]


def test_products_in_whole_numbers_are_products_of_whole_numbers() -> None:
    ranges = jnp.asarray([2.0])
    x, W = jnp.asarray([[2.0, -1.0, -9.0]]), jnp.asarray([[127.0, 1.0], [64.0, -127.0], [-127.0, 0.0]]) / 127
    with quantize.whole(ranges, 8):
        found = dense(x, W)
    q_x, q_W = np.asarray([127, -64, -127]), np.round(np.asarray(W) * 127)  # -63.5 is rounded to the even, -9 cut off
    np.testing.assert_allclose(found[0], q_x @ q_W * (2 / 127) / 127, rtol=1e-5)


def test_a_gradient_passes_what_is_rounded_and_not_what_is_cut_off() -> None:
    with quantize.simulated(jnp.asarray([2.0])):
        slope = jax.grad(lambda x: dense(x, jnp.eye(2)).sum())(jnp.asarray([[0.3, 5.0]]))
    np.testing.assert_array_equal(slope, [[1.0, 0.0]])
    params = nnx.State({"head": {"kernel": nnx.Param(jnp.asarray([[0.3, 0.5], [1.0, -1.0]]))}})
    slopes = jax.grad(lambda p: (quantize.rounded(p, 4)["head"]["kernel"][...] * 3).sum())(params)
    np.testing.assert_array_equal(slopes["head"]["kernel"][...], jnp.full((2, 2), 3.0))


@pytest.mark.slow
@pytest.mark.parametrize("numbers", first_fast("bf16", "fp16"))
def test_the_backbone_computes_in_other_numbers(numbers: str) -> None:
    program = built(run_of("softmax", f"precision.compute={numbers}"))
    assert str(program.init.params["blocks"]["up"]["kernel"][...].dtype) == "float32"
    lowered = jax.make_jaxpr(lambda p: nnx.merge(program.graph, p, program.init.rest).vectors(
        jnp.ones((1, 20), jnp.int32), jnp.ones((1, 20), bool), key=None)[0])(program.init.params)  # fmt: skip
    assert str(lowered.out_avals[0].dtype) == config.FLOATS[numbers]
    _, loss = program.training.step(jax.tree.map(jnp.copy, program.init), *program.feed(batch(8)))
    assert np.isfinite(float(loss))


@pytest.mark.sweep
@pytest.mark.parametrize("numbers", first_slow("bf16", "fp16"))
def test_adams_moments_are_in_float32_whatever_parameters_are_kept_in(numbers: str) -> None:
    """With b2 = 0.999 a v in bfloat16 cannot fall: 0.999 v is rounded to v."""
    state = stepped(built(run_of("s5", f"precision.params={numbers}")))
    moments = [leaf for leaf in jax.tree.leaves(state.opt) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert len(moments) > 20
    assert {leaf.dtype for leaf in moments} == {jnp.dtype("float32")}


def test_parameters_are_kept_in_other_numbers_but_for_dynamics() -> None:
    kept = built(run_of("s4d", "precision.params=bf16")).init.params
    dtypes = {"/".join(map(str, path)): str(W.dtype) for path, W in flat(kept).items()}
    assert dtypes["blocks/up/kernel"] == "bfloat16"
    assert {name for name, dtype in dtypes.items() if dtype == "float32"} == {
        "/".join(map(str, path)) for path, W in flat(kept).items() if isinstance(W, Dynamics)
    }


def test_a_loss_that_overflows_is_scaled_down_and_no_step_is_taken() -> None:
    program = built(run_of("softmax", "precision.compute=fp16", "precision.loss_scale=1.0e+30"))
    state, loss = program.training.step(jax.tree.map(jnp.copy, program.init), *program.feed(batch(8)))
    assert np.isfinite(float(loss))
    assert float(state.scale.scale) == pytest.approx(0.5e30)
    assert same(state.params, program.init.params)
    assert same(state.opt, program.init.opt)
    assert int(state.step) == 1


@pytest.mark.sweep
def test_a_scaled_loss_trains_as_one_that_is_not() -> None:
    plain, scaled = (
        stepped(built(run_of("softmax", "precision.compute=fp16", f"precision.loss_scale={scale}")))
        for scale in ("1.0", "1024.0")
    )
    for a, b in zip(jax.tree.leaves(plain.params), jax.tree.leaves(scaled.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-2)


@pytest.mark.slow
def test_layers_share_and_the_model_is_smaller() -> None:
    shared, alone = run_of("softmax", "sharing.groups=1"), run_of()
    few, many = (built(one).init.params for one in (shared, alone))
    assert few["blocks"]["up"]["kernel"][...].shape == (1, 16, 16)
    assert many["blocks"]["up"]["kernel"][...].shape == (2, 16, 16)
    model = nnx.merge(built(shared).graph, few, built(shared).init.rest)
    tokens = jnp.asarray(batch(8).tokens)
    copied = jax.tree.map(lambda a: jnp.concatenate([a, a]), few["blocks"])
    twice = nnx.merge(built(alone).graph, nnx.State({**few, "blocks": copied}), built(alone).init.rest)
    np.testing.assert_array_equal(model(tokens, tokens > 0, key=None), twice(tokens, tokens > 0, key=None))
    with pytest.raises(ConfigError, match=r"sharing\.groups: 3 sets of parameters for 2 layers"):
        built(run_of("softmax", "sharing.groups=3"))


@pytest.mark.sweep
def test_scans_share_as_layers_side_by_side_do() -> None:
    program = built(run_of("performer", "sharing.groups=2", "backbone.layers=4"))
    assert program.init.params["blocks"]["up"]["kernel"][...].shape[0] == 2
    assert jax.tree.leaves(program.init.rest)[0].shape[0] == jax.tree.leaves(stepped(program).rest)[0].shape[0]


def test_further_steps_and_pretraining_have_a_schedule_in_proportion() -> None:
    """Of the first training, whatever was done in between: a stage that takes no steps has no proportion."""
    every = ("schedule.name=rsqrt", "training.steps=400", "schedule.warmup=40", "optimizer.lr=0.05")
    steps = ("continued.steps=100", "prune.heads=0.5", "quantize.weights=8", "quantize.steps=200", "pretrain.steps=20")
    *chain, last = run_of("softmax", *every, *steps).needs, run_of("softmax", *every, *steps)
    found = [(c.recipe.training.steps, c.recipe.schedule.warmup) for c in (*chain[0], last)]
    assert found == [(20, 2), (400, 40), (100, 10), (0, 40), (200, 20)]
    peaks = [c.recipe.optimizer.lr / c.recipe.schedule.warmup**0.5 for c in (*chain[0], last)]
    assert peaks == pytest.approx([0.05 / 40**0.5] * 5)
    parts = run_of(
        "softmax", "multitask.tasks=[recall-one]", "training.steps=400", "schedule.warmup=40", "continued.steps=100"
    )
    assert (parts.recipe.training.steps, parts.recipe.schedule.warmup) == (100, 10)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", first_slow("small", "paper", "quick"))
def test_the_kept_techniques_train_at_the_peak_that_their_recipe_means(recipe: str) -> None:
    names = ("continued", "pruned", "movement", "structured", "qat", "masked")
    for task in ("listops", "text", "retrieval"):
        for name in names:
            asked = sweeps.runs(Request("softmax", task, recipe, techniques=name))[0]
            for one in (*asked.needs, asked):
                assert peak(one) == pytest.approx(peak(asked.trained_first), rel=0.03), (task, name)


def peak(of: Run) -> float:
    rate = learning_rate(of.recipe.optimizer, of.recipe.schedule, of.recipe.training.steps)
    return float(np.max(np.asarray(rate(jnp.arange(of.recipe.training.steps)))))


def test_what_a_run_depends_on_comes_first() -> None:
    asked = run_of(
        "linformer", "pretrain.steps=7", "distill.teacher=softmax", "continued.steps=2", "prune.sparsity=0.5",
        "quantize.weights=8",
    )  # fmt: skip
    chain = list(asked.needs)
    assert [(c.model, c.task.name, c.recipe.training.steps, [*c.techniques.applied()]) for c in [*chain, asked]] == [
        ("linformer", "short~masked", 7, []),
        ("softmax", "short", 12, []),
        ("linformer", "short", 12, ["pretrain", "distill"]),
        ("linformer", "short", 2, ["pretrain", "distill", "continued"]),
        ("linformer", "short", 0, ["pretrain", "distill", "continued", "prune"]),
        ("linformer", "short", 0, ["pretrain", "distill", "continued", "prune", "quantize"]),
    ]
    assert sweeps.with_needs([asked, chain[0]]) == [*chain, asked]
    assert [c.recipe.training.select for c in (chain[2], chain[4])] == ["best", "last"]
    again = Run.model_validate(json.loads(asked.model_dump_json()))
    assert again == asked
    assert again.id == asked.id


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("prune.sparsty=0.5",), r"--set prune\.sparsty=0\.5: prune\.sparsty: unknown key; did you mean 'sparsity'"),
        (("prune.sparsity=1.0",), r"--set prune\.sparsity=1\.0: prune\.sparsity: .*less than 1"),
        (("quantize.weights=7",), r"quantize\.weights: .*32, 8 or 4"),
        (("quantize.activations=8",), r"quantize: activations of 8 bits meet weights of at most as many, not 32"),
        (("prune.by=movement", "prune.sparsity=0.5"), r"steps: 0, and movement is seen in training alone"),
        (("distill.teacher=softmx",), r"model 'softmx': not found; did you mean 'softmax'"),
        (("adapt.start=[short]",), r"adapt\.start: short: names no task but short itself"),
        (("adapt.start=[nowhere]",), r"task 'nowhere': not found"),
        (("pretrain.steps=3", "pretrain.objective=causal"), r"pretrain\.objective: causal: softmax sees the symbols"),
        (("pretrain.steps=3", "adapt.start=[recall-one]"), r"pretrain and adapt: each says what a model begins with"),
        (("adapt.start=[recall-one]", "adapt.frozen=false", "adapt.rank=2"), r"frozen: false: LoRA and adapters"),
    ],
)
def test_a_wrong_technique_is_one_line(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(LraError, match=message):
        run_of("softmax", *settings)


def test_a_technique_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"technique 'prunned': not found; did you mean 'pruned'"):
        run_of(techniques="prunned")


def test_techniques_are_an_axis_and_several_can_be_pulled_at_once() -> None:
    asked = Request("softmax", "short", "tiny", techniques="none,int8,pruned+int8")
    assert [c.techniques.words for c in sweeps.runs(asked)] == [None, "W8A32", "magnitude -90%, 100 steps + W8A32"]
    every = sweeps.runs(Request("softmax", "short", "tiny", techniques="all"))
    assert len({c.id for c in every}) == 1 + len(config.technique_files())


@pytest.mark.sweep
def test_techniques_through_the_command(lra: Lra, here: Path) -> None:
    ran = lra("run", "-m", "linformer", "-t", "short", "-c", "tiny", "--json")
    assert ran.returncode == 0, ran.stderr
    (plain,) = json.loads(ran.stdout)
    assert plain["techniques"] is plain["start"] is None
    name = f"linformer-short-tiny-s0-{plain['run']}"
    for command in (("quantize", name, "--bits", "8"), ("prune", name, "--sparsity", "0.5", "--steps", "4")):
        done = lra(*command, "--json")
        assert done.returncode == 0, done.stderr
        first, after = json.loads(done.stdout)
        assert first == plain
        assert after["start"] == plain["run"]
        assert after["model_bytes"] < plain["model_bytes"]
        assert after["inference_ms_p50"] > 0
    assert after["sparsity"] == pytest.approx(0.5, abs=0.01)
    student_of = ("distill", "--teacher", name, "--model", "linear")
    distilled = lra(*student_of, "--set", "backbone.width=8", "--set", "distill.hidden=1.0", "--json")
    assert distilled.returncode == 0, distilled.stderr
    (row,) = json.loads(distilled.stdout)
    assert row["teacher"] == plain["run"]
    assert row["changed"] == "backbone.width=8"
    assert row["trained_params"] == row["params"] + 2 * 8 * 16 < plain["params"]
    said = ("distill.teacher=softmax", "the command's own options say that")
    for setting, why in (("task.length=9", "the task is the teacher's"), ("prune.sparsity=0.5", "distill alone"), said):
        refused = lra(*student_of, "--set", setting)
        assert refused.returncode == 2
        assert why in refused.stderr
    adapted = lra("adapt", name, "--task", "recall-one", "--rank", "2", "--json")
    assert adapted.returncode == 0, adapted.stderr
    (row,) = json.loads(adapted.stdout)
    assert row["trained_params"] < row["params"]
    shown = lra("compare", "results", "--techniques", "--format", "md")
    assert shown.returncode == 0, shown.stderr
    assert "W8A32" in shown.stdout
    assert "against none" in shown.stdout


@pytest.mark.slow
def test_pretraining_comes_first_and_its_row_is_kept(lra: Lra, here: Path) -> None:
    asked = ("run", "-m", "linformer", "-t", "short", "-c", "tiny", "--set", "pretrain.steps=4", "--json")
    ran = lra(*asked)
    assert ran.returncode == 0, ran.stderr
    (row,) = json.loads(ran.stdout)
    (first,) = (here / "results/runs").glob(f"*~masked-tiny-s0-{row['start']}/result.json")
    kept = json.loads(first.read_text())
    assert (kept["metric"], kept["steps"], kept["length"]) == ("bits", 4, 20)
    first.unlink()
    missing = lra("plan", *asked[1:])
    assert missing.returncode == 0, missing.stderr


def test_splits_of_pretraining_are_of_train_alone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRA_CACHE", str(cache))
    task = run_of("softmax", "pretrain.steps=3").start.task  # type: ignore[union-attr]
    own, made = data.prepare(task.of), data.prepare(task)  # type: ignore[arg-type]
    assert len(made.splits["train"]) == task.splits["train"] == 64 - 2 * 3
    mask = len(data.vocabulary(task)) - 1
    place = 0
    for name in ("train", "val", "test"):
        for tokens, label in zip(made.splits[name].tokens, made.splits[name].label, strict=True):
            whole = np.where(label > 0, label, tokens[0])
            np.testing.assert_array_equal(whole, own.splits["train"].tokens[place, 0])
            assert int((label > 0).sum()) == max(1, round(0.15 * int((whole > 0).sum())))
            assert not ((tokens[0] == mask) & (label == 0)).any()
            place += 1
