"""What a compiled program does, read from its text: products, and what it sends.

XLA's own cost analysis counts the body of a loop once; here it counts as often as the
loop runs, where XLA knows that number. Layers, inner steps, micro-batches and chunks
are such loops.
"""

import functools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_BYTES = {"pred": 1, "s4": 1, "u4": 1, "bf16": 2}  # the others have them in their name
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.+?) ([a-z][\w\-]*)\((.*)$")
_SHAPE = re.compile(r"([a-z]+\d*\w*)\[([\d,]*)\]")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|branch_computations)=(\{[^}]*\}|%[\w.\-]+)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')

# Bytes that each of n devices sends, for operands of one byte on each, on a ring.
COLLECTIVES = {
    "all-gather": lambda n: n - 1,
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1,
}


class Instruction(NamedTuple):
    """A line of the program."""

    name: str
    type: str
    operation: str
    rest: str  # operands and attributes


class Counts(NamedTuple):
    """What one device does in one run of the program."""

    flops: float  # of matrix products
    sent: dict[str, float]  # bytes by collective
    unknown_loops: int  # whose body counts once


def counted(text: str, devices: int) -> Counts:
    """Counts in the text of a compiled program for so many devices."""
    program, entry = _parsed(text)
    flops, unknown = 0.0, 0
    # A collective that a TPU takes in several pieces is written in each of them.
    moved: dict[str, tuple[str, float]] = {}
    for times, lines in _runs(program, entry):
        types = {line.name: line.type for line in lines}
        for line in lines:
            kind = line.operation.removesuffix("-start")
            if line.operation in PRODUCTS:
                flops += times * PRODUCTS[line.operation](line, types)
            elif kind in COLLECTIVES:
                size = sum(_size(types[name]) for name in _operands(line))
                factor = COLLECTIVES[kind](_group_size(line.rest, devices))
                channel = re.search(r"channel_id=\d+", line.rest)
                key = channel[0] if channel else f"{len(moved)}"
                moved[key] = (kind, times * size * factor)
            unknown += line.operation == "while" and _trips(line, program) is None
    sent: dict[str, float] = {}
    for kind, size in moved.values():
        sent[kind] = sent.get(kind, 0.0) + size
    return Counts(flops, sent, unknown)


def _parsed(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The instructions of each computation, and the name of the entry."""
    program: dict[str, list[Instruction]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if start := _COMPUTATION.match(line):
            lines = program.setdefault(start[2], [])
            entry = start[2] if start[1] else entry
        elif found := _INSTRUCTION.match(line):
            lines.append(Instruction(*found.groups()))
    return program, entry


def _runs(
    program: dict[str, list[Instruction]], entry: str
) -> Iterator[tuple[int, list[Instruction]]]:
    """Every computation as often as it is called, with how often it runs there."""

    @functools.cache
    def works(name: str) -> bool:
        """False for the many that hold nothing to count, nor call any that does."""
        lines = program.get(name, [])
        interesting = {"while", *PRODUCTS, *COLLECTIVES}
        return any(
            line.operation.removesuffix("-start") in interesting
            or any(map(works, _called(line)))
            for line in lines
        )

    todo = [(1, entry)]
    while todo:
        times, name = todo.pop()
        lines = program.get(name, [])
        yield times, lines
        for line in lines:
            trips = _trips(line, program) if line.operation == "while" else 1
            inside = times * (1 if trips is None else trips)
            todo += [(inside, called) for called in _called(line) if works(called)]


def _trips(line: Instruction, program: dict[str, list[Instruction]]) -> int | None:
    """How often a loop runs: as noted by the compiler, or by its condition, i < n.

    A scan counts from 0 in ones.
    """
    if noted := _TRIPS.search(line.rest):
        return int(noted[1])
    condition = re.search(r"condition=%([\w.\-]+)", line.rest)
    lines = program.get(condition[1], []) if condition else []
    counts = any(x.operation == "compare" and "direction=LT" in x.rest for x in lines)
    limits = [
        int(x.rest.split(")")[0])
        for x in lines
        if x.operation == "constant" and x.type.startswith("s32[]")
    ]
    return limits[0] if counts and len(limits) == 1 else None


def _called(line: Instruction) -> list[str]:
    names = " ".join(_CALLED.findall(line.rest))
    return re.findall(r"%([\w.\-]+)", names)


def _operands(line: Instruction) -> list[str]:
    return re.findall(r"%([\w.\-]+)", line.rest.split("), ")[0])


def _size(type_: str) -> int:
    """Bytes of an array, or of all arrays of a tuple."""
    total = 0
    for kind, shape in _SHAPE.findall(type_):
        bits = re.search(r"\d+", kind)
        each = _BYTES.get(kind) or (int(bits[0]) // 8 if bits else 0)
        total += each * math.prod(_dimensions(shape))
    return total


def _dimensions(shape: str) -> list[int]:
    return [int(n) for n in shape.split(",") if n]


def _dot_flops(line: Instruction, types: dict[str, str]) -> int:
    """Twice the elements of the result times those that are summed over."""
    shape_of = lambda type_: _dimensions(_SHAPE.findall(type_)[0][1])
    left = shape_of(types[_operands(line)[0]])
    summed = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line.rest)
    axes = _dimensions(summed[1]) if summed else []
    return 2 * math.prod(shape_of(line.type)) * math.prod(left[i] for i in axes)


def _convolution_flops(line: Instruction, types: dict[str, str]) -> int:
    """Of a convolution, which is how TPUs write matrix products.

    Dimensions that look spatial are summed over where the result is 1 long; where it
    is longer they are a batch of products, or belong to one operand alone.
    """
    right = _dimensions(_SHAPE.findall(types[_operands(line)[1]])[0][1])
    out = _dimensions(_SHAPE.findall(line.type)[0][1])
    labels = re.search(r"dim_labels=\w+_(\w+)->(\w+)", line.rest)
    if labels is None:
        return 0
    summed = 1
    for size, label in zip(right, labels[1], strict=True):
        if label == "i":
            summed *= size
        elif label != "o" and out[labels[2].index(label)] == 1:
            summed *= size
    return 2 * math.prod(out) * summed


PRODUCTS = {"dot": _dot_flops, "convolution": _convolution_flops}


def _group_size(rest: str, devices: int) -> int:
    """How many devices take part in a collective together.

    >>> _group_size("replica_groups={{0,1,2,3},{4,5,6,7}}, …", 8)
    4
    >>> _group_size("replica_groups=[2,4]<=[8], …", 8)
    4
    >>> _group_size("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}, …", 8)
    4
    """
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(found[1])
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", rest):
        sizes = dict(re.findall(r"('[^']+')=(\d+)", found[1]))
        parts = re.findall(r"('[^']+')(?::\(\d+\)(\d+))?", found[2])
        return math.prod(int(part or sizes[axis]) for axis, part in parts)
    return devices
