"""Tensors of more than four dimensions.

Operators that go along with each other make a region, within which dimensions next to each other
can be one where no operator tells them apart. `RESHAPE` and `TRANSPOSE` are its borders: they read
memory, in whatever shape. A `TRANSPOSE` is a series of exchanges of two neighbouring groups of
dimensions, each of which is one of four dimensions at most.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from converters.tflite.flatbuffer import Operator, Tensor, schema
from converters.tflite.rewrites.edit import ELEMENTWISE, Edit
from converters.tflite.view import VIEWS

_MOST = 4
# Dimensions that are grouped, at most: no kernel computes with more.
_HIGHEST = 8
# Values that a chain of moves is looked through with, at most.
_LOOK = 1 << 24

Shape = tuple[int, ...]
# Neighbouring dimensions that become one: the bounds of each group.
Groups = tuple[tuple[int, int], ...]


def moves(edit: Edit) -> None:
    """Chains of moves that are one operator: what they do is tried out."""
    for last in edit.graph.operators:
        chain = _chain(edit, last) if last.name in VIEWS else None
        if chain is None:
            continue
        x = chain[0].inputs[0]
        assert x is not None
        numbers = np.arange(np.prod(x.shape), dtype="int32").reshape(x.shape)
        moved = numbers
        for operator in chain:
            moved = _moved(operator, moved)
        if any(write(edit, last, x, numbers, moved) for write in (_nearest, _depth_to_space)):
            edit.drop(last)


def _nearest(edit: Edit, last: Operator, x: Tensor, numbers: np.ndarray, moved: np.ndarray) -> bool:
    """Rows and columns repeated."""
    rows, columns = (n // m for n, m in zip(moved.shape[1:3], x.shape[1:3], strict=True))
    if not np.array_equal(moved, numbers.repeat(rows, axis=1).repeat(columns, axis=2)):
        return False
    y = last.outputs[0]
    size = edit.constant(np.array(y.shape[1:3], "int32"), f"{y.name};size")
    options = schema().ResizeNearestNeighborOptionsT()
    edit.put(last, "RESIZE_NEAREST_NEIGHBOR", (x, size), y, options)
    return True


def _depth_to_space(
    edit: Edit, last: Operator, x: Tensor, numbers: np.ndarray, moved: np.ndarray
) -> bool:
    """Channels spread over blocks, those of one block next to each other or far apart."""
    n, h, w, channels = x.shape
    block = moved.shape[1] // h
    depth = channels // max(block, 1) ** 2
    if block < 2 or moved.shape != (n, h * block, w * block, depth):
        return False
    near = numbers.reshape(n, h, w, block, block, depth)
    far = numbers.reshape(n, h, w, depth, block, block).transpose(0, 1, 2, 4, 5, 3)
    spread = [part.transpose(0, 1, 3, 2, 4, 5).reshape(moved.shape) for part in (near, far)]
    if not any(np.array_equal(moved, each) for each in spread):
        return False
    y = last.outputs[0]
    if not np.array_equal(moved, spread[0]):
        apart = edit.reshaped(last, x, (n, h * w, depth, block**2))
        order = edit.constant(np.array([0, 1, 3, 2], "int32"), f"{y.name};order")
        swapped = edit.like(y, (n, h * w, block**2, depth), "near")
        edit.put(last, "TRANSPOSE", (apart, order), swapped, schema().TransposeOptionsT())
        x = edit.reshaped(last, swapped, x.shape)
    options = schema().DepthToSpaceOptionsT()
    options.blockSize = block
    edit.put(last, "DEPTH_TO_SPACE", (x,), y, options)
    return True


def _chain(edit: Edit, last: Operator) -> list[Operator] | None:
    """The moves of more than four dimensions that end with an operator, from four to four."""
    chain = [last]
    while True:
        tensor = chain[0].inputs[0]
        largest = max(np.prod(t.shape) for t in _computed(chain[0]))
        if tensor is None or tensor.constant or largest > _LOOK:
            return None
        if len(chain) > 1 and len(tensor.shape) == _MOST == len(last.outputs[0].shape):
            return chain
        before = edit.view.producer.get(tensor)
        if before is None or len(tensor.shape) <= _MOST:
            return None
        if before.name not in VIEWS and _numbers(before, 1) is None:
            return None
        if before.name not in VIEWS | {"TILE", "TRANSPOSE"}:
            return None
        chain.insert(0, before)


def _moved(operator: Operator, numbers: np.ndarray) -> np.ndarray:
    told = _numbers(operator, 1) or []
    if operator.name == "TILE":
        if np.prod(numbers.shape) * np.prod(told) > _LOOK:
            raise ValueError("a result that is larger than its shape")
        return np.tile(numbers, told)
    if operator.name == "TRANSPOSE":
        return numbers.transpose(told)
    return numbers.reshape(operator.outputs[0].shape)


def lower(edit: Edit) -> None:
    """All tensors of more than four dimensions, or none: one is enough to be refused."""
    tensors = edit.graph.tensors
    high = {t.index for t in tensors if len(t.shape) > _MOST and not t.constant}
    touching = [o for o in edit.graph.operators if any(t.index in high for t in _computed(o))]
    ends = {t.index for t in (*edit.graph.inputs, *edit.view.outputs)}
    if not touching or high & ends:
        return
    new: dict[int, Tensor] = {}
    regions = _regions(touching, high)
    grouped = [_groups(region) for region in regions]
    if not all(map(_lowered_by_itself, touching)) or None in grouped:
        return
    emitted: dict[int, Groups] = {}
    for region, groups in zip(regions, grouped, strict=True):
        assert groups is not None
        emitted |= {operator.index: groups for operator in region.operators}
        for index in region.tensors:
            shape = _merged(tensors[index].shape, groups)
            new[index] = edit.like(tensors[index], shape, "merged")
    for operator in touching:
        if operator.name == "TRANSPOSE":
            _transposed(edit, operator, new)
        elif operator.name in VIEWS:
            x, y = operator.inputs[0], operator.outputs[0]
            assert x is not None
            edit.reshape(operator, new.get(x.index, x), new.get(y.index, y))
        else:
            _KINDS[operator.name].emit(_Merged(edit, operator, emitted[operator.index], new))
        edit.drop(operator)


def _computed(operator: Operator) -> list[Tensor]:
    return [t for t in (*operator.inputs, *operator.outputs) if t is not None]


def _rank(operator: Operator) -> int:
    """The most dimensions that an operator computes in."""
    return max(len(t.shape) for t in _computed(operator))


def _lowered_by_itself(operator: Operator) -> bool:
    """Whether a border is one that can be written otherwise, or it is no border."""
    return operator.name != "TRANSPOSE" or _numbers(operator, 1) is not None


@dataclass
class _Region:
    """Tensors of as many dimensions, and the operators between them."""

    tensors: set[int]
    operators: list[Operator]
    rank: int


def _regions(touching: Sequence[Operator], high: set[int]) -> list[_Region]:
    """What has to be grouped alike. Tensors between borders are regions without an operator."""
    of: dict[int, _Region] = {}
    for operator in touching:
        border = operator.name in VIEWS | {"TRANSPOSE"}
        rank = _rank(operator)
        inside = [t for t in _computed(operator) if t.index in high]
        for tensor in inside:
            of.setdefault(tensor.index, _Region({tensor.index}, [], len(tensor.shape)))
        if border:
            continue
        first, *others = (of[t.index] for t in inside if len(t.shape) == rank)
        first.operators.append(operator)
        for other in others:
            if other is not first:
                first.tensors |= other.tensors
                first.operators += other.operators
                of |= dict.fromkeys(other.tensors, first)
    return list({id(region): region for region in of.values()}.values())


def _groups(region: _Region) -> Groups | None:
    """The grouping that every operator of a region takes, and that changes least."""
    if region.rank > _HIGHEST or any(o.name not in _KINDS for o in region.operators):
        return None
    sizes = np.ones(region.rank, int)
    for operator in region.operators:
        for tensor in _computed(operator):
            if len(tensor.shape) == region.rank:
                sizes = np.maximum(sizes, tensor.shape)

    def changes(groups: Groups) -> tuple[int, int]:
        real = [int((sizes[a:b] > 1).sum()) for a, b in groups]
        return max(real[0] - 1, 0), sum(max(n - 1, 0) for n in real)

    cuts = combinations(range(1, region.rank), _MOST - 1)
    choices = [tuple(zip((0, *cut), (*cut, region.rank), strict=True)) for cut in cuts]
    return next(
        (
            groups
            for groups in sorted(choices, key=changes)
            if all(_KINDS[o.name].takes(o, groups) for o in region.operators)
        ),
        None,
    )


def _merged(shape: Shape, groups: Groups) -> Shape:
    """A shape whose groups of dimensions are one each."""
    shape = (1,) * (groups[-1][1] - len(shape)) + tuple(shape)
    return tuple(int(np.prod(shape[a:b])) for a, b in groups)


def _numbers(operator: Operator, position: int) -> list[int] | None:
    """A constant of integers that an operator is told."""
    tensor = operator.inputs[position] if position < len(operator.inputs) else None
    values = None if tensor is None else tensor.values()
    return None if values is None else [int(v) for v in np.ravel(values)]


def _group_of(axis: int, groups: Groups) -> int:
    return next(number for number, (_, end) in enumerate(groups) if axis < end)


@dataclass
class _Merged:
    """An operator to be written with grouped dimensions."""

    edit: Edit
    operator: Operator
    groups: Groups
    new: dict[int, Tensor]

    def read(self, tensor: Tensor) -> Tensor:
        """An operand in the merged shape."""
        shape = _merged(tensor.shape, self.groups)
        known = self.new.get(tensor.index, tensor)
        if (1,) * (len(shape) - len(known.shape)) + known.shape == shape:
            return known
        return self.edit.reshaped(self.operator, known, shape)

    def constant(self, numbers: Sequence[int], part: str) -> Tensor:
        """A constant of integers."""
        name = f"{self.operator.outputs[0].name};{part}"
        return self.edit.constant(np.array(numbers, "int32"), name)

    def result(self, tensor: Tensor, shape: Shape) -> Tensor:
        """What is to be written to, for an output: itself if it has the shape."""
        known = self.new.get(tensor.index, tensor)
        return known if known.shape == shape else self.edit.like(tensor, shape, "merged")

    def written(self, tensor: Tensor, result: Tensor) -> None:
        """Gives an output the shape that it has, where it was written in another."""
        known = self.new.get(tensor.index, tensor)
        if known is not result:
            self.edit.reshape(self.operator, result, known)


def _repeats_whole(operator: Operator, groups: Groups, rank: int) -> bool:
    """Whether no operand is repeated along a part of a group only."""
    shapes = [(1,) * (rank - len(t.shape)) + t.shape for t in _computed(operator)]
    whole = np.max(shapes, axis=0)
    return all(
        len({shape[i] == whole[i] for i in range(start, end) if whole[i] != 1}) < 2
        for start, end in groups
        for shape in shapes
    )


def _alike(operator: Operator, groups: Groups) -> bool:
    per_axis = any(len(t.scales) > 1 for t in _computed(operator))
    return not per_axis and _repeats_whole(operator, groups, groups[-1][1])


def _elementwise(merged: _Merged) -> None:
    operator = merged.operator
    output = operator.outputs[0]
    inputs = [None if t is None else merged.read(t) for t in operator.inputs]
    merged.edit.again(operator, inputs, merged.new[output.index])


def _reduced(operator: Operator, groups: Groups) -> list[int] | None:
    """The groups that are reduced; `None` where one is in part."""
    axes, x = _numbers(operator, 1), operator.inputs[0]
    if axes is None or x is None:
        return None
    axes = [a % len(x.shape) for a in axes]
    found = []
    for number, (start, end) in enumerate(groups):
        inside = [i for i in range(start, end) if x.shape[i] != 1] or [start]
        if len({i in axes for i in inside}) > 1:
            return None
        if inside[0] in axes:
            found.append(number)
    return found


def _reduce(merged: _Merged) -> None:
    operator, output = merged.operator, merged.operator.outputs[0]
    axes = _reduced(operator, merged.groups)
    x = operator.inputs[0]
    assert axes is not None and x is not None
    given = merged.read(x)
    keep = operator.options.keepDims
    left = [1 if i in axes else n for i, n in enumerate(given.shape)]
    shape = tuple(left if keep else [n for i, n in enumerate(left) if i not in axes])
    result = merged.result(output, shape)
    merged.edit.again(operator, (given, merged.constant(axes, "axes")), result)
    merged.written(output, result)


def _begins(axis: int, groups: Groups, shapes: Sequence[Shape]) -> bool:
    """Whether nothing but ones comes before a dimension in its group."""
    start, _ = groups[_group_of(axis, groups)]
    return all(n == 1 for shape in shapes for n in shape[start:axis])


def _joins(operator: Operator, groups: Groups) -> bool:
    shapes = [t.shape for t in _computed(operator)]
    rank = groups[-1][1]
    return all(len(s) == rank for s in shapes) and _begins(
        operator.options.axis % rank, groups, shapes
    )


def _join(merged: _Merged) -> None:
    operator, output = merged.operator, merged.operator.outputs[0]
    axis = _group_of(operator.options.axis % len(output.shape), merged.groups)
    inputs = [merged.read(t) for t in operator.inputs if t is not None]
    merged.edit.again(operator, inputs, merged.new[output.index], axis=axis)


def _tiles(operator: Operator, groups: Groups) -> bool:
    times, x = _numbers(operator, 1), operator.inputs[0]
    if times is None or x is None:
        return False
    repeated = [i for i, n in enumerate(times) if n > 1]
    one_each = len({_group_of(i, groups) for i in repeated}) == len(repeated)
    return one_each and all(_begins(i, groups, [x.shape]) for i in repeated)


def _tile(merged: _Merged) -> None:
    operator, output = merged.operator, merged.operator.outputs[0]
    times, x = _numbers(operator, 1), operator.inputs[0]
    assert times is not None and x is not None
    multiples = merged.constant(_merged(tuple(times), merged.groups), "times")
    merged.edit.again(operator, (merged.read(x), multiples), merged.new[output.index])


def _bounds(operator: Operator) -> list[tuple[int, int]] | None:
    """Where a slice begins along each dimension, and how much it takes; steps of one only."""
    x = operator.inputs[0]
    told = [_numbers(operator, i) for i in range(1, len(operator.inputs))]
    if x is None or None in told:
        return None
    sizes = x.shape
    if operator.name == "SLICE":
        return [
            (b, n if n >= 0 else size - b)
            for b, n, size in zip(told[0] or (), told[1] or (), sizes, strict=True)
        ]
    options, (begin, end, steps) = operator.options, told
    if options.ellipsisMask or options.newAxisMask or getattr(options, "offset", False):
        return None
    if begin is None or end is None or set(steps or ()) != {1} or len(begin) != len(sizes):
        return None
    found = []
    for i, size in enumerate(sizes):
        first = 0 if options.beginMask >> i & 1 else begin[i]
        last = size if options.endMask >> i & 1 else end[i]
        first, last = (n + size if n < 0 else min(n, size) for n in (first, last))
        found.append((first, 1 if options.shrinkAxisMask >> i & 1 else last - first))
    return found


def _slices(operator: Operator, groups: Groups) -> bool:
    bounds, x = _bounds(operator), operator.inputs[0]
    if bounds is None or x is None:
        return False
    cut = [i for i, (bound, n) in enumerate(zip(bounds, x.shape, strict=True)) if bound != (0, n)]
    one_each = len({_group_of(i, groups) for i in cut}) == len(cut)
    return one_each and all(_begins(i, groups, [x.shape]) for i in cut)


def _slice(merged: _Merged) -> None:
    operator, output = merged.operator, merged.operator.outputs[0]
    bounds, x = _bounds(operator), operator.inputs[0]
    assert bounds is not None and x is not None
    begin, size = [], []
    for start, end in merged.groups:
        sizes = x.shape[start:end]
        after = [int(np.prod(sizes[i + 1 :])) for i in range(len(sizes))]
        begin.append(sum(b * n for (b, _), n in zip(bounds[start:end], after, strict=True)))
        size.append(int(np.prod([n for _, n in bounds[start:end]])))
    result = merged.result(output, tuple(size))
    inputs = (merged.read(x), merged.constant(begin, "begin"), merged.constant(size, "size"))
    merged.edit.put(operator, "SLICE", inputs, result, schema().SliceOptionsT())
    merged.written(output, result)


def _normalizes(operator: Operator, groups: Groups) -> bool:
    x = operator.inputs[0]
    return x is not None and _begins(len(x.shape) - 1, groups, [x.shape])


def _multiplies(operator: Operator, groups: Groups) -> bool:
    rank = groups[-1][1]
    matrices = groups[-2:] == ((rank - 2, rank - 1), (rank - 1, rank))
    return matrices and _repeats_whole(operator, groups[:-2], rank)


@dataclass(frozen=True)
class _Kind:
    """What an operator takes for groups, and how it is written with them."""

    takes: Callable[[Operator, Groups], bool]
    emit: Callable[[_Merged], None]


_KINDS: dict[str, _Kind] = {
    **dict.fromkeys(
        ELEMENTWISE,
        _Kind(_alike, _elementwise),
    ),
    **dict.fromkeys(
        ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"),
        _Kind(lambda operator, groups: _reduced(operator, groups) is not None, _reduce),
    ),
    **dict.fromkeys(("SLICE", "STRIDED_SLICE"), _Kind(_slices, _slice)),
    **dict.fromkeys(("SOFTMAX", "LOG_SOFTMAX"), _Kind(_normalizes, _elementwise)),
    "CONCATENATION": _Kind(_joins, _join),
    "TILE": _Kind(_tiles, _tile),
    "BATCH_MATMUL": _Kind(_multiplies, _elementwise),
}


def _transposed(edit: Edit, operator: Operator, new: dict[int, Tensor]) -> None:
    """A `TRANSPOSE` of any dimensions by those of four at most."""
    x, y = operator.inputs[0], operator.outputs[0]
    order = _numbers(operator, 1)
    assert x is not None and order is not None
    real = [i for i, n in enumerate(x.shape) if n != 1]
    # Dimensions that stay next to each other are one.
    goal: list[list[int]] = []
    for axis in (i for i in order if x.shape[i] != 1):
        if goal and real.index(axis) == real.index(goal[-1][-1]) + 1:
            goal[-1].append(axis)
        else:
            goal.append([axis])
    blocks, size = sorted(goal), lambda block: int(np.prod([x.shape[i] for i in block]))
    tensor = new.get(x.index, x)
    for number, (shape, permutation) in enumerate(_exchanges(blocks, goal, size)):
        tensor = edit.reshaped(operator, tensor, shape)
        moved = edit.like(y, [shape[i] for i in permutation], f"step{number}")
        constant = edit.constant(np.array(permutation, "int32"), f"{moved.name};order")
        options = schema().TransposeOptionsT()
        tensor = edit.put(operator, "TRANSPOSE", (tensor, constant), moved, options)
    edit.reshape(operator, tensor, new.get(y.index, y))


def _exchanges(
    blocks: list[list[int]], goal: list[list[int]], size: Callable[[Any], int]
) -> Iterator[tuple[list[int], tuple[int, ...]]]:
    """Shapes of four dimensions and their permutations, one after the other."""
    if len(blocks) <= _MOST:
        if blocks != goal:
            lead = _MOST - len(blocks)
            shape = [1] * lead + [size(block) for block in blocks]
            yield shape, (*range(lead), *(lead + blocks.index(block) for block in goal))
        return
    while blocks != goal:
        at = next(i for i, block in enumerate(goal) if blocks[i] != block)
        start = end = blocks.index(goal[at])
        while end < len(blocks) and blocks[end] == goal[at + end - start]:
            end += 1
        parts = [blocks[:at], blocks[at:start], blocks[start:end], blocks[end:]]
        sizes = [int(np.prod([size(block) for block in part])) for part in parts]
        if parts[3]:
            yield sizes, (0, 2, 1, 3)
        else:
            yield [1, *sizes[:3]], (0, 1, 3, 2)
        blocks = [*parts[0], *parts[2], *parts[1], *parts[3]]
