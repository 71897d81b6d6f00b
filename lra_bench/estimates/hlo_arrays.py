"""The arrays of a compiled program's text: how large they are, and whether they lie in the device's memory.

A TPU's text names an array as `bf16[32,64,96]{1,2,0:T(8,128)(2,1)S(1)}`: its sizes, its axes from the innermost to the
outermost, the tiles that its innermost axes are padded to, and the memory it lies in, if that is not the device's own.
"""

from __future__ import annotations

import re
from typing import NamedTuple

DEVICE = ("", "0")  # the memory that has the device's bandwidth; others are on the chip, or the host's

_ARRAY = re.compile(r"\b([a-z]+[a-z0-9]*)\[([\d,]*)\](?:\{([^}]*)\})?")
_TILE = re.compile(r"T\(([\d,]+)\)")
_MEMORY = re.compile(r"S\((\d+)\)")


class Array(NamedTuple):
    """One of them."""

    size: int  # bytes, with the padding of its tiles
    far: bool  # in the device's memory


def arrays(shape: str) -> list[Array]:
    """Those of a shape, a tuple's in their order."""
    return [
        Array(-(-_elements(_numbers(sizes), layout) * _bits(kind) // 8), _memory(layout) in DEVICE)
        for kind, sizes, layout in _ARRAY.findall(shape)
    ]


def size(shape: str) -> int:
    """Bytes of a shape's arrays, wherever they lie."""
    return sum(one.size for one in arrays(shape))


def far(shape: str) -> int:
    """Bytes of those in the device's memory."""
    return sum(one.size for one in arrays(shape) if one.far)


def _elements(sizes: list[int], layout: str) -> int:
    """How many elements so many take in tiles."""
    order = _numbers(layout.partition(":")[0]) or list(reversed(range(len(sizes))))
    tile = _TILE.search(layout)
    padded = list(sizes)
    for axis, to in zip(order, reversed(_numbers(tile[1]) if tile else []), strict=False):
        padded[axis] = -(-sizes[axis] // to) * to
    count = 1
    for one in padded:
        count *= one
    return count


def _memory(layout: str) -> str:
    said = _MEMORY.search(layout)
    return said[1] if said else ""


def _numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(",") if one]


def _bits(kind: str) -> int:
    if kind == "pred":
        return 8
    said = re.match(r"[a-z]+(\d+)", kind)
    return int(said[1]) if said else 0
