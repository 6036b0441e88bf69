"""Ranges of their own for tensors that have those of others, which they meet.

TensorFlow's converter gives all that an operator copies the steps of its result: what meets in a
maximum, a `where` or a concatenation, and as far back as operators only move values. Whatever else
reads it finds it clipped to the result's range, or in the steps of the largest that it meets. Here
it gets its own range where something else needs it; `rewrites/copies.py` then puts a QUANTIZE
before the operator in which it meets others.

Imports the flatbuffer reader and NumPy.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from converters.tflite.copies import MEETING, copied
from converters.tflite.flatbuffer import Graph, Operator, Tensor
from converters.tflite.steps import LEAST, LIMITS, Range, Steps, steps_for, steps_of
from converters.tflite.view import View

# How many times its own steps a tensor may have: what is requantised is rounded twice, which costs
# 1 dB at two, and 6 dB are gained.
_COARSER = 2.0
# Operators whose kernels take inputs of any steps; and those that give a result of any.
_RESCALING = frozenset({
    "ABS", "ADD", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "DIV", "ELU", "EXP",
    "FULLY_CONNECTED", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "MEAN", "MUL", "PRELU",
    "QUANTIZE", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "RSQRT", "SQRT",
    "SQUARED_DIFFERENCE", "SUB", "SUM", "TRANSPOSE_CONV",
})  # fmt: skip
_COMPARING = frozenset({"EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL"})
_READING = _RESCALING | _COMPARING | {
    "ARG_MAX", "ARG_MIN", "DEQUANTIZE", "L2_NORMALIZATION", "LOGISTIC", "LOG_SOFTMAX", "SOFTMAX",
    "TANH",
}  # fmt: skip
# Operators before which a tensor may be clipped to what their result needs.
_CLIPPING = frozenset({*MEETING, "QUANTIZE"})
# Operators that copy and whose result at the end of a range is not that of clipped inputs.
_AVERAGING = frozenset({"AVERAGE_POOL_2D", "RESIZE_BILINEAR"})


@dataclass(eq=False)
class _Group:
    """A tensor and all that is moved from it, which have one range.

    Attributes:
        maker: The operator that makes the first of them; `None` for an input of the graph.
        members: They.
    """

    maker: Operator | None
    members: list[Tensor] = field(default_factory=list)


class Ties:
    """Which tensors of a graph of integers have the range of others that they meet.

    Args:
        graph: The graph.

    Attributes:
        tensors: Those whose values are to be measured, for `steps`.
    """

    def __init__(self, graph: Graph) -> None:
        self._view = View(graph)
        self._of: dict[Tensor, _Group] = {}
        for tensor in graph.inputs:
            self._add(tensor, _Group(None))
        for operator in graph.operators:
            sources = copied(operator)
            moved = sources and operator.name not in MEETING
            group = self._of.get(sources[0]) if moved else None
            for tensor in operator.outputs:
                self._add(tensor, group or _Group(operator))
        met = {
            self._of[tensor]
            for operator in graph.operators
            if operator.name in MEETING
            for tensor in (*copied(operator), *operator.outputs)
            if tensor in self._of
        }
        self._groups = [group for group in dict.fromkeys(self._of.values()) if group in met]
        self.tensors = [t for group in self._groups for t, _ in self._uses(group)]

    def _add(self, tensor: Tensor, group: _Group) -> None:
        if tensor.dtype in LIMITS and len(tensor.scales) == 1 and not tensor.variable:
            self._of[tensor] = group
            group.members.append(tensor)

    def _uses(self, group: _Group) -> Iterator[tuple[Tensor, Operator | None]]:
        """Who takes what of a group: an operator, or, as `None`, who is given it."""
        for tensor in group.members:
            if tensor in self._view.outputs:
                yield tensor, None
            for reader in self._view.readers(tensor):
                moved = tensor in copied(reader) and reader.name not in MEETING
                if not moved or reader.name in _AVERAGING:
                    yield tensor, reader

    def steps(self, found: Mapping[Tensor, Range]) -> dict[Tensor, Steps]:
        """Other steps than they have, for the tensors that need them.

        Args:
            found: The smallest and largest value of each of `tensors`, as far as known.
        """
        needed: dict[_Group, Range] = {}
        decided: dict[_Group, Steps] = {}
        for group in reversed(self._groups):  # who reads before who is read
            low, high, alone, met = 0.0, 0.0, True, []
            for tensor, reader in self._uses(group):
                least, most = found.get(tensor, (-np.inf, np.inf))
                name = "" if reader is None else reader.name
                result = self._of.get(reader.outputs[0]) if reader and reader.outputs else None
                if result in needed and name in _CLIPPING:
                    # What is beyond the result's range may be clipped before as well.
                    least, most = max(least, needed[result][0]), min(most, needed[result][1])
                    met += [decided[result]] if name in MEETING else []
                elif name not in _AVERAGING:
                    alone = False
                    if reader and name in _COMPARING:
                        least, most = _compared(reader, tensor, (least, most))
                low, high = min(low, least), max(high, most)
            needed[group] = low, high
            decided[group] = self._decided(group, (low, high), met, alone)
        return {
            tensor: steps
            for group, steps in decided.items()
            for tensor in group.members
            if not np.allclose(steps_of(tensor), steps, rtol=1e-6, atol=0)
        }

    def _decided(self, group: _Group, need: Range, met: list[Steps], alone: bool) -> Steps:
        """The steps of a group.

        Args:
            group: The group.
            need: The numbers that those who read it need.
            met: The steps of the results of the operators in which it meets others.
            alone: Whether only these read it.
        """
        first = group.members[0]
        if not np.isfinite(need).all() or not self._changeable(group):
            return steps_of(first)
        if alone and len(set(met)) == 1:
            return met[0]
        own = steps_for(first.dtype, *need)
        if own[0] < LEAST[first.dtype]:  # as good as zeros
            return steps_of(first)
        fitting = (
            steps for steps in (steps_of(first), *met) if _fit(steps, need, own, first.dtype)
        )
        return next(fitting, own)

    def _changeable(self, group: _Group) -> bool:
        """Whether no kernel before or after a group depends on its steps."""
        maker = group.maker
        met = maker is not None and maker.name in MEETING and copied(maker)
        return bool(maker is None or maker.name in _RESCALING or met) and all(
            reader is None or reader.name in _READING or tensor in copied(reader)
            for tensor, reader in self._uses(group)
        )


def _compared(operator: Operator, tensor: Tensor, ends: Range) -> Range:
    """What is needed of a tensor's range where it is compared: of numbers, two steps around."""
    for other in operator.inputs:
        values = None if other is None else other.values()
        if values is not None and values.size:
            around = 2 * tensor.scales[0]
            ends = max(ends[0], values.min() - around), min(ends[1], values.max() + around)
    return ends


def _fit(steps: Steps, need: Range, own: Steps, dtype: str) -> bool:
    """Whether steps are fine enough for a range, and hold it to one of them."""
    scale, zero = steps
    low, high = ((end - zero) * scale for end in (LIMITS[dtype].min, LIMITS[dtype].max))
    held = low - scale <= need[0] and need[1] <= high + scale
    return held and scale <= _COARSER * own[0]
