"""Operators that write in place, and the other names of the memory that they write to.

Imports NumPy.
"""

from dataclasses import replace
from itertools import accumulate, pairwise
from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.program import Meta, Node, Program, Ref
from converters.pytorch.graph.layout import Value
from converters.pytorch.graph.registry import base_name, in_place
from converters.pytorch.graph.uses import given

if TYPE_CHECKING:
    from converters.pytorch.graph.emitter import Emitter

_VIEWS = {
    *("aten.view", "aten.reshape", "aten.flatten", "aten.unflatten", "aten.view_as"),
    *("aten.permute", "aten.transpose", "aten.t", "aten.numpy_T", "aten.mT", "aten.movedim"),
    *("aten.swapaxes", "aten.squeeze", "aten.unsqueeze", "aten.expand", "aten.expand_as"),
    *("aten.slice", "aten.select", "aten.narrow", "aten.chunk", "aten.split", "aten.unbind"),
    *("aten.split_with_sizes", "aten.tensor_split", "aten.detach", "aten.detach_", "aten.alias"),
    *("aten.contiguous", "aten.lift_fresh"),
}
# In inference they give what they are given.
_DROPOUTS = {
    *("aten.dropout", "aten.feature_dropout", "aten.alpha_dropout", "aten.feature_alpha_dropout"),
}
_VIEWS |= _DROPOUTS
_SAME = {
    *("aten.detach", "aten.alias", "aten.contiguous", "aten.detach_", "aten.lift_fresh"),
    *_DROPOUTS,
}
# Copy what does not lie in memory as they are to give it.
_MAY_COPY = {"aten.contiguous", "aten.reshape", "aten.flatten"}


class Aliases:
    """Which names stand for the same memory.

    Args:
        program: The program.
    """

    def __init__(self, program: Program) -> None:
        self._view_of: dict[str, tuple[str, Node]] = {}
        self._last_use: dict[str, int] = {}
        for position, node in enumerate(program.nodes):
            taken = given(node)
            self._last_use.update(dict.fromkeys(taken, position))
            if base_name(node.target) in _VIEWS and taken and _shares_memory(program, node):
                for name in node.outputs:
                    if name is not None:
                        self._view_of[name] = (taken[0], node)
            elif in_place(node.target) and taken and node.outputs and node.outputs[0]:
                self._view_of[node.outputs[0]] = (taken[0], node)
        for end in program.outputs:
            if isinstance(end.value, str):
                self._last_use[end.value] = len(program.nodes)

    def written(self, emitter: "Emitter", node: Node, result: Any, position: int) -> None:
        """Takes note of what an operator wrote to its first argument.

        Raises:
            ValueError: If the memory is used later through a name that this cannot be followed to.
        """
        target = next((a.name for a in node.arguments.values() if isinstance(a, Ref)), None)
        old = emitter.values.get(target) if target else None
        if target is None or not isinstance(old, Value) or not isinstance(result, Value):
            return
        if base_name(node.target) in _SAME:
            return
        if old.constant and result.constant and old.tensor.flags.writeable:
            # Views of a constant are views of the array.
            arranged = emitter.arranger.arranged(_spread(result, old), old.axes)
            old.tensor[...] = arranged.tensor
            return
        emitter.values[target] = result
        known = {target, node.outputs[0]}
        name, value = target, result
        while name in self._view_of:
            base, view = self._view_of[name]
            known.add(base)
            written = self._written_back(emitter, base, view, name, old, value)
            if written is None:
                self._refuse_later(emitter, node, {base}, position)
                break
            old = emitter.values[base]
            emitter.values[base] = value = written
            name = base
        stale = {
            other
            for other in self._view_of
            if other in emitter.values and other not in known and known & self._above(other)
        }
        self._refuse_later(emitter, node, stale, position)

    def _above(self, name: str) -> set[str]:
        found = set()
        while name in self._view_of:
            name = self._view_of[name][0]
            found.add(name)
        return found

    def _refuse_later(self, emitter: "Emitter", node: Node, names: set[str], after: int) -> None:
        used = sorted(n for n in names if n and self._last_use.get(n, -1) > after)
        if used:
            raise ValueError(
                emitter.where(node) + "it writes in place to memory that is read later under "
                f"another name; use the form that returns a new tensor. Received: {used[0]!r}"
            )

    def _written_back(
        self, emitter: "Emitter", base: str, view: Node, name: str, old: Any, new: Value
    ) -> Value | None:
        """The base of a view after the view was written to, or `None` where it cannot be told."""
        from converters.pytorch.graph.call import Call
        from converters.pytorch.graph.slicing import scattered

        whole = emitter.values.get(base)
        if not isinstance(whole, Value):
            return None
        kind = base_name(view.target)
        if kind in _SAME or in_place(view.target):
            return new
        if kind in ("aten.slice", "aten.select"):
            return scattered(Call(emitter, view), whole, new)
        if isinstance(old, Value) and whole.axes == old.axes == new.axes:
            return replace(whole, tensor=new.tensor)
        return None


def _shares_memory(program: Program, node: Node) -> bool:
    """Whether what may copy gives other sizes of the memory that it is given."""
    name = node.outputs[0]
    first = next((a.name for a in node.arguments.values() if isinstance(a, Ref)), None)
    if base_name(node.target) not in _MAY_COPY or name is None or first is None:
        return True
    before, after = program.values[first], program.values[name]
    # One whose neighbours lie so that it is laid out again, or in runs that the sizes cut across.
    if "contiguous" in node.target:
        return _steps(before) == _steps(after)
    ends = set(accumulate((n for n in after.hint if n != 1), mul))
    steps = _steps(before)
    sizes = list(accumulate((size for size, _ in steps), mul))
    breaks = (
        product
        for product, ((_, outer), (size, inner)) in zip(sizes, pairwise(steps), strict=False)
        if outer != size * inner
    )
    return ends.issuperset(breaks)


def _steps(meta: Meta) -> list[tuple[int, int]]:
    """The sizes of more than one, and their strides."""
    return [(n, s) for n, s in zip(meta.hint, meta.strides, strict=False) if n != 1]


def _spread(value: Value, like: Value) -> Value:
    """A constant with every atom of another, as NumPy can write it there."""
    tensor = np.broadcast_to(value.tensor if value.rank == 0 else _logical(value), like.shape)
    return replace(like, tensor=tensor, axes=like.dims)


def _logical(value: Value) -> np.ndarray:
    held = [a for g in value.axes for a in g]
    shape = [np.prod([a.size for a in g if a in held], dtype=int) for g in value.dims]
    order = [held.index(a) for g in value.dims for a in g if a in held]
    return value.tensor.reshape([a.size for a in held]).transpose(order).reshape(shape)
