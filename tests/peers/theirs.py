"""Two training steps in PyTorch around a public package's mechanism, run whenever a line is read; one is timed.

    python tests/peers/theirs.py performer-pytorch 1024

The model is that of `torch_step.py`, the batch that of `lra speed`. Prints a line of JSON when it is ready and one for
each second step: its milliseconds and its loss. Packages are given the sizes that ours have by default, and their own
defaults else: their biases, their scalings, what they do with padding. An auxiliary loss is left out.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch_step import CLASSES, VOCAB, B, D, H, Heads, K, by_hand, step

Call = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Called(nn.Module):
    """A package's module as a mixer: x, mask -> y."""

    def __init__(self, module: nn.Module, call: Call, *, project: bool = False) -> None:
        super().__init__()
        self.module, self.call = module, call
        self.out = nn.Linear(D, D) if project else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.out(self.call(self.module, x, mask))


def linformer(length: int) -> nn.Module:
    from linformer import LinformerSelfAttention

    return Called(LinformerSelfAttention(D, length, k=256, heads=H), lambda module, x, mask: module(x))


def local_attention(length: int) -> nn.Module:
    from local_attention import LocalAttention

    near = LocalAttention(128, look_backward=1, look_forward=1, use_rotary_pos_emb=False)
    return Heads(lambda q, k, v, mask: near(q, k, v, mask=mask))


def performer(length: int) -> nn.Module:
    from performer_pytorch import FastAttention

    fast = FastAttention(K, nb_features=256)
    return Called(
        nn.ModuleDict({"fast": fast, "heads": Heads(lambda q, k, v, mask: fast(q, k, v))}),
        lambda both, x, mask: both["heads"](x, mask),
    )


def nystrom(length: int) -> nn.Module:
    from nystrom_attention import NystromAttention

    module = NystromAttention(D, K, H, num_landmarks=32, pinv_iterations=6, residual_conv_kernel=33)
    return Called(module, lambda module, x, mask: module(x, mask=mask))


def reformer(length: int) -> nn.Module:
    from reformer_pytorch import LSHSelfAttention

    module = LSHSelfAttention(D, H, bucket_size=64, n_hashes=2)
    return Called(module, lambda module, x, mask: module(x, input_mask=mask))


def routing(length: int) -> nn.Module:
    from routing_transformer.routing_transformer import SelfAttention

    window = 2 ** round(np.log2(length) / 2)  # tokens of a cluster, as many as there are clusters
    module = SelfAttention(D, 1, length, H, local_attn_heads=0, window_size=window)
    return Called(module, lambda module, x, mask: module(x, input_mask=mask)[0])


def sinkhorn(length: int) -> nn.Module:
    from sinkhorn_transformer.sinkhorn_transformer import SinkhornSelfAttention

    module = SinkhornSelfAttention(D, 64, length, H, sinkhorn_iter=7, temperature=0.75)
    return Called(module, lambda module, x, mask: module(x, input_mask=mask))


def bigbird(length: int) -> nn.Module:
    from transformers import BigBirdConfig
    from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention, BigBirdModel

    config = BigBirdConfig(
        hidden_size=D, num_attention_heads=H, block_size=64, num_random_blocks=3, max_position_embeddings=length
    )

    def call(module: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
        blocked, band, rows, columns = BigBirdModel.create_masks_for_block_sparse_attn(mask.float(), 64)
        return module(x, band, rows, columns, blocked, blocked)[0]

    return Called(BigBirdBlockSparseAttention(config, seed=0), call, project=True)


def longformer(length: int) -> nn.Module:
    from transformers import LongformerConfig
    from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

    config = LongformerConfig(
        hidden_size=D, num_attention_heads=H, attention_window=[256], attention_probs_dropout_prob=0.0
    )

    def call(module: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
        first = torch.zeros_like(mask)
        first[:, 0] = True
        seen = torch.where(mask, 0.0, -10000.0).masked_fill(first, 10000.0)
        return module(x, seen, ~mask, first, True)[0]

    return Called(LongformerSelfAttention(config, 0), call, project=True)


def fourier(length: int) -> nn.Module:
    return Called(nn.Identity(), lambda module, x, mask: torch.fft.fft2(x * mask[..., None], norm="ortho").real)


PACKAGES: dict[str, tuple[str, Callable[[int], nn.Module]]] = {
    **{f"torch {name}": ("torch", lambda L, name=name: by_hand(L)[name]()) for name in by_hand(256)},
    "torch fft": ("torch", fourier),
    "linformer": ("linformer", linformer),
    "local-attention": ("local-attention", local_attention),
    "performer-pytorch": ("performer-pytorch", performer),
    "nystrom-attention": ("nystrom-attention", nystrom),
    "reformer-pytorch": ("reformer-pytorch", reformer),
    "routing-transformer": ("routing-transformer", routing),
    "sinkhorn-transformer": ("sinkhorn-transformer", sinkhorn),
    "transformers BigBird": ("transformers", bigbird),
    "transformers Longformer": ("transformers", longformer),
}


def main() -> None:
    name, length = sys.argv[1], int(sys.argv[2])
    package, mixer = PACKAGES[name]
    torch.manual_seed(0)
    draw = np.random.default_rng(0)  # as `lra_bench.speed.random_batch` draws
    tokens = torch.from_numpy(draw.integers(1, VOCAB, (B, length), dtype=np.int32)).long()
    label = torch.from_numpy(draw.integers(0, CLASSES, (B,), dtype=np.int32)).long()
    run = step(lambda: mixer(length), tokens, torch.ones(B, length, dtype=torch.bool), label)
    versions = {each: importlib.metadata.version(each) for each in (package, "torch")}
    print(json.dumps({"ready": versions, "batch": [int(tokens.sum()), int(label.sum())]}), flush=True)
    for _ in sys.stdin:
        for _ in range(2):
            start = time.perf_counter()
            loss = run()
        print(json.dumps({"ms": 1e3 * (time.perf_counter() - start), "loss": loss}), flush=True)


if __name__ == "__main__":
    main()
