"""Softmax attention by JAX's own kernel for TPU (`jax.experimental.pallas.ops.tpu.splash_attention`).

The kernel wants lengths in blocks of 128, has no scale of its own, and knows padding as segments: tokens of one see
each other. So what is there is one segment, and what is not, with the room up to a whole block, is another.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

BLOCK = 512  # tokens of a kernel's block, where there are as many
LANES = 128  # of a TPU's vector


def splash_attention(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
    causal: bool = False,
    *,
    interpret: bool = False,
) -> Float[Array, "B H L K"]:
    """softmax(QK^T / sqrt K) V over the keys that are there; `softmax_attention_reference` is the same."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    H, L, K = q.shape[1:]
    size = min(BLOCK, L + -L % LANES)
    room = ((0, 0), (0, 0), (0, -L % size), (0, 0))
    query, key, value = (jnp.pad(x, room) for x in (q * K**-0.5, k, v))
    length = query.shape[2]
    sizes = splash.BlockSizes(
        block_q=size,
        block_kv=size,
        block_q_dkv=size,
        block_kv_dkv=size,
        block_q_dq=size,
        block_kv_dq=size,
        use_fused_bwd_kernel=False,  # the fused one writes a gradient of all queries for each block of keys
    )
    kind = masks.CausalMask if causal else masks.FullMask
    every = masks.MultiHeadMask([kind((length, length))] * H)
    kernel = splash.make_splash_mha_single_device(every, block_sizes=sizes, interpret=interpret)
    segment = jnp.pad(mask, ((0, 0), (0, length - L))).astype(jnp.int32)
    out = jax.vmap(kernel)(query, key, value, splash.SegmentIds(segment, segment))
    return (out[:, :, :L] * mask.any(1)[:, None, None, None]).astype(v.dtype)
