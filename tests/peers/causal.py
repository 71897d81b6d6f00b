"""Our causal forms against public code, with the same weights: the largest difference of each.

    python tests/peers/causal.py --torch .venv-peers/bin/python

Ours is computed here, in float32. What is public runs in a process of its own (`causal_torch.py`, `causal_jax.py`), in
float64 where it allows that, with our weights. Repositories are fetched by git, at the commits below, into a temporary
folder, or into `--code FOLDER`, where they stay. Packages are those of the extra `peers`, and flax.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lra_bench.kernels.gated_delta_rule import causal_gated_delta_rule
from lra_bench.kernels.gated_linear_attention import causal_gated_linear_attention
from lra_bench.kernels.long_convolution import causal_convolution
from lra_bench.kernels.recurrence import recurrence
from lra_bench.mixers import (
    cosformer,
    gated_deltanet,
    gla,
    hyena,
    linear,
    local,
    longformer,
    lru,
    luna,
    mega,
    performer,
    reformer,
    s4d,
    s5,
    softmax,
    transformer_xl,
)
from lra_bench.mixers.base import Dims

HERE = Path(__file__).parent
B, L, D, H, K = 2, 64, 32, 2, 16
NEAR = 2e-5  # of the largest value: what rounding to float32 explains

COMMITS = {
    "fla-org/flash-linear-attention": "bc3b101dcb713ddc5bd8924b66754eb68b5ccf89",
    "kimiyoung/transformer-xl": "44781ed21dbaec88b280f74d9ae2877f52b492a5",
    "OpenNLPLab/cosFormer": "8e12da111e2a683ea875711e0bf5810c6b4e8f9f",
    "XuezheMax/fairseq-apollo": "3b6e9058be1af4beb89fbe366ebf5ad6d93af1c8",  # the next one has another phi
    "facebookresearch/mega": "aeaa4b44592cd1d60a9a34554e359eda2a62b03b",
    "HazyResearch/safari": "02220c69d247e5473616cd053a443ad99fd2559b",
    "state-spaces/s4": "e757cef57d89e448c413de7325ed5601aceaac13",
    "state-spaces/mamba": "e9594ce1c732d97440f0332fdc43170a2294dbfa",
    "google-deepmind/recurrentgemma": "2efa84dac0e68e63547a27a18fa943c98f1c312e",
    "lindermanlab/S5": "3c18fdb6b06414da35e77b94b9cd855f6a95ef17",
    "NicolasZucchet/minimal-LRU": "bbd71b1104c399ec0d13819527d791949e66f599",
}

Arrays = dict[str, Any]


class Side(NamedTuple):
    """What ours gave, and all arrays that what is public needs to give the same."""

    y: jax.Array
    arrays: Arrays


class Case(NamedTuple):
    """A causal form of ours, and what it is held against."""

    run: Callable[[], Side]
    public: str
    repository: str = ""  # "": a package
    script: str = "causal_torch.py"


def drawn(make: Any, config: Any, **sizes: Any) -> Any:
    """A causal mixer, whose parameters are all moved a little from where they begin: none is 0 or 1."""
    mixer = make.Mixer(config, Dims(D, H, K, L, causal=True, **sizes), rngs=nnx.Rngs(0))
    rng = np.random.default_rng(1)
    for _, leaf in nnx.to_flat_state(nnx.state(mixer, nnx.Param)):
        leaf.set_value(leaf[...] + jnp.asarray(0.05 * rng.normal(size=leaf.shape), leaf.dtype))
    return mixer


def texts() -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(B, L, D)), jnp.float32)


def weights(mixer: nnx.Module) -> Arrays:
    """Every array of a mixer, by the names of its attributes."""
    return {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(nnx.state(mixer))}


def whole(make: Any, config: Any, **more: Any) -> Callable[[], Side]:
    """A mixer from its input to its output."""

    def run() -> Side:
        mixer, x = drawn(make, config), texts()
        y = jax.jit(lambda x: mixer(x, jnp.ones((B, L), bool), key=None))(x)
        return Side(y, weights(mixer) | {"x": x} | more)

    return run


def by_time(x: jax.Array) -> jax.Array:
    """[B, H, L, ...] as [B, L, H, ...]."""
    return x.swapaxes(1, 2)


def gated_linear_attention() -> Side:
    mixer, x = drawn(gla, gla.Config()), texts()
    q, k, v, g, _ = mixer.parts(x, jnp.ones((B, L), bool))
    g = g.reshape(B, L, H, -1).swapaxes(1, 2)
    arrays = {name: by_time(a) for name, a in zip("qkvg", (q, k, v, g), strict=True)}
    return Side(by_time(causal_gated_linear_attention(q, k, v, g)), arrays)


def gated_delta_rule() -> Side:
    mixer, x = drawn(gated_deltanet, gated_deltanet.Config()), texts()
    q, k, v = mixer.split(jax.nn.silu(mixer.projected(x)[0]))
    g, beta = mixer.gated(x)
    arrays = {name: by_time(a) for name, a in zip("qkv", (q, k, v), strict=True)} | {"g": g, "beta": beta}
    return Side(by_time(causal_gated_delta_rule(q, k, v, by_time(g), by_time(beta))), arrays)


def packing(tied: bool) -> Callable[[], Side]:
    """With the rows as they ask of the tokens, after their norm."""

    def run() -> Side:
        config = luna.Config(packed=5, tied=tied)
        return whole(luna, config, rows=drawn(luna, config).asked(texts()))()

    return run


def constant_scan() -> Side:
    rng = np.random.default_rng(2)
    a, x = jnp.asarray(rng.uniform(0.5, 1, D), jnp.float32), texts()
    return Side(recurrence(a, x), {"a": a, "x": x})


def state_space() -> Side:
    mixer, u = drawn(s4d, s4d.Config(states=8, start="real")), texts()
    return Side(causal_convolution(u, mixer.filters(L)[0]) + mixer.d[...] * u, weights(mixer) | {"x": u})


FLA, APOLLO, S4 = "fla-org/flash-linear-attention", "XuezheMax/fairseq-apollo", "state-spaces/s4"
XL, MEGA = "kimiyoung/transformer-xl", "facebookresearch/mega"

CASES = {
    "softmax": Case(whole(softmax, softmax.Config()), "torch scaled_dot_product_attention"),
    "linear": Case(whole(linear, linear.Config()), "naive_recurrent_linear_attn", FLA),
    "gla": Case(gated_linear_attention, "naive_recurrent_gla", FLA),
    "gated-deltanet": Case(gated_delta_rule, "naive_recurrent_gated_delta_rule", FLA),
    "gated-deltanet, by chunks": Case(gated_delta_rule, "naive_chunk_gated_delta_rule", FLA),
    "performer": Case(
        whole(performer, performer.Config(features=24)), "performer-pytorch causal_linear_attention_noncuda"
    ),
    "performer[kernel=relu]": Case(
        whole(performer, performer.Config(features=24, kernel="relu")),
        "performer-pytorch causal_linear_attention_noncuda",
    ),
    "cosformer": Case(whole(cosformer, cosformer.Config()), "CosformerAttention", "OpenNLPLab/cosFormer"),
    "local": Case(whole(local, local.Config(window=16), window=16), "local-attention LocalAttention"),
    "block-local": Case(
        whole(local, local.Config(window=16, form="block"), window=16), "local-attention LocalAttention"
    ),
    "longformer": Case(whole(longformer, longformer.Config(window=16), window=16), "local-attention LocalAttention"),
    "reformer": Case(whole(reformer, reformer.Config(chunk=L // 2, buckets=2)), "reformer-pytorch LSHAttention"),
    "transformer-xl": Case(
        whole(transformer_xl, transformer_xl.Config(segment=16, memory=2), segment=16, memory=2),
        "RelPartialLearnableMultiHeadAttn",
        XL,
    ),
    "luna": Case(packing(tied=True), "LunarCausalAttention", APOLLO),
    "luna[tied=false]": Case(packing(tied=False), "LunarCausalAttention", APOLLO),
    "mega": Case(whole(mega, mega.Config(chunk=16, shared=8)), "MovingAverageGatedAttention", MEGA),
    "mega[laplace=true]": Case(
        whole(mega, mega.Config(chunk=16, shared=8, laplace=True)), "MovingAverageGatedAttention", MEGA
    ),
    "hyena": Case(whole(hyena, hyena.Config(hidden=16)), "HyenaOperator", "HazyResearch/safari"),
    "s4d": Case(whole(s4d, s4d.Config(states=8)), "S4D", S4),
    "s4d[start=real]": Case(state_space, "selective_scan_ref", "state-spaces/mamba"),
    "s5": Case(whole(s5, s5.Config(states=16, blocks=2)), "S5SSM", "lindermanlab/S5", "causal_jax.py"),
    "lru": Case(whole(lru, lru.Config(states=16)), "LRU", "NicolasZucchet/minimal-LRU", "causal_jax.py"),
    "lru's recurrence": Case(constant_scan, "rnn_scan", "google-deepmind/recurrentgemma"),
}


def fetched(code: Path, repository: str, origin: str) -> None:
    """The repository at its commit, in the folder of its name; nothing where that is there."""
    folder = code / repository
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as whole:
        git = ["git", "-C", whole]
        said([*git, "init", "--quiet"])
        said([*git, "fetch", "--quiet", "--depth", "1", f"{origin}/{repository}", COMMITS[repository]])
        said([*git, "checkout", "--quiet", "FETCH_HEAD"])
        shutil.copytree(whole, folder)


def said(command: list[str]) -> None:
    """Run it.

    Raises:
        RuntimeError: it failed; its last line.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no answer"])[-1])


