"""Which implementation of a kernel runs: chosen before anything is traced, by the platform, or as it is asked for.

`xla`: a walk over blocks that stay in a processor's cache. `batched`: large products over all blocks at once, or over
some parts of a fixed size, for devices on which each pass of a loop is a dozen launches. `pallas`: a kernel for GPU
(Triton) or TPU (Mosaic), which has neither; on a CPU it is interpreted, for tests. `hopper`: a kernel for GPUs of
compute capability 9.0 alone, beside that of `pallas`. All are one function.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from lra_bench.errors import ConfigError, nearest

XLA, BATCHED, PALLAS, HOPPER = "xla", "batched", "pallas", "hopper"
WALKED = (XLA, BATCHED)  # what a mixer without a kernel of its own has
FUSED = (XLA, BATCHED, PALLAS)
KERNELS = frozenset({PALLAS, HOPPER, "cudnn", "splash"})  # as options call what is no operation of XLA
OF_16_BITS = frozenset({"cudnn"})  # of these, what takes no float32
FORMS = {"cpu": "pallas-interpret", "gpu": "pallas-triton", "tpu": "pallas-mosaic"}  # of `pallas`, by platform

VMEM = 100 * 2**20  # bytes that a kernel may take of a TPU's VMEM, if it has as many
PADDED = 64  # bytes there of one float32 of a token: 64 tokens are filled up to a register of 8 x 128
LANES = 128  # of a TPU's registers: a kernel pads narrower heads to as many
FEW = 256  # rows at most, with whose logits attention moves less than a kernel with the padding of its heads: see docs

AT_ONCE = 2**25  # numbers of one array that `batched` makes at once: 128 MiB in float32


def chosen(
    asked: str,
    platform: str,
    there: Collection[str] = FUSED,
    refused: Collection[str] = (),
    few: int | None = None,
) -> str:
    """What runs for an option `impl` on a platform: `xla`, `batched`, or one of `FORMS`.

    Args:
        asked: auto, or an implementation of `there`.
        there: those that the mixer has.
        refused: those that differed from their reference on the device, which auto leaves out.
        few: so many rows that all tokens attend to, or that attend to all, by heads of fewer than `LANES` numbers;
            None: no such rows, or heads.

    Raises:
        ConfigError: there is no such implementation.
    """
    if asked not in ("auto", *there):
        raise ConfigError(f"impl: '{asked}'; {nearest(asked, ('auto', *there))}")
    if asked == "auto":
        asked = _best(platform, [one for one in there if one not in refused], few is not None and few <= FEW)
    return FORMS[platform] if asked == PALLAS else asked


def _best(platform: str, there: Collection[str], few: bool) -> str:
    if platform == "cpu":
        return XLA
    order = (BATCHED, PALLAS, XLA) if platform == "tpu" and few else (PALLAS, BATCHED, XLA)
    return next(one for one in order if one in there)


def fused(impl: str) -> bool:
    """Is it a kernel?"""
    return impl in FORMS.values()


def at_once(impl: str, rows: int, numbers: int, in_cache: int | None = None) -> int | None:
    """How many of so many rows are taken at once, if an array of all of them has so many numbers; None: one by one.

    As many as `AT_ONCE` holds, or a quarter more if the rows are then cut without a rest. Of `xla` one by one, or as
    many as `in_cache` holds, where rows are so small that one alone is no work.
    """
    room = in_cache if impl == XLA else AT_ONCE
    if room is None:
        return None
    least, most = (max(1, math.ceil(numbers / size)) for size in (1.25 * room, room))
    parts = next((n for n in range(least, most + 1) if rows % n == 0), most)
    some = -(-rows // parts)
    return None if impl == XLA and some == 1 else some
