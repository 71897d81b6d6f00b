"""A run as one file: read where no mixer of ours is, it answers as the run does, however many at once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export
from samples import Lra, ran_own

from lra_bench import mixers, sweeps
from lra_bench.config import tasks
from lra_bench.errors import ConfigError, DataError, RunFailed
from lra_bench.export import artifact, inputs, of_run
from lra_bench.export.of_run import one_by_one, others
from lra_bench.metrics import ACCURACY, BITS, EXACT_MATCH, SQUARED_ERROR, Metric
from lra_bench.runs.build import built, model_spec
from lra_bench.runs.loaded import Trained
from lra_bench.training.objective import objective

READS = """
import sys
import numpy as np
from lra_bench.export import artifact
made = artifact.read(sys.argv[1])
print(made(np.load(sys.argv[2])).tolist())
ours = [name for name in sys.modules if name.startswith("lra_bench")]
assert set(ours) <= {"lra_bench", "lra_bench.errors", "lra_bench.export", "lra_bench.export.artifact"}, ours
assert "flax" not in sys.modules
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of a finished run of a mixer of the user's own."""
    return ran_own(tmp_path_factory.mktemp("exported"), cache)


@pytest.fixture(scope="module")
def small() -> artifact.Artifact:
    def doubled(weight: jax.Array, tokens: jax.Array) -> jax.Array:
        return weight * tokens.sum((1, 2))[:, None].astype(jnp.float32)

    shape = jax.ShapeDtypeStruct(export.symbolic_shape("b, 1, 4"), jnp.int32)
    weight = jnp.asarray([1.0, 2.0])
    return artifact.Artifact(export.export(jax.jit(doubled))(weight, shape), [np.asarray(weight)], {"task": {}})


@pytest.mark.slow
def test_a_run_is_exported_and_answers_alike(lra: Lra, ran: Path, tmp_path: Path) -> None:
    done = lra("export", ran, "--out", "model.lra", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["batch"], said["other_answers"], said["examples"]) == (None, 0, 40)
    assert said["furthest"] < 1e-5
    assert said["bytes"] == (tmp_path / "model.lra").stat().st_size
    assert (said["checked"], said["unchecked"]) == (["cpu"], [])
    (tmp_path / "in.txt").write_text("[MAX 2 9 [MIN 4 7 ] 0 ]\n[SM 1 2 3 ]\n[MIN 5 ]\n")
    answers = [lra("predict", model, "in.txt", "--top", "10", "--json") for model in (ran, "model.lra")]
    of_run, of_file = (json.loads(answer.stdout) for answer in answers)
    assert of_run == of_file
    assert len(of_run) == 3
    assert sum(of_run[0]["top"].values()) == pytest.approx(1, abs=1e-4)
    assert of_run[0]["top"][of_run[0]["answer"]] == of_run[0]["p"] == max(of_run[0]["top"].values())
    tokens = inputs.tokens(artifact_task(tmp_path / "model.lra"), ["[SM 1 2 3 ]"], "here", cut=False)
    np.save(tmp_path / "tokens.npy", tokens)
    child = [sys.executable, "-c", READS, str(tmp_path / "model.lra"), str(tmp_path / "tokens.npy")]
    read = subprocess.run(child, capture_output=True, text=True)
    assert read.returncode == 0, read.stderr
    assert int(np.argmax(json.loads(read.stdout)[0])) == int(of_run[1]["answer"])


@pytest.mark.slow
def test_what_was_checked_is_said(lra: Lra, ran: Path, tmp_path: Path) -> None:
    done = lra("export", ran, "--out", "cuda.lra", "--platforms", "cuda")
    assert done.returncode == 0, done.stderr
    assert "nowhere" in done.stdout
    assert "cuda: not checked" in done.stdout
    (tmp_path / "in.txt").write_text("[SM 1 2 3 ]\n")
    wrong = lra("predict", "cuda.lra", "in.txt")
    assert (wrong.returncode, wrong.stderr) == (2, "lra: the model was exported for cuda, and this is cpu\n")
    both = json.loads(lra("export", ran, "--out", "both.lra", "--platforms", "cpu,tpu", "--json").stdout)
    assert (both["checked"], both["unchecked"], both["other_answers"]) == (["cpu"], ["tpu"], 0)
    unknown = lra("export", ran, "--out", "none.lra", "--platforms", "cpu,gpu")
    assert (unknown.returncode, len(unknown.stderr.strip().splitlines())) == (2, 1)
    assert "--platforms: 'gpu'; " in unknown.stderr
    assert not (tmp_path / "none.lra").exists()