def theirs(name: str, case: Case, arrays: Arrays, code: Path, python: str) -> np.ndarray:
    """What the public code makes of the arrays."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given.npz", Path(folder) / "made.npy"
        np.savez(given, **{key: np.asarray(value) for key, value in arrays.items()})
        said([python, str(HERE / case.script), name, str(code / case.repository), str(given), str(made)])
        return np.load(made)


def compared(name: str, case: Case, code: Path, origin: str, torch: str) -> bool:
    """Print one line of the table; is the difference rounding?"""
    start = f"{name:<26} {case.public:<52}"
    try:
        if case.repository:
            fetched(code, case.repository, origin)
        side = case.run()
        python = torch if case.script == "causal_torch.py" else sys.executable
        exact = theirs(name, case, side.arrays, code, python)
    except RuntimeError as error:
        print(f"{start} {error}", flush=True)
        return False
    apart, size = np.abs(np.float64(side.y) - exact).max(), np.abs(exact).max()
    print(f"{start} {size:>9.3g} {apart:>10.1e}", flush=True)
    return bool(apart <= NEAR * size)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", default=".venv-peers/bin/python", help="a Python that has the extra `peers`")
    parser.add_argument("--code", type=Path, help="a folder that keeps the repositories")
    parser.add_argument("--origin", default="https://github.com", help="where git fetches them")
    parser.add_argument("--only", default="", help="these, comma-separated, by what their names begin with")
    args = parser.parse_args()
    only = tuple(args.only.split(","))
    print(f"{'ours':<26} {'public':<52} {'largest':>9} {'difference':>10}")
    with tempfile.TemporaryDirectory() as folder:
        code = args.code or Path(folder)
        names = [name for name in CASES if name.startswith(only)]
        near = [compared(name, CASES[name], code, args.origin, args.torch) for name in names]
    return int(not all(near))


if __name__ == "__main__":
    sys.exit(main())
