"""Public PyTorch code with our weights: what `causal.py` holds our causal forms against.

    python tests/peers/causal_torch.py NAME REPOSITORY GIVEN.npz MADE.npy

Files of a repository are loaded by themselves, without what their packages import besides. Each function below says
where the weights go; whatever else is set differs from our default, and is said.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Arrays = dict[str, Any]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
H = 2

torch.manual_seed(0)
torch.set_grad_enabled(False)


def by_path(path: Path) -> ModuleType:
    """The module of one file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bare(**folders: Path) -> None:
    """Packages whose files can be imported, without what the packages themselves import."""
    for name, folder in folders.items():
        package = ModuleType(name.replace("__", "."))
        package.__path__ = [str(folder)]
        sys.modules[package.__name__] = package


def instead(name: str, **what: Any) -> None:
    """A module that stands for one that does not run on a CPU, or imports much."""
    module = ModuleType(name)
    module.__dict__.update(what)
    sys.modules[name] = module


def copy(parameter: Tensor, value: Tensor) -> None:
    assert parameter.shape == value.shape, (parameter.shape, value.shape)
    parameter.copy_(value)


def by_heads(w: Arrays, attend: Attend) -> Tensor:
    """Projections around `attend`, of arrays [B, H, L, K]."""
    q, k, v = cut(w["x"] @ w["qkv"])
    return join(attend(q, k, v)) @ w["out"]


def cut(x: Tensor) -> Tensor:
    B, L, _ = x.shape
    return x.reshape(B, L, 3, H, -1).permute(2, 0, 3, 1, 4)


def join(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def softmax(w: Arrays, code: Path) -> Tensor:
    return by_heads(w, lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True))


def linear(w: Arrays, code: Path) -> Tensor:
    naive = by_path(code / "fla/ops/linear_attn/naive.py").naive_recurrent_linear_attn

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = F.elu(q) + 1, F.elu(k) + 1
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return naive(q, k, v, scale=1.0, normalize=True)[0].transpose(1, 2)

    return by_heads(w, attend)


def gla(w: Arrays, code: Path) -> Tensor:
    """Theirs divides the queries by the root of K, as ours are already."""
    naive = by_path(code / "fla/ops/gla/naive.py").naive_recurrent_gla
    return naive(w["q"] * w["q"].shape[-1] ** 0.5, w["k"], w["v"], w["g"])[0]


def delta_rule(name: str) -> Callable[[Arrays, Path], Tensor]:
    def run(w: Arrays, code: Path) -> Tensor:
        naive = getattr(by_path(code / "fla/ops/gated_delta_rule/naive.py"), name)
        return naive(w["q"], w["k"], w["v"], g=w["g"], beta=w["beta"], scale=1.0)[0]

    return run


def performer(w: Arrays, code: Path) -> Tensor:
    """Without the numbers that they add to the features and to the denominator."""
    from performer_pytorch.performer_pytorch import causal_linear_attention_noncuda, softmax_kernel

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        features = [
            softmax_kernel(x, projection_matrix=w["features"], is_query=query, eps=0.0)
            for x, query in ((q, True), (k, False))
        ]
        return causal_linear_attention_noncuda(*features, v, eps=0.0)

    return by_heads(w, attend)


def rectified(w: Arrays, code: Path) -> Tensor:
    from performer_pytorch.performer_pytorch import causal_linear_attention_noncuda, generalized_kernel

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        features = (generalized_kernel(x, projection_matrix=w["features"]) for x in (q, k))
        return causal_linear_attention_noncuda(*features, v, eps=0.0)

    return by_heads(w, attend)


def cosformer(w: Arrays, code: Path) -> Tensor:
    """Without their biases."""
    D = w["x"].shape[-1]
    module = by_path(code / "cosformer.py").CosformerAttention(D, H, causal=True).double()
    named = zip(("q_proj", "k_proj", "v_proj"), w["qkv"].split(D, dim=1), strict=True)
    for name, matrix in (*named, ("out_proj", w["out"])):
        copy(getattr(module, name).weight, matrix.T)
        getattr(module, name).bias.zero_()
    return module(w["x"].transpose(0, 1)).transpose(0, 1)


