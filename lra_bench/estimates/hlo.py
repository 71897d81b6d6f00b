"""What a compiled program does, weighed by its optimized HLO: kernels launched, bytes moved, loops.

A kernel in a loop counts as often as the loop runs. A kernel moves each of its operands and its result once; of an
operand that it only slices, the slice, and of an array that it changes in place, the change. What fits in a cache
between two kernels is not known, so bytes are too many there; a fused attention reads its keys more than once, so there
they are too few. A product of cuBLAS is taken to write its scratch too, 4 MiB for a batched one. On a TPU the compiler
says which arrays it keeps on the chip: kernels that use them move no bytes, and what brings them there moves them once
and is no kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import NamedTuple

from lra_bench.estimates.hlo_arrays import arrays, far, size

# Without a kernel of their own: names for arrays that are there, and the second halves of pairs.
FREE = {
    "after-all", "all-reduce-done", "async-done", "async-update", "bitcast", "constant", "copy-done",
    "custom-call-done", "dynamic-slice-done",
    "get-tuple-element", "opt-barrier", "parameter", "partition-id", "replica-id", "slice-done", "tuple",
}  # fmt: skip
CALLS = {"call", "conditional", "async-start"}  # what they call is counted in their place
SLICES = {"slice", "dynamic-slice"}  # they read what they give
# Between memories, beside the kernels. Which of the results is new: they are (to, from, _), or ((from, ...), to, _).
CARRIED = {"copy-start": 0, "slice-start": -2, "dynamic-slice-start": -2}
_NO_KERNEL = re.compile(r'custom_call_target="(AllocateBuffer|ConcatBitcast)"')  # room for an array; pieces as one

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_LINE = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\(")
_BELOW = {"LT": -1, "GT": 0}  # where the limit of a counter stands: i < limit, limit > i
_TRIPS = re.compile(r'known_trip_count["\\:{\s]+n["\\:\s]+(\d+)')
_CALLED = re.compile(r"(?:to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


class Loop(NamedTuple):
    """A loop of the program."""

    trips: int | None  # None: the compiler does not know
    launches: int  # kernels of one pass


@dataclass(frozen=True)
class Weight:
    """What a program, or a part of it, does."""

    launches: int = 0
    bytes: int = 0
    loops: tuple[Loop, ...] = ()

    def __add__(self, other: Weight) -> Weight:
        return Weight(self.launches + other.launches, self.bytes + other.bytes, self.loops + other.loops)

    def at_most(self, other: Weight) -> Weight:
        """Of two of which one is done, the more in each thing."""
        more = max(self, other, key=lambda weight: sum((loop.trips or 1) * loop.launches for loop in weight.loops))
        return Weight(max(self.launches, other.launches), max(self.bytes, other.bytes), more.loops)

    def again(self, trips: int | None) -> Weight:
        """It in a loop; one whose trips are not known counts once."""
        n = 1 if trips is None else trips
        return Weight(n * self.launches, n * self.bytes, (Loop(trips, self.launches), *self.loops))


def weigh(text: str) -> Weight:
    """Of the text of a compiled program, `compiled.as_text()`."""
    return _Program(text).weight()


@dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    op: str
    rest: str  # from the operands on
    root: bool

    @cached_property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.rest[: _closing(self.rest)])

    @cached_property
    def attributes(self) -> str:
        return self.rest[_closing(self.rest) :]


@dataclass
class _Computation:
    instructions: dict[str, _Instruction] = field(default_factory=dict)

    @cached_property
    def parameters(self) -> list[_Instruction]:
        found = [one for one in self.instructions.values() if one.op == "parameter"]
        return sorted(found, key=lambda one: int(one.rest.partition(")")[0]))

    @property
    def root(self) -> _Instruction:
        return next(one for one in self.instructions.values() if one.root)

    def reached(self, name: str) -> Iterator[tuple[str, _Instruction]]:
        """What uses an array, and under which name: itself, or another view of all of it."""
        for one in self.instructions.values():
            if name in one.operands:
                yield from self.reached(one.name) if one.op == "bitcast" and not one.root else [(name, one)]


class _Program:
    def __init__(self, text: str) -> None:
        self.computations, self.entry = _parsed(text)

    def weight(self, name: str | None = None) -> Weight:
        computation = self.computations[name or self.entry]
        total = Weight()
        for one in computation.instructions.values():
            total += self._of(one, computation)
        return total

    def _of(self, one: _Instruction, inside: _Computation) -> Weight:
        if one.op in FREE or _NO_KERNEL.search(one.attributes):
            return Weight()
        if one.op in CARRIED:
            return Weight(0, self._carried(one, inside))
        if one.op == "while":
            body = re.search(r"body=%?([\w.\-]+)", one.attributes)
            assert body is not None, one.rest
            return self.weight(body[1]).again(self._trips(one))
        if one.op in CALLS:
            called = [name for name in self._called(one) if name in self.computations]
            return reduce(Weight.at_most, map(self.weight, called), Weight())
        return Weight(1, self._moved(one, inside))

    def _trips(self, loop: _Instruction) -> int | None:
        """As the compiler says, or its condition: an integer below a constant. It is taken to count from 0 by 1."""
        if said := _TRIPS.search(loop.attributes):
            return int(said[1])
        condition = re.search(r"condition=%?([\w.\-]+)", loop.attributes)
        if condition is None or condition[1] not in self.computations:
            return None
        its = self.computations[condition[1]]
        side = next((n for said, n in _BELOW.items() if f"direction={said}" in its.root.attributes), None)
        if its.root.op != "compare" or side is None:
            return None
        limit = its.instructions.get(its.root.operands[side])
        if limit is None or limit.op != "constant" or not limit.shape.startswith(("s32", "u32", "s64")):
            return None
        return int(limit.rest.partition(")")[0])

    def _called(self, one: _Instruction) -> Iterator[str]:
        yield from _CALLED.findall(one.attributes)
        for branches in _BRANCHES.findall(one.attributes):
            yield from re.findall(r"%?([\w.\-]+)", branches)

    def _carried(self, one: _Instruction, inside: _Computation) -> int:
        (source, *_), made = arrays(self._shapes(one, inside)[0]), arrays(one.shape)[CARRIED[one.op]]
        return made.size * (source.far + made.far)

    def _moved(self, one: _Instruction, inside: _Computation) -> int:
        shapes = self._shapes(one, inside)
        if one.op in SLICES:
            return min(far(shapes[0]), size(one.shape)) + far(one.shape)
        if one.op == "dynamic-update-slice":
            return far(shapes[1]) + min(far(one.shape), size(shapes[1]))
        called = _CALLED.search(one.attributes)
        if one.op != "fusion" or called is None or called[1] not in self.computations:
            return far(one.shape) + sum(map(far, shapes))
        return self._fused(self.computations[called[1]], far(one.shape), [far(shape) for shape in shapes])

    def _shapes(self, one: _Instruction, inside: _Computation) -> list[str]:
        return [inside.instructions[name].shape if name in inside.instructions else "" for name in one.operands]

    def _fused(self, body: _Computation, made: int, there: Sequence[int]) -> int:
        """Bytes that a fused kernel moves: `there` has those of each operand in the device's memory, `made` those of
        the result."""
        read = sum(
            self._read(body, parameter.name, whole) for parameter, whole in zip(body.parameters, there, strict=False)
        )
        root = body.root
        if root.op == "dynamic-update-slice":
            return read + min(made, size(body.instructions[root.operands[1]].shape))
        return read + made

    def _read(self, body: _Computation, name: str, whole: int) -> int:
        """Bytes that a fused kernel reads of an array of `whole` bytes: at most all of it."""
        parts = [self._used(user, by, whole) for by, user in body.reached(name)]
        return min(whole, sum(parts)) if parts else whole

    def _used(self, user: _Instruction, name: str, whole: int) -> int:
        if user.op in SLICES and user.operands[0] == name:
            return size(user.shape)
        if user.op == "dynamic-update-slice" and user.operands[0] == name:
            return 0
        called = _CALLED.search(user.attributes)
        if user.op == "fusion" and called is not None and called[1] in self.computations:
            inner = self.computations[called[1]]
            at = [place for place, operand in enumerate(user.operands) if operand == name]
            return sum(self._read(inner, inner.parameters[place].name, whole) for place in at)
        return whole


def _parsed(text: str) -> tuple[Mapping[str, _Computation], str]:
    computations: dict[str, _Computation] = {}
    entry, current = "", None
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if head := _HEAD.match(line):
            current = computations[head[2]] = _Computation()
            entry = head[2] if head[1] else entry
        elif line == "}":
            current = None
        elif current is not None and (found := _LINE.match(line)):
            current.instructions[found[2]] = _Instruction(
                found[2], found[3], found[4], line[found.end() :], bool(found[1])
            )
    return computations, entry


def _closing(text: str) -> int:
    """Where the bracket closes that was opened before the text."""
    depth = 1
    for at, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0:
            return at
    return len(text)
