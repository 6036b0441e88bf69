"""Where the dimensions of a value are: views change this and move no data.

A tensor's physical axes and the dimensions that PyTorch speaks of are both lists of atoms, the
parts that no reshape has split yet. A map is held channels last:

    axes  (n)(h)(w)(c)        what the Keras tensor has
    dims  (n)(c)(h)(w)        what PyTorch sees

`permute` reorders the dims, `reshape` regroups their atoms, splitting some, `unsqueeze` adds a
dimension of no atoms, `expand` one whose atom is in no axis: all without an operation. Only when
an operator needs axes of its own are they arranged (`arrange.py`).

Imports NumPy.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Atom:
    """A part of a dimension.

    Attributes:
        size: Its size with the example inputs.
        free: Whether the size is open: the batch, a dynamic height.
    """

    size: int
    free: bool = False


Group = tuple[Atom, ...]
Groups = tuple[Group, ...]


class BatchError(ValueError):
    """A program that holds on to the batch of its example, so that it cannot be freed."""


def extent(group: Iterable[Atom]) -> int:
    """The size of a dimension with the example inputs."""
    return math.prod(atom.size for atom in group)


def is_free(group: Iterable[Atom]) -> bool:
    """Whether the size of a dimension is open."""
    return any(atom.free for atom in group)


def flat(groups: Iterable[Group]) -> list[Atom]:
    """The atoms, outer to inner."""
    return [atom for group in groups for atom in group]


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the program in Keras.

    Attributes:
        tensor: A Keras tensor, or an array where it is the same for every input.
        axes: The atoms of each axis of `tensor`.
        dims: The atoms of each dimension as PyTorch sees it; those in no axis are broadcast.
        keys: The keys of the weights that an array was computed from.
        nonnegative: Whether it is known to hold nothing below 0.
        dtype: NumPy's name.
    """

    tensor: Any
    axes: Groups
    dims: Groups
    keys: tuple[str, ...] = ()
    nonnegative: bool = False
    dtype: str = "float32"

    @property
    def constant(self) -> bool:
        """Whether it is the same for every input."""
        return isinstance(self.tensor, np.ndarray)

    @property
    def rank(self) -> int:
        """The number of dimensions that PyTorch sees."""
        return len(self.dims)

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes that PyTorch sees, with the example inputs."""
        return tuple(extent(group) for group in self.dims)

    def with_tensor(self, tensor: Any, **changes: Any) -> "Value":
        """The value with another tensor of the same axes."""
        # NumPy's arithmetic makes a scalar of an array of no dimension.
        tensor = np.asarray(tensor) if isinstance(tensor, np.generic) else tensor
        return replace(self, **{"tensor": tensor, "nonnegative": False, **changes})

    def dim(self, number: int) -> int:
        """The number of a dimension, from 0, of one that may count from the end."""
        return number % max(self.rank, 1)


def constant(array: np.ndarray, keys: tuple[str, ...] = ()) -> Value:
    """An array as a value."""
    array = np.asarray(array)
    groups = tuple((Atom(size),) if size != 1 else () for size in array.shape)
    return Value(array, groups, groups, keys, dtype=array.dtype.name)


def per_sample(value: Value) -> bool:
    """Whether it is seen repeated as often as there are samples."""
    held = set(flat(value.axes))
    return any(atom.free and atom not in held for atom in flat(value.dims))


def permuted(value: Value, order: Sequence[int]) -> Value:
    """`permute`."""
    return replace(value, dims=tuple(value.dims[value.dim(d)] for d in order))


def with_atom_split(value: Value, atom: Atom, parts: Group) -> Value:
    """The value with an atom seen as several."""

    def split(groups: Groups) -> Groups:
        return tuple(
            tuple(part for a in group for part in (parts if a is atom else (a,)))
            for group in groups
        )

    return replace(value, axes=split(value.axes), dims=split(value.dims))


def renewed(value: Value) -> Value:
    """The value with atoms of its own."""
    new = {a: Atom(a.size, a.free) for a in (*flat(value.axes), *flat(value.dims))}

    def of(groups: Groups) -> Groups:
        return tuple(tuple(new[a] for a in group) for group in groups)

    return replace(value, axes=of(value.axes), dims=of(value.dims))


def reshaped(
    value: Value, sizes: Sequence[int], free: Sequence[bool | None], batch: int
) -> Value | None:
    """`reshape`, where atoms can be split and grouped to give the sizes.

    Args:
        value: The value.
        sizes: The new sizes with the example inputs.
        free: Which of them are open; `None` for one that may hold the batch of the example, as a
            program exported without a dynamic batch does not tell.
        batch: The size of the batch in the example.

    Returns:
        The value, or `None` if its atoms do not divide so.

    Raises:
        BatchError: If it is not clear which of the sizes holds the batch.
    """
    # Leading dimensions of the same sizes stay what they are; a batch of 1 behind may be apart.
    kept = 0
    for size, known, whole in zip(sizes, free, value.dims, strict=False):
        alike = whole and size == extent(whole) and all(a.size > 1 for a in whole[1:])
        if not alike or known not in (None, is_free(whole)):
            break
        kept += 1
    left = flat(value.dims[kept:])
    # A batch in one dimension with what comes after is counted with that.
    joined = {atom for whole in value.dims for atom in whole[:-1]}
    dims: list[Group] = list(value.dims[:kept])
    for number, size in enumerate(sizes[kept:], kept):
        group: list[Atom] = []
        # A batch of 1 goes to the first dimension of 1 that is reached, if there is one.
        if size == 1 and left and left[0].size == 1 and free[number] is not False:
            group.append(left.pop(0))
        while size > 1:
            if not left:
                return None
            atom = left.pop(0)
            if atom.size == 1 and not group and number and left:
                # (L, N, C) as (L, N * heads, d) counts heads after samples; as (L * N, C) it gives
                # rows, whose features are not those of several samples. Else both may be meant.
                heads = left[0].size % size == 0 and left[0].size > size
                rows = number == len(sizes) - 1
                if not heads and not rows and atom not in joined:
                    last, this = sizes[number - 1], sizes[number]
                    raise BatchError(f"either its size {last} or its size {this} has the batch")
                if rows and not heads:
                    dims[-1] += (atom,)
                    continue
            if size % atom.size:
                if atom.size % size:
                    return None
                known = free[number]
                open_ = atom.free and (size % batch == 0 if known is None else known)
                parts = (Atom(size, open_), Atom(atom.size // size, atom.free and not open_))
                value = with_atom_split(value, atom, parts)
                left.insert(0, parts[1])
                atom = parts[0]
            group.append(atom)
            size //= atom.size
        dims.append(tuple(group))
    if extent(left) > 1:
        return None
    if left:
        dims[-1:] = [(*(dims[-1] if dims else ()), *left)]
    return replace(value, dims=tuple(dims))


def expanded(value: Value, sizes: Sequence[int], free: Sequence[bool]) -> Value:
    """`expand`: dimensions of one are repeated without an operation."""
    if len(sizes) < value.rank:
        raise BatchError("the batch is squeezed out before it")
    dims = ((),) * (len(sizes) - value.rank) + value.dims
    return replace(
        value,
        dims=tuple(
            group if group or (size == 1 and not open_) else (Atom(size, open_),)
            for group, size, open_ in zip(dims, sizes, free, strict=True)
        ),
    )


def repeated(value: Value, dim: int, times: int) -> Value:
    """`repeat_interleave`: every position of a dimension is seen several times."""
    dim, more = value.dim(dim), (Atom(times),) if times != 1 else ()
    return replace(value, dims=(*value.dims[:dim], value.dims[dim] + more, *value.dims[dim + 1 :]))


def unsqueezed(value: Value, dim: int) -> Value:
    """`unsqueeze`."""
    dim %= value.rank + 1
    return replace(value, dims=(*value.dims[:dim], (), *value.dims[dim:]))


def squeezed(value: Value, dims: Iterable[int] | None = None) -> Value:
    """`squeeze`: of all dimensions of one, or of those given."""
    chosen = range(value.rank) if dims is None else {value.dim(d) for d in dims}
    return replace(
        value,
        dims=tuple(g for d, g in enumerate(value.dims) if g or d not in chosen),
    )


def with_axis(
    value: Value, dim: int, axis: int, tensor: Any, size: int, free: bool = False
) -> Value:
    """The value after an operation that gave a dimension, which has an axis, another size."""
    new = (Atom(size, free),) if size != 1 or free else ()
    return replace(
        value,
        tensor=tensor,
        axes=(*value.axes[:axis], new, *value.axes[axis + 1 :]),
        dims=(*value.dims[:dim], new, *value.dims[dim + 1 :]),
        nonnegative=False,
    )