def artifact_task(path: Path) -> object:
    from lra_bench.config import TaskSpec

    return TaskSpec.model_validate(artifact.read(path).card["task"])


@pytest.mark.slow
def test_a_batch_can_be_fixed_and_a_line_that_is_wrong_is_named(lra: Lra, ran: Path, tmp_path: Path) -> None:
    done = lra("export", ran, "--out", "four.lra", "--batch", "4", "--json")
    assert json.loads(done.stdout)["batch"] == 4, done.stderr
    (tmp_path / "in.txt").write_text("[SM 1 2 3 ]\n" * 6)
    answered = lra("predict", "four.lra", "in.txt", "--json")
    assert len(json.loads(answered.stdout)) == 6, answered.stderr
    for text, message in (
        ("[SM 1 ]\n[SUM 1 ]\n", "wrong.txt:2: unknown token '[SUM'; known: 0 1"),
        ("[SM 1 ]\n\n", "wrong.txt:2: is empty"),
        ("[SM " + "1 " * 40 + "]\n", "wrong.txt:1: 42 symbols, and the model reads 20; --cut"),
        ("", "wrong.txt: holds no input"),
    ):
        (tmp_path / "wrong.txt").write_text(text)
        wrong = lra("predict", "four.lra", "wrong.txt")
        assert wrong.returncode == 2
        assert message in wrong.stderr
        assert len(wrong.stderr.strip().splitlines()) == 1
    (tmp_path / "wrong.txt").write_text("[SM " + "1 " * 40 + "]\n")
    assert lra("predict", "four.lra", "wrong.txt", "--cut").returncode == 0
    assert "cannot be read" in lra("predict", "four.lra", "nowhere.txt").stderr


def test_logits_that_are_not_finite_are_no_answer() -> None:
    task, logits = tasks.load("listops"), np.zeros((3, 10))
    logits[1, 4] = np.nan
    said = inputs.answers(task, logits, np.ones((3, 1, 4), np.int32), 1, first=7)
    assert next(said)["answer"] == "0"
    with pytest.raises(RunFailed, match="input 8: the model's logits are not finite"):
        next(said)


def test_a_file_is_written_whole_and_read_again(small: artifact.Artifact, tmp_path: Path) -> None:
    path = tmp_path / "new/model.lra"
    artifact.write(path, small.function, small.weights, {"task": {"name": "x"}})
    again = artifact.read(path)
    assert again.card == {"task": {"name": "x"}}
    assert again.batch is None
    for size in (1, 5):
        found = again(np.ones((size, 1, 4), np.int64))
        np.testing.assert_array_equal(found, np.asarray([[4.0, 8.0]] * size))
    assert [p.name for p in path.parent.iterdir()] == ["model.lra"]


@pytest.mark.parametrize("content", [b"no zip", None])
def test_what_is_no_such_file_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model.lra"
    if content is None:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("other.txt", "")
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"model\.lra: not a model that lra export wrote"):
        artifact.read(path)


def test_an_answer_is_another_by_the_metric_of_the_task() -> None:
    tokens = np.asarray([[[5, 5, 0]], [[5, 5, 0]]])
    labels = np.asarray([[0.0], [2.0]], np.float32)

    def found(metric: Metric, a: object, b: object) -> list[bool]:
        return list(others(metric, np.asarray(a), np.asarray(b), tokens, labels).tolist())

    sets = [[-1.0, 3.0], [-1.0, 3.0]], [[1.0, 3.0], [-2.0, 3.0]]
    assert found(EXACT_MATCH, *sets) == [True, False], "a label more, whichever is the largest"
    assert found(ACCURACY, *sets) == [False, False]
    numbers = [[10.0], [11.0]], [[10.00001], [11.01]]
    assert found(SQUARED_ERROR, *numbers) == [False, True], "of one number, the largest is always the same"
    assert found(ACCURACY, *numbers) == [False, False]
    a, b = np.zeros((2, 3, 4)), np.zeros((2, 3, 4))
    b[0, 2, 1] = b[1, 1, 1] = 1.0
    assert found(BITS, a, b) == [False, True], "at a place of no token, nothing is answered"


def test_a_number_is_answered_in_the_units_of_the_labels() -> None:
    train = np.asarray([[10.0], [14.0]], np.float32)  # mean 12, standard deviation 2
    made = objective(SQUARED_ERROR, 1, 4, train)
    said = made.answer(jnp.asarray([[0.5]]))
    np.testing.assert_allclose(said, [[13.0]])
    assert float(made.score(jnp.asarray([[0.5]]), said)[0]) == 0
    logits = jnp.asarray([[0.5, 1.0]])
    np.testing.assert_array_equal(objective(ACCURACY, 2, 4).answer(logits), logits)


