"""Public JAX code with our weights, as `causal_torch.py` has what is PyTorch.

    python tests/peers/causal_jax.py NAME REPOSITORY GIVEN.npz MADE.npy

In float64, as far as theirs has it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

Arrays = dict[str, jax.Array]


def s5(w: Arrays, code: Path) -> jax.Array:
    """Their state space; then our gate, which is one of those of their layer."""
    jnp.DeviceArray = jax.Array  # named by their annotations, no longer by JAX
    sys.path.insert(0, str(code))
    public = importlib.import_module("s5.ssm")
    S, D = w["log_dt"].shape[0], w["d"].shape[0]
    decay, nothing = -jnp.exp(w["log_decay"]), jnp.zeros((2 * S, S), complex)
    module = public.S5SSM(
        decay, w["frequency"], nothing, nothing.T, H=D, P=S, C_init="complex_normal", discretization="zoh",
        dt_min=1e-3, dt_max=1e-1,
    )  # fmt: skip
    params = {
        "Lambda_re": decay,
        "Lambda_im": w["frequency"],
        "B": jnp.moveaxis(w["b"], 0, -1),
        "C": jnp.moveaxis(w["c"][0], 0, -1),
        "D": w["d"],
        "log_step": w["log_dt"][:, None],
    }
    g = jax.nn.gelu(jax.vmap(lambda x: module.apply({"params": params}, x))(w["x"]))
    return g * jax.nn.sigmoid(g @ w["gate.kernel"] + w["gate.bias"])


def lru(w: Arrays, code: Path) -> jax.Array:
    """Their recurrence; then the GELU and the gated linear layer of their block, as ours has them."""
    sys.path.insert(0, str(code))
    public = importlib.import_module("lru.model")
    module = public.LRU(d_hidden=w["nu"].shape[0], d_model=w["d"].shape[0])
    params = {
        "theta_log": w["theta"],
        "nu_log": w["nu"],
        "gamma_log": w["gamma"],
        "B_re": w["b"][0],
        "B_im": w["b"][1],
        "C_re": w["c"][0, 0].T,
        "C_im": w["c"][0, 1].T,
        "D": w["d"],
    }
    y = jax.nn.gelu(jax.vmap(lambda x: module.apply({"params": params}, x))(w["x"]))
    a, b = jnp.split(y @ w["out.kernel"] + w["out.bias"], 2, axis=-1)
    return a * jax.nn.sigmoid(b)


PUBLIC: dict[str, Callable[[Arrays, Path], jax.Array]] = {"s5": s5, "lru": lru}


def main() -> None:
    name, code, given, made = sys.argv[1:]
    jax.config.update("jax_enable_x64", True)
    w = {key: jnp.asarray(np.float64(x)) for key, x in np.load(given).items()}
    np.save(made, np.asarray(PUBLIC[name](w, Path(code))))


if __name__ == "__main__":
    main()