def window(before: int) -> Callable[[Arrays, Path], Tensor]:
    def run(w: Arrays, code: Path) -> Tensor:
        from local_attention import LocalAttention

        near = LocalAttention(
            int(w["window"]), causal=True, look_backward=before, exact_windowsize=before > 0, use_rotary_pos_emb=False
        )
        return by_heads(w, near)

    return run


def longformer(w: Arrays, code: Path) -> Tensor:
    return window(1)(w, code)


def reformer(w: Arrays, code: Path) -> Tensor:
    """Two chunks, so that theirs too see all earlier tokens of a bucket, and no other buckets; their logits are divided
    by the root of K, ours are not."""
    from reformer_pytorch import LSHAttention

    B, L, _ = w["x"].shape
    q, v = (x.reshape(B, L, H, -1).transpose(1, 2).flatten(0, 1) for x in (w["x"] @ w["qv"]).chunk(2, dim=-1))
    rotations = w["rotations"].repeat(B, 1, 1, 1)
    module = LSHAttention(
        bucket_size=L // 2,
        n_hashes=rotations.shape[2],
        causal=True,
        attend_across_buckets=False,
        random_rotations_per_head=True,
    )

    def ours(shape: tuple[int, ...], **kind: Any) -> Tensor:
        assert tuple(shape) == rotations.shape
        return rotations

    theirs, torch.randn = torch.randn, ours
    y = module(q * q.shape[-1] ** 0.5, v)[0]
    torch.randn = theirs
    return join(y.reshape(B, H, L, -1)) @ w["out"]