def test_a_file_for_another_platform_says_so(tmp_path: Path) -> None:
    shape = jax.ShapeDtypeStruct((1, 1, 4), jnp.int32)
    made = export.export(jax.jit(lambda tokens: tokens.sum((1, 2))), platforms=["tpu"])(shape)
    artifact.write(tmp_path / "model.lra", made, [], {})
    with pytest.raises(ConfigError, match="the model was exported for tpu, and this is cpu"):
        artifact.read(tmp_path / "model.lra")(np.ones((1, 1, 4), np.int32))


def test_answers_by_metric() -> None:
    tokens = np.ones((1, 1, 3), np.int32)
    base = tasks.load("adding")
    assert list(inputs.answers(base, np.asarray([[0.25]]), tokens, 1)) == [{"answer": [0.25]}]
    several = base.model_copy(update={"metric": "exact-match", "classes": 2, "args": {"classes": "sad, glad"}})
    (said,) = inputs.answers(several, np.asarray([[-1.0, 2.0]]), tokens, 1)
    assert said["answer"] == ["glad"]
    one = several.model_copy(update={"metric": "accuracy"})
    (said,) = inputs.answers(one, np.asarray([[0.0, np.log(3.0)]]), tokens, 2)
    assert said == {"answer": "glad", "p": 0.75, "top": {"glad": 0.75, "sad": 0.25}}
    masked = tasks.load("masked-lm").model_copy(update={"length": 3})
    logits = np.full((1, 3, 256), -9.0)
    for place, byte in enumerate(b"abc"):
        logits[0, place, byte] = 9.0
    assert list(inputs.answers(masked, logits, np.asarray([[[5, 5, 0]]]), 1)) == [{"answer": "ab"}]


def test_pairs_of_texts_stand_beside_each_other() -> None:
    pairs = tasks.load("retrieval").model_copy(update={"length": 4})
    made = inputs.tokens(pairs, ["ab\tc"], "here", cut=False)
    np.testing.assert_array_equal(made, [[[98, 99, 0, 0], [100, 0, 0, 0]]])
    with pytest.raises(DataError, match=r"here:1: 2 texts with a tab between them, not 1"):
        inputs.tokens(pairs, ["ab"], "here", cut=False)


@pytest.mark.sweep
@pytest.mark.parametrize("model", mixers.names())
def test_every_model_is_exported_for_any_number_of_examples(model: str) -> None:
    run = sweeps.runs(sweeps.Request(model, "listops", "quick"))[0]
    drawn = jax.jit(lambda: nnx.state(model_spec(run)(rngs=nnx.Rngs(0))))()
    graph = nnx.graphdef(nnx.eval_shape(lambda: model_spec(run)(rngs=nnx.Rngs(0))))

    def function(state: nnx.State, tokens: jax.Array) -> jax.Array:
        return nnx.merge(graph, state)(tokens, tokens > 0, key=None)

    shape = jax.ShapeDtypeStruct(export.symbolic_shape("b, 1, 128"), jnp.int32)
    made = export.export(jax.jit(one_by_one(function)))(drawn, shape)
    for size in (1, 3):
        tokens = np.random.default_rng(size).integers(1, 16, (size, 1, 128)).astype(np.int32)
        tokens[..., 100:] = 0
        ours, theirs = jax.jit(function)(drawn, tokens), made.call(drawn, tokens)
        np.testing.assert_allclose(theirs, ours, atol=1e-4 * float(np.abs(ours).max()))


@pytest.mark.slow
def test_each_platform_has_its_own_implementation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A CPU walks over the blocks of windows; a GPU takes all of them at once, in a file for several platforms too."""
    monkeypatch.setattr(of_run, "card", lambda _: {})

    def lowered(options: str, *platforms: str) -> tuple[str, dict[str, str]]:
        (run,) = sweeps.runs(sweeps.Request(f"local[window=8{options}]", "listops", "quick", length=64))
        made = built(run)
        trained = Trained(run, made, made.init.params, made.init.rest, {})
        of_run.exported(trained, tmp_path / "model.lra", None, platforms)
        read = artifact.read(tmp_path / "model.lra")
        return re.sub(r"loc\(.*\)|#loc.*", "", read.function.mlir_module()), read.card["impl"]

    module, impl = lowered("", "cuda")
    assert impl == {"cuda": "batched"}
    assert module == lowered(",impl=batched", "cuda")[0]
    assert module != lowered(",impl=xla", "cuda")[0]
    several, impl = lowered("", "cuda", "rocm", "tpu")
    assert impl == dict.fromkeys(("cuda", "rocm", "tpu"), "batched")
    assert "stablehlo.case" in several
