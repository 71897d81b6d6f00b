"""The same training step in PyTorch, to measure ourselves against.

    python tests/peers/torch_step.py --lengths 1024,2048,4096

2 layers, 64 wide, 2 heads, MLP 128, batch 4, float32, no dropout, mean pool over true tokens, Adam. Prints one JSON
object, {mechanism: {length: median milliseconds}}. Run by hand, with a Python that has torch; pytest does not collect
it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYERS, D, H, MLP, B, VOCAB, CLASSES = 2, 64, 2, 128, 4, 16, 10
K = D // H
Attend = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def softmax(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])


def linear(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    q, k = F.elu(q) + 1, (F.elu(k) + 1) * mask[:, None, :, None]
    total = torch.einsum("bhlk,bhk->bhl", q, k.sum(2)).clamp_min(1e-6)
    return q @ (k.transpose(2, 3) @ v) / total[..., None]


class Linformer(nn.Module):
    def __init__(self, length: int, rank: int = 256) -> None:
        super().__init__()
        self.project = nn.Parameter(torch.randn(rank, length) * rank**-0.5)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        there = mask[:, None, :, None]
        return F.scaled_dot_product_attention(q, self.project @ (k * there), self.project @ (v * there))


def local(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, w: int = 128) -> Tensor:
    L = q.shape[2]
    q = q.reshape(B, H, L // w, w, K)
    k, v = (F.pad(x, (0, 0, w, w)).unfold(2, 3 * w, w).transpose(3, 4) for x in (k, v))
    there = F.pad(mask, (w, w)).unfold(1, 3 * w, w)[:, None, :, None, :]
    i, j = torch.arange(w)[:, None], torch.arange(3 * w)[None, :] - w
    there = there & ((i - j).abs() <= w)
    scores = (q @ k.transpose(3, 4) * K**-0.5).masked_fill(~there, -1e9)
    return (scores.softmax(-1) @ v).reshape(B, H, L, K)


class Heads(nn.Module):
    """Projections by heads around `attend`; None: what is mixed are the values, each with itself."""

    def __init__(self, attend: Attend | None) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(D, 3 * D, bias=False), nn.Linear(D, D, bias=False)
        self.attend = attend

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        L = x.shape[1]
        q, k, v = self.qkv(x).reshape(B, L, 3, H, K).permute(2, 0, 3, 1, 4)
        y = v if self.attend is None else self.attend(q, k, v, mask)
        return self.out(y.transpose(1, 2).reshape(B, L, D))


class Block(nn.Module):
    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.before_mixer, self.before_mlp = nn.LayerNorm(D, 1e-6), nn.LayerNorm(D, 1e-6)
        self.up, self.down = nn.Linear(D, MLP), nn.Linear(MLP, D)
        self.mixer = mixer

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.mixer(self.before_mixer(x), mask) * mask[..., None]
        return x + self.down(F.gelu(self.up(self.before_mlp(x)), approximate="tanh"))


class Model(nn.Module):
    def __init__(self, mixer: Callable[[], nn.Module], length: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, D)
        self.positions = nn.Buffer(torch.randn(length, D))
        self.blocks = nn.ModuleList(Block(mixer()) for _ in range(LAYERS))
        self.norm, self.hidden, self.logits = nn.LayerNorm(D, 1e-6), nn.Linear(D, MLP), nn.Linear(MLP, CLASSES)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x = self.embed(tokens) + self.positions
        for block in self.blocks:
            x = block(x, mask)
        there = mask[..., None]
        pooled = (self.norm(x) * there).sum(1) / there.sum(1).clamp_min(1)
        return self.logits(F.relu(self.hidden(pooled)))


def step(mixer: Callable[[], nn.Module], tokens: Tensor, mask: Tensor, label: Tensor) -> Callable[[], float]:
    """What runs one training step on the batch, always the same, and returns its loss."""
    model = Model(mixer, tokens.shape[1])
    adam = torch.optim.Adam(model.parameters(), 1e-3)

    def run() -> float:
        adam.zero_grad()
        loss = F.cross_entropy(model(tokens, mask), label)
        loss.backward()
        adam.step()
        return loss.item()

    return run


def random_batch(length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, their mask, and labels."""
    tokens = torch.randint(1, VOCAB, (B, length))
    mask = torch.arange(length) < torch.tensor([length, length * 3 // 4, length // 2, length])[:, None]
    return tokens, mask, torch.randint(0, CLASSES, (B,))


def by_hand(length: int) -> dict[str, Callable[[], nn.Module]]:
    """The mechanisms that are a few lines of PyTorch."""
    return {
        "trunk": lambda: Heads(None),
        "softmax": lambda: Heads(softmax),
        "linear": lambda: Heads(linear),
        "linformer": lambda: Heads(Linformer(length)),
        "local": lambda: Heads(local),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", default="1024,2048,4096")
    parser.add_argument("--only", default="trunk,softmax,linear,linformer,local")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    made: dict[str, dict[str, float]] = {name: {} for name in args.only.split(",")}
    for length in map(int, args.lengths.split(",")):
        steps = {name: step(by_hand(length)[name], *random_batch(length)) for name in made}
        times: dict[str, list[float]] = {name: [] for name in made}
        for repeat in range(args.repeats + 1):
            for name, run in steps.items():
                start = time.perf_counter()
                run()
                if repeat:
                    times[name].append(1000 * (time.perf_counter() - start))
        for name, taken in times.items():
            made[name][str(length)] = round(statistics.median(taken), 1)
    print(json.dumps(made))


if __name__ == "__main__":
    main()