def transformer_xl(w: Arrays, code: Path) -> Tensor:
    """Segment after segment; without their layer norm, and less their residual."""
    instead("proj_adaptive_softmax", ProjectedAdaptiveLogSoftmax=None)
    instead("log_uniform_sampler", LogUniformSampler=None, sample_logits=None)
    public = by_path(code / "pytorch/mem_transformer.py")
    segment, memory = int(w["segment"]), int(w["memory"])
    x = w["x"].transpose(0, 1)
    L, _, D = x.shape
    module = public.RelPartialLearnableMultiHeadAttn(H, D, D // H, dropout=0.0, pre_lnorm=True).double()
    module.layer_norm = nn.Identity()
    for layer, matrix in ((module.qkv_net, w["qkv"]), (module.o_net, w["out"]), (module.r_net, w["relative"])):
        copy(layer.weight, matrix.T)
    places, read = public.PositionalEmbedding(D).double(), []
    for first in range(0, L, segment):
        past, here = x[max(0, first - memory * segment) : first], x[first : first + segment]
        keys = len(past) + segment
        r = places(torch.arange(keys - 1, -1, -1.0, dtype=x.dtype))
        after = torch.ones(segment, keys, dtype=torch.bool).triu(1 + len(past))[:, :, None]
        read.append(module(here, r, w["u"], w["v"], attn_mask=after, mems=past if len(past) else None) - here)
    return torch.cat(read).transpose(0, 1)


def fairseq(code: Path) -> None:
    """Its modules and `utils`, without what those import and the mechanisms do not need."""
    bare(fairseq=code / "fairseq", fairseq__modules=code / "fairseq/modules")
    instead("fairseq.data", iterators=None)
    instead("fairseq.logging")
    instead("fairseq.logging.meters", safe_round=None)
    instead("fairseq.modules.multihead_attention", MultiheadAttention=None)
    sys.modules["fairseq.modules"].__dict__.update(gelu=None, gelu_accurate=None)


def luna(w: Arrays, code: Path) -> Tensor:
    """Without their biases."""
    fairseq(code)
    x, tied = w["x"].transpose(0, 1), len(w["unpack.kv"]) == 1
    public = importlib.import_module("fairseq.modules.luna_attention")
    module = public.LunarCausalAttention(x.shape[-1], H, bias=False, tie_kv=tied).double()
    kv = ("c_proj",) if tied else ("k_proj", "v_proj")
    matrices = dict(zip(kv, w["unpack.kv"], strict=True)) | {
        "pq_proj": w["pack.q"],
        "pc_proj": w["pack.kv"][0],
        "q_proj": w["unpack.q"],
        "out_proj": w["unpack.out"],
    }
    for name, matrix in matrices.items():
        copy(getattr(module, name).weight, matrix.T)
    rows = w["rows"][:, None].expand(-1, x.shape[1], -1)
    return module(x, rows)[0].transpose(0, 1)


def mega(activation: str) -> Callable[[Arrays, Path], Tensor]:
    """Without their norm, less what of the residual their update gate keeps, and without a bias of h that they have."""

    def run(w: Arrays, code: Path) -> Tensor:
        fairseq(code)
        x, c = w["x"].transpose(0, 1), len(w["distances"])
        (D, n), (V, _), Z = w["beta"].shape[1:], w["attended"].shape, w["kappa"].shape[1]
        public = importlib.import_module("fairseq.modules.moving_average_gated_attention")
        module = public.MovingAverageGatedAttention(D, Z, V, n, chunk_size=c, attention_activation=activation).double()
        module.norm = nn.Identity()
        # Their delta is our alpha, and the other way round; their u, z, r, h are our g, z, r, h.
        for name, value in (("delta", w["alpha"]), ("alpha", w["delta"]), ("beta", w["beta"])):
            copy(getattr(module.move, name), value[0][..., None])
        copy(module.move.gamma, w["eta"][0])
        copy(module.move.omega, w["omega"])
        for kind, parameter in (("kernel", module.mx_proj.weight), ("bias", module.mx_proj.bias)):
            z, r, g, h = w[f"averaged.{kind}"].split([Z, V, D, D], dim=-1)
            copy(parameter, torch.cat([g, z, r, h], dim=-1).T if kind == "kernel" else torch.cat([g, z, r, h]))
        copy(module.v_proj.weight, w["values.kernel"].T)
        copy(module.v_proj.bias, w["values.bias"])
        copy(module.h_proj.weight, w["attended"].T)
        module.h_proj.bias.zero_()
        copy(module.gamma, w["kappa"])
        copy(module.beta, w["mu"])
        copy(module.rel_pos_bias.rel_pos_bias[:c], w["distances"].flip(0))
        seen = torch.ones(c, c, dtype=x.dtype).tril()
        mask = seen if activation == "laplace" else torch.full((c, c), -math.inf).triu(1)
        u = torch.sigmoid(module.mx_proj(module.move(x))[..., :D])
        return (module(x, attn_mask=mask)[0] - (1 - u) * x).transpose(0, 1)

    return run


def hyena(w: Arrays, code: Path) -> Tensor:
    """Time runs as ours does, to (L - 1) / L, not to 1; our filters' norm is put into their last matrix, and a sine's
    sign into the first."""
    B, L, D = w["x"].shape
    hidden, bands = len(w["sines"]), (len(w["layers.0"]) - 1) // 2
    public = by_path(code / "standalone_hyena.py")
    module = public.HyenaOperator(D, L, filter_order=hidden, emb_dim=1 + 2 * bands).double()
    v, first, gate = 2, 0, 1  # ours in order: first, gate, v
    order = torch.cat([torch.arange(D) + D * part for part in (gate, first, v)])
    copy(module.in_proj.weight, w["projections.kernel"].T[order])
    copy(module.in_proj.bias, w["projections.bias"][order])
    copy(module.short_filter.weight, w["taps"].T[order][:, None])
    copy(module.short_filter.bias, w["shift"][order])
    copy(module.out_proj.weight, w["out.kernel"].T)
    copy(module.out_proj.bias, w["out.bias"])
    filters = module.filter_fn
    copy(filters.bias, w["now"][0])
    *layers, last = (part for part in filters.implicit_filter if isinstance(part, nn.Linear))
    for i, layer in enumerate(layers):
        matrix = w[f"layers.{i}"].clone()
        if i == 0:
            matrix[1 + bands :] *= -1  # e^(-i w), and our sine of w
        copy(layer.weight, matrix.T)
        copy(layer.bias, w["biases"][i])
    copy(filters.implicit_filter[1].freq, w["sines"][None])
    t = torch.arange(L, dtype=torch.float64)[None, :, None] / L
    filters.pos_emb.z[..., :1] = t
    filters.pos_emb.t = t
    waves = 2 * math.pi * t * torch.linspace(1e-4, bands - 1, bands, dtype=torch.float64)
    filters.pos_emb.z = nn.Parameter(torch.cat([t, torch.cos(waves), -torch.sin(waves)], dim=-1))
    window = filters.modulation(t, torch.ones_like(t))
    copy(last.weight, w["last"][0] * window[0].square().sum(0).rsqrt()[:, None])
    return module(w["x"])


def s4d(w: Arrays, code: Path) -> Tensor:
    """Their GELU is the exact one, ours and the one set here its approximation by tanh."""
    instead("src.models.nn", DropoutNd=None)
    D = w["x"].shape[-1]
    module = by_path(code / "models/s4/s4d.py").S4D(D, d_state=2 * w["c"].shape[-1], transposed=False).double()
    module.activation = nn.GELU(approximate="tanh")
    copy(module.D, w["d"])
    copy(module.kernel.C, w["c"][0].movedim(0, -1))
    copy(module.kernel.log_dt, w["log_dt"])
    copy(module.kernel.log_A_real, w["log_decay"])
    copy(module.kernel.A_imag, w["frequency"])
    copy(module.output_linear[0].weight, w["out.kernel"].T[..., None])
    copy(module.output_linear[0].bias, w["out.bias"])
    return module(w["x"])[0]


def selective_scan(w: Arrays, code: Path) -> Tensor:
    """A step, B and C that do not depend on the token; their B is dt B, so that it is given B bar / dt."""
    bare(mamba_ssm=code / "mamba_ssm", mamba_ssm__utils=code / "mamba_ssm/utils", mamba_ssm__ops=code / "mamba_ssm/ops")
    instead("mamba_ssm.ops.triton")
    instead("mamba_ssm.ops.triton.layer_norm", _layer_norm_fwd=None)
    public = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    u, dt, A = w["x"].transpose(1, 2), w["log_dt"].exp(), -w["log_decay"].exp()
    delta = dt[None, :, None].expand_as(u)
    B = torch.expm1(dt[:, None] * A) / A / dt[:, None]
    return public.selective_scan_ref(u, delta, A.float(), B, w["c"][0, 0], w["d"].float()).transpose(1, 2)


def constant_scan(w: Arrays, code: Path) -> Tensor:
    """A real `a` that does not depend on the token, without their gates."""
    bare(recurrentgemma=code / "recurrentgemma", recurrentgemma__torch=code / "recurrentgemma/torch")
    instead("recurrentgemma.torch.array_typing", typed=lambda f: f, __getattr__=lambda name: Any)
    public = importlib.import_module("recurrentgemma.torch.layers")
    x = w["x"]
    reset = torch.zeros(x.shape[:2], dtype=torch.bool)
    return public.rnn_scan(x, w["a"].expand_as(x), reset, None, acc_dtype=x.dtype)[0]


PUBLIC: dict[str, Callable[[Arrays, Path], Tensor]] = {
    "softmax": softmax,
    "linear": linear,
    "gla": gla,
    "gated-deltanet": delta_rule("naive_recurrent_gated_delta_rule"),
    "gated-deltanet, by chunks": delta_rule("naive_chunk_gated_delta_rule"),
    "performer": performer,
    "performer[kernel=relu]": rectified,
    "cosformer": cosformer,
    "local": window(1),
    "block-local": window(0),
    "longformer": longformer,
    "reformer": reformer,
    "transformer-xl": transformer_xl,
    "luna": luna,
    "luna[tied=false]": luna,
    "mega": mega("softmax"),
    "mega[laplace=true]": mega("laplace"),
    "hyena": hyena,
    "s4d": s4d,
    "s4d[start=real]": selective_scan,
    "lru's recurrence": constant_scan,
}


def main() -> None:
    name, code, given, made = sys.argv[1:]
    arrays = {key: torch.from_numpy(np.array(x)) for key, x in np.load(given).items()}
    w = {key: x.double() if x.is_floating_point() else x for key, x in arrays.items()}
    np.save(made, PUBLIC[name](w, Path(code)).numpy())


if __name__ == "__main__":
    main()
