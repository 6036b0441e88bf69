"""Values brought into the axes that an operator needs, with the fewest operations.

Imports NumPy, and Keras inside functions.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from converters.pytorch.graph.layout import (
    Atom,
    BatchError,
    Group,
    Groups,
    Value,
    extent,
    flat,
    is_free,
    renewed,
    with_atom_split,
)

# Kernels of more dimensions are missing on GPU delegates.
MOST_AXES = 4
CHANNELS_LAST = {2: (0, 1), 3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}


class Arranger:
    """Emits the reshapes and transposes; each is made once.

    Args:
        reshape: Emits a reshape: tensor, shape with -1 for an open size, whether the first axis
            stays as it is.
        transpose: Emits a transpose.
        tile: Emits a repetition: tensor, how often along each axis.
        samples: Emits a repetition for every sample of the batch: tensor, axis.
        take: Emits a choice of positions: tensor, positions, axis.
        fixed: Says whether no input changes a tensor of the model.
        batch: The batch of the example, and whether sizes in the program have it in them.
    """

    def __init__(
        self,
        reshape: Callable[[Any, tuple[int, ...], bool], Any],
        transpose: Callable[[Any, tuple[int, ...]], Any],
        tile: Callable[[Any, tuple[int, ...]], Any],
        samples: Callable[[Any, int], Any],
        take: Callable[[Any, np.ndarray, int], Any],
        fixed: Callable[[Any], bool],
        batch: tuple[int, bool],
    ) -> None:
        self.batch, self.batch_in_sizes = batch
        self._emit_reshape = reshape
        self._emit_transpose = transpose
        self._emit_tile = tile
        self._emit_samples = samples
        self._emit_take = take
        self._fixed = fixed
        self._counting: dict[int, tuple[Any, int]] = {}
        # The tensor is kept with the result, so that its id stays its own.
        self._made: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    # What operators ask for

    def fixed(self, value: Value) -> bool:
        """Whether a value is the same for every input: a constant, or computed of weights."""
        return value.constant or self._fixed(value.tensor)

    def counts(self, tensor: Any, step: int = 1) -> bool:
        """Whether a tensor says of each sample which it is, in steps of so many."""
        return self._counting.get(id(tensor), (None, 0))[1] == step

    def counting(self, tensor: Any, step: int) -> None:
        """Takes note of a tensor that says of each sample which it is."""
        self._counting[id(tensor)] = tensor, step

    def own_to_a_sample(self, group: Group) -> None:
        """Raises where a dimension that is computed across holds samples, where 1 was exported.

        A program whose sizes have the batch in them was read wrongly then.
        """
        if self.batch_in_sizes and any(a.free and a.size == self.batch for a in group):
            raise BatchError("it computes across the samples of the batch")

    def ordered(self, value: Value, order: Sequence[int] | None = None) -> Value:
        """Each dimension in an axis of its own, in this order; in PyTorch's by default."""
        order = range(value.rank) if order is None else order
        return self.arranged(value, tuple(value.dims[d] for d in order))

    def array(self, value: Value) -> np.ndarray:
        """A constant in PyTorch's order."""
        return self.ordered(value).tensor

    def isolated(self, value: Value, dim: int) -> tuple[Value, int]:
        """A dimension in an axis of its own, and the number of that axis."""
        dim = value.dim(dim)
        group = value.dims[dim]
        if group and group in value.axes:
            return value, value.axes.index(group)
        atoms = flat(value.axes)
        if group and (start := _run_start(atoms, group)) is not None:
            axes = _cut(value.axes, atoms[start], atoms[start + len(group) - 1])
            where = axes.index(group)
            while too_many(axes) and len(axes) > len(value.axes):
                # Merge what is furthest away from the front, where the batch is.
                at = len(axes) - 2 if where < len(axes) - 2 else where - 2
                if at < 0:
                    break
                axes = (*axes[:at], axes[at] + axes[at + 1], *axes[at + 2 :])
                where = axes.index(group)
            return self.arranged(value, axes), where
        order = CHANNELS_LAST[4] if value.rank == 4 and dim == 1 else tuple(range(value.rank))
        return self.ordered(value, order), order.index(dim)

    def last(self, value: Value, dim: int) -> Value:
        """A dimension in the last axis, the other atoms in any."""
        dim = value.dim(dim)
        group = value.dims[dim]
        if value.axes and group == value.axes[-1] and group:
            return value
        if group:
            atoms = flat(value.axes)
            if atoms[len(atoms) - len(group) :] == list(group):
                axes = _cut(value.axes, group[0], group[-1])
                while not axes[-1]:
                    axes = axes[:-1]
                if len(axes) <= MOST_AXES:
                    return self.arranged(value, axes)
        order = [d for d in range(value.rank) if d != dim]
        return self.ordered(value, [*order, dim])

    def reduced_axes(self, value: Value, dims: Iterable[int]) -> tuple[Value, tuple[int, ...]]:
        """The value with axes that lie wholly in or out of some dimensions, and those within."""
        chosen = {a for d in dims for a in value.dims[value.dim(d)]}
        missing = [a for a in chosen if a not in flat(value.axes)]
        if missing:
            value = self.ordered(value)
        axes = _cut_by(value.axes, lambda atom: atom in chosen)
        value = self.arranged(value, _merged(axes, lambda group: group[0] in chosen))
        within = tuple(n for n, g in enumerate(value.axes) if g and g[0] in chosen)
        return value, within

    def filled(self, value: Value, dim: int) -> Value:
        """The value with the atoms of a dimension in its axes, repeated if they were broadcast."""
        held = set(flat(value.axes))
        missing = tuple(a for a in value.dims[dim] if a not in held)
        return self.arranged(value, (*value.axes, *((a,) for a in missing)))

    def fused(self, value: Value, dim: int) -> Value:
        """A dimension as one atom."""
        group = value.dims[dim]
        if len(group) < 2:
            return value
        value, axis = self.isolated(value, dim)
        atom = (Atom(extent(group), is_free(group)),)
        return replace(
            value,
            axes=tuple(atom if n == axis else g for n, g in enumerate(value.axes)),
            dims=tuple(atom if d == dim else g for d, g in enumerate(value.dims)),
        )

    def together(self, values: Sequence[Value]) -> tuple[list[Any], Groups, Groups]:
        """Values as tensors that broadcast against each other, with the result's axes and dims."""
        values, dims = self.unified(values)
        axes = self._common_axes(values, dims)
        return [self._within(value, axes).tensor for value in values], axes, dims

    def unified(self, values: Sequence[Value]) -> tuple[list[Value], Groups]:
        """Values that share the atoms of the dimensions they share, and the result's dims."""
        rank = max(value.rank for value in values)
        done: list[Value] = []
        for value in values:
            # Of one tensor twice, x and its transpose, the atoms are to be told apart.
            value = renewed(value) if done else value
            value = replace(value, dims=((),) * (rank - value.rank) + value.dims)
            for dim in range(rank):
                for other in range(len(done)):
                    if done[other].dims[dim] and value.dims[dim]:
                        done, value = self._matched(done, other, value, dim)
                        break
            done.append(value)
        dims = tuple(next((v.dims[dim] for v in done if v.dims[dim]), ()) for dim in range(rank))
        return done, dims

    def arranged(self, value: Value, axes: Groups) -> Value:
        """The value with these axes; atoms that were broadcast are repeated."""
        if value.axes == axes:
            return value
        held = set(flat(value.axes))
        wanted = flat(axes)
        without = tuple(tuple(a for a in group if a in held) for group in axes)
        tensor = self._moved(value.tensor, value.axes, without)
        if len(held) < len(wanted):
            tensor = self._repeated(tensor, without, axes, held)
        return replace(value, tensor=tensor, axes=axes)

    # How

    def _repeated(self, tensor: Any, have: Groups, want: Groups, held: set[Atom]) -> Any:
        open_ = [a for a in flat(want) if a.free and a not in held]
        if len(open_) > 1 or any(a.size != self.batch for a in open_):
            raise BatchError("a constant is repeated as often as a dimension that is open")
        # Each atom that is missing has an axis of one before it is repeated.
        apart: list[Group] = []
        for group in want:
            inside = [a in held for a in group]
            whole = all(inside) or not any(inside) and not is_free(group)
            apart += [group] if whole else [(a,) for a in group]
        ones = tuple(tuple(a for a in g if a in held) for g in apart)
        times = tuple(1 if not g or g[0] in held or g[0].free else extent(g) for g in apart)
        if ones != have:
            tensor = self._reshape(tensor, have, ones)
        if set(times) != {1}:
            part, tensor = tensor, None
            tensor = self._cached("tile", part, times, lambda: self._emit_tile(part, times))
        if open_:
            axis = next(n for n, g in enumerate(apart) if g == (open_[0],))
            one, key = tensor, (axis,)
            tensor = self._cached("samples", one, key, lambda: self._emit_samples(one, axis))
        return self._reshape(tensor, tuple(apart), want) if tuple(apart) != want else tensor

    def _moved(self, tensor: Any, have: Groups, want: Groups) -> Any:
        if have == want:
            return tensor
        if len(have) == len(want) and sorted(map(_key, have)) == sorted(map(_key, want)):
            return self._transpose(tensor, _order(have, want))
        if flat(have) == flat(want):
            return self._reshape(tensor, have, want)
        alike = len(have) == len(want) and all(
            {*a} == {*b} for a, b in zip(have, want, strict=True)
        )
        if alike and sum(map(is_free, have)) > 2:
            return self._shuffled(tensor, have, want)
        pieces = _pieces(have, want)
        if len(pieces) > max(MOST_AXES, len(have)):
            pieces = _runs(flat(have), flat(want))
        order = _order(pieces, _in_order(pieces, flat(want)))
        if tuple(pieces) != have:
            tensor = self._reshape(tensor, have, tuple(pieces))
        while len(pieces) > MOST_AXES:
            tensor, pieces = self._block_swap(tensor, pieces, flat(want))
            order = _order(pieces, _in_order(pieces, flat(want)))
        if order != tuple(range(len(order))):
            tensor = self._transpose(tensor, order)
        result = tuple(pieces[n] for n in order)
        return self._reshape(tensor, result, want) if result != want else tensor

    def _shuffled(self, tensor: Any, have: Groups, want: Groups) -> Any:
        """Atoms in another order within an axis: by position, as no reshape has two open sizes."""
        for axis, (old, new) in enumerate(zip(have, want, strict=True)):
            if old != new and not is_free(old):
                at = np.arange(extent(old)).reshape([a.size for a in old])
                at = at.transpose([old.index(a) for a in new]).ravel()
                tensor = self._emit_take(tensor, at, axis)
        return tensor

    def _block_swap(
        self, tensor: Any, pieces: Sequence[Group], want: list[Atom]
    ) -> tuple[Any, list[Group]]:
        """One step of a transpose of many axes: two neighbouring blocks change places."""
        goal = _in_order(pieces, want)
        first = next(n for n, (p, g) in enumerate(zip(pieces, goal, strict=True)) if p != g)
        start = list(pieces).index(goal[first])
        stop = start + 1
        while stop < len(pieces) and goal[first + stop - start] == pieces[stop]:
            stop += 1
        blocks = [pieces[:first], pieces[first:start], pieces[start:stop], pieces[stop:]]
        groups = [tuple(flat(block)) for block in blocks]
        kept = [n for n, group in enumerate(groups) if group]
        tensor = self._reshape(tensor, tuple(pieces), tuple(groups[n] for n in kept))
        swapped = [n for n in (0, 2, 1, 3) if n in kept]
        tensor = self._transpose(tensor, tuple(kept.index(n) for n in swapped))
        atoms = [a for n in swapped for a in groups[n]]
        runs = _runs(atoms, want)
        tensor = self._reshape(tensor, tuple(groups[n] for n in swapped), tuple(runs))
        return tensor, runs

    def _reshape(self, tensor: Any, have: Groups, want: Groups) -> Any:
        if have == want:
            return tensor
        if isinstance(tensor, np.ndarray):
            return tensor.reshape([extent(group) for group in want])
        shape = tuple(-1 if is_free(group) else extent(group) for group in want)
        keeps = bool(have) and bool(want) and have[0] == want[0]
        return self._cached(
            "reshape", tensor, shape, lambda: self._emit_reshape(tensor, shape, keeps)
        )

    def _transpose(self, tensor: Any, order: tuple[int, ...]) -> Any:
        if isinstance(tensor, np.ndarray):
            return tensor.transpose(order)
        return self._cached("transpose", tensor, order, lambda: self._emit_transpose(tensor, order))

    def _cached(self, kind: str, tensor: Any, how: tuple[int, ...], make: Callable[[], Any]) -> Any:
        key = (kind, id(tensor), how)
        if key not in self._made:
            self._made[key] = (tensor, make())
        return self._made[key][1]

    def _matched(
        self, done: list[Value], other: int, value: Value, dim: int
    ) -> tuple[list[Value], Value]:
        """Values whose atoms in one dimension are the same, split as both need it."""
        if is_free(value.dims[dim]):
            done[other] = _same_along(done[other], dim)
        elif is_free(done[other].dims[dim]):
            value = _same_along(value, dim)
        mine, theirs = list(value.dims[dim]), list(done[other].dims[dim])
        if extent(mine) != extent(theirs):
            raise ValueError(
                f"dimension {dim} is {extent(theirs)} in one and {extent(mine)} in the other"
            )
        while mine and theirs:
            a, b = theirs.pop(0), mine.pop(0)
            if a is b:
                continue
            if a.size != b.size:
                big, small = (a, b) if a.size > b.size else (b, a)
                if big.size % small.size:
                    # Neither divides: each is to have an axis of one atom.
                    done = [self.fused(v, dim) if v.dims[dim] else v for v in done]
                    return self._matched(done, other, self.fused(value, dim), dim)
                held = any(big in flat(v.axes) for v in (*done, value))
                if small.size == 1 and not big.free and held:
                    raise BatchError("one of its operands has the batch in a dimension, one not")
                open_ = big.free and small.free
                parts = (Atom(small.size, open_ or big.free), Atom(big.size // small.size))
                if big.free and not small.free:
                    parts = (Atom(small.size), Atom(big.size // small.size, True))
                done = [with_atom_split(v, big, parts) for v in done]
                value = with_atom_split(value, big, parts)
                if big is a:
                    a, theirs = parts[0], [parts[1], *theirs]
                else:
                    b, mine = parts[0], [parts[1], *mine]
            keep = a if a.free or not b.free else b
            done = [_with_atom(v, a, keep) for v in done]
            value = _with_atom(value, b, keep)
        for rest in (*mine, *theirs):
            if rest.free:
                raise BatchError("one of its operands has the batch in a dimension, one not")
        return done, value

    def _common_axes(self, values: Sequence[Value], dims: Groups) -> Groups:
        atoms = flat(dims)
        moving = [v for v in values if not self.fixed(v)] or list(values)
        lead = max(moving, key=lambda v: extent(flat(v.axes)))
        held = set(flat(lead.axes))
        if all(a in held for a in atoms if any(a in flat(v.axes) for v in values)):
            axes = lead.axes
        else:
            present = {a for v in values for a in flat(v.axes)}
            groups = tuple(tuple(a for a in group if a in present) for group in dims)
            order = tuple(range(len(groups)))
            if len(groups) == 4 and any(_channels_last(v) for v in moving):
                order = CHANNELS_LAST[4]
            axes = tuple(groups[n] for n in order)
        members = [set(flat(v.axes)) for v in moving]
        # A constant is repeated within an axis, but not for every sample.
        members += [
            own
            for v in values
            if self.fixed(v)
            for own in [set(flat(v.axes))]
            if any(
                any(a in own for a in g) and any(a.free and a not in own for a in g) for g in axes
            )
        ]
        cut = _cut_by(axes, lambda atom: tuple(atom in held for held in members))
        return _merged(cut, lambda group: tuple(group[0] in held for held in members))

    def _within(self, value: Value, axes: Groups) -> Value:
        """A value in the axes of another, where it has part of them."""
        held = set(flat(value.axes))
        if self.fixed(value):
            # An axis that a constant has in part is repeated, as its own is not to be cut.
            part = tuple(g if any(a in held for a in g) else () for g in axes)
            if _inner(part) == _inner(value.axes) and not value.constant:
                return value
            value = self.arranged(value, part)
            while value.constant and value.axes and not value.axes[0]:
                value = replace(value, tensor=value.tensor[0], axes=value.axes[1:])
            return value
        return self.arranged(value, tuple(tuple(a for a in g if a in held) for g in axes))


def _with_atom(value: Value, old: Atom, new: Atom) -> Value:
    """The value with an atom taken for another of its size."""
    if old is new:
        return value
    if new.free and not old.free and old in flat(value.axes):
        value = _without_repetition(value, old)
        groups = tuple(tuple(new if a is old else a for a in g) for g in value.dims)
        return replace(value, dims=groups)
    return with_atom_split(value, old, (new,))


def _same_along(value: Value, dim: int) -> Value:
    """A constant that is the same all along a dimension, without that."""
    group = value.dims[dim]
    if not value.constant or is_free(group) or group not in value.axes:
        return value
    axis = value.axes.index(group)
    first = value.tensor.take([0], axis)
    if not (value.tensor == first).all():
        return value
    axes = tuple(() if n == axis else g for n, g in enumerate(value.axes))
    return replace(value, tensor=first, axes=axes)


def _without_repetition(value: Value, atom: Atom) -> Value:
    """A constant that is the same for every sample of the example, for one sample."""
    axis = next(n for n, group in enumerate(value.axes) if atom in group)
    if value.constant and value.axes[axis] == (atom,):
        first = value.tensor.take([0], axis)
        if (value.tensor == first).all():
            axes = tuple(() if n == axis else g for n, g in enumerate(value.axes))
            return replace(value, tensor=first, axes=axes)
    raise BatchError(
        f"it holds a value for each of the {atom.size} samples or positions of the example"
    )


def _inner(axes: Groups) -> Groups:
    """The axes without those of one in front."""
    first = next((n for n, group in enumerate(axes) if group), len(axes))
    return axes[first:]


def _channels_last(value: Value) -> bool:
    axes = [g for g in value.axes if g]
    return bool(axes) and value.rank == 4 and axes[-1] == value.dims[1]


def _key(group: Group) -> tuple[int, ...]:
    return tuple(map(id, group))


def _order(have: Sequence[Group], want: Sequence[Group]) -> tuple[int, ...]:
    """The transpose that makes one of the other; of empty groups the first comes first."""
    left = list(range(len(have)))
    order = []
    for group in want:
        axis = next(n for n in left if have[n] == group)
        left.remove(axis)
        order.append(axis)
    return tuple(order)


def _run_start(atoms: list[Atom], group: Group) -> int | None:
    start = atoms.index(group[0]) if group[0] in atoms else None
    if start is None or tuple(atoms[start : start + len(group)]) != group:
        return None
    return start


def _cut(axes: Groups, first: Atom, last: Atom) -> Groups:
    """The axes, cut before one atom and after another, and joined between them."""
    result: list[Group] = []
    inside = False
    for group in axes:
        part: list[Atom] = []
        for atom in group:
            if atom is first:
                if part:
                    result.append(tuple(part))
                part, inside = [], True
                result.append(())
            if inside:
                result[-1] += (atom,)
            else:
                part.append(atom)
            if atom is last:
                inside = False
        if part or not group and not inside:
            result.append(tuple(part))
    return tuple(result)


def _cut_by(axes: Groups, kind: Callable[[Atom], Any]) -> Groups:
    """The axes, each cut where the kind of its atoms changes."""
    result: list[Group] = []
    for group in axes:
        result.append(group[:1])
        for atom in group[1:]:
            if kind(atom) == kind(result[-1][-1]):
                result[-1] += (atom,)
            else:
                result.append((atom,))
    return tuple(result)


def too_many(axes: Groups) -> bool:
    """Whether some of the axes are to be joined.

    Where height and width are open no reshape joins any, nor takes them apart again; where such a
    model goes to a file, they no longer are.
    """
    return len(axes) > MOST_AXES and sum(map(is_free, axes)) < 3


def _merged(axes: Groups, kind: Callable[[Group], Any]) -> Groups:
    """Neighbouring axes of one kind joined, from the end, until there are few enough."""
    axes = tuple(g for g in axes if g) if len(axes) > MOST_AXES else axes
    at = len(axes) - 2
    while too_many(axes) and at >= 0:
        if axes[at] and axes[at + 1] and kind(axes[at]) == kind(axes[at + 1]):
            axes = (*axes[:at], axes[at] + axes[at + 1], *axes[at + 2 :])
        at -= 1
    return axes


def _pieces(have: Groups, want: Groups) -> list[Group]:
    """The smallest number of parts that both are made of, in the order of the first."""
    starts = {g[0] for g in (*have, *want) if g}
    ends = {g[-1] for g in (*have, *want) if g}
    follows = {a: b for g in want for a, b in zip(g, g[1:], strict=False)}
    pieces: list[Group] = []
    for group in have:
        for number, atom in enumerate(group):
            before = group[number - 1] if number else None
            joined = (
                before is not None
                and follows.get(before) is atom
                and atom not in starts
                and before not in ends
            )
            if joined:
                pieces[-1] += (atom,)
            else:
                pieces.append((atom,))
    return pieces


def _runs(have: list[Atom], want: list[Atom]) -> list[Group]:
    """The longest runs of atoms that follow each other in both."""
    follows = dict(zip(want, want[1:], strict=False))
    runs: list[Group] = []
    for number, atom in enumerate(have):
        if number and follows.get(have[number - 1]) is atom:
            runs[-1] += (atom,)
        else:
            runs.append((atom,))
    return runs


def _in_order(pieces: Sequence[Group], want: list[Atom]) -> list[Group]:
    where = {atom: n for n, atom in enumerate(want)}
    return sorted(pieces, key=lambda piece: where[piece[0]])
