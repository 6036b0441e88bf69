"""A call of an operator, as the function that converts it sees it.

Imports NumPy, and Keras inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from converters.program import Dtype, Meta, Node, Ref
from converters.pytorch.graph.flattening import flattened
from converters.pytorch.graph.layout import Atom, Group, Value, constant, per_sample, squeezed
from converters.pytorch.graph.operations import Operations
from converters.pytorch.graph.registry import base_name
from converters.pytorch.graph.uses import given

if TYPE_CHECKING:
    from converters.pytorch.graph.emitter import Emitter


_ROUNDING = {
    "aten.floor": "floor",
    **dict.fromkeys(("aten.trunc", "aten.fix"), "trunc"),
    **dict.fromkeys(("aten.to", "aten._to_copy"), "cast"),
}


@dataclass(frozen=True)
class Number:
    """A number that the program computes: a size.

    Attributes:
        value: It with the example inputs.
        free: Whether it is another with other inputs.
    """

    value: int | float
    free: bool


@dataclass(frozen=True)
class Held:
    """An array for a weight of a layer.

    Attributes:
        array: It, in Keras's layout.
        keys: The keys that it comes from.
        how: What was done to it.
    """

    array: np.ndarray
    keys: tuple[str, ...] = ()
    how: str = "as it is"


class Call:
    """A call of an operator in a program.

    Attributes:
        node: The node of the program.
        ops: `keras.ops`, which computes at once what depends on no input.
        again: Whether what depends on no input is to be computed in the model, to be trained.
    """

    def __init__(self, emitter: Emitter, node: Node, again: bool = False) -> None:
        self.node = node
        self.ops: Operations = emitter.ops
        self._emitter = emitter
        values = [v for v in map(emitter.values.get, given(node)) if isinstance(v, Value)]
        self._beside = next((v for v in values if not emitter.arranger.fixed(v)), None)
        self.again = again
        # What is to be repeated for every sample becomes a part of the model.
        self._trains = again or self._beside is not None or any(map(per_sample, values))

    # What it is given

    def value(self, name: str) -> Value:
        """An argument that is a tensor; a number as an array of no dimension."""
        return self._needed(name, self.optional(name))

    def optional(self, name: str) -> Value | None:
        """An argument that is a tensor or left out."""
        return self.tensor(self.node.arguments.get(name))

    def listed(self, name: str) -> Value:
        """A tensor of a list, by its name in the program."""
        return self._seen(name)

    def listed_weight(self, name: str) -> Value:
        """As `listed`, of a tensor that a layer is to hold."""
        return self._emitter.constant(name)

    def weight(self, name: str) -> Value:
        """As `value`, of a tensor that a layer is to hold: a parameter is an array."""
        return self._needed(name, self.optional_weight(name))

    def _needed(self, name: str, found: Value | None) -> Value:
        if found is None:
            raise self.refusal(f"it has no {name}")
        return found

    def optional_weight(self, name: str) -> Value | None:
        """As `weight`, of an argument that may be left out."""
        argument = self.node.arguments.get(name)
        if isinstance(argument, Ref):
            return self._emitter.constant(argument.name)
        return self.tensor(argument)

    def values(self, name: str) -> list[Value]:
        """An argument that is a list of tensors."""
        listed = self.node.arguments.get(name) or ()
        assert isinstance(listed, tuple)
        return [v for v in map(self.tensor, listed) if v is not None]

    def tensor(self, argument: Any) -> Value | None:
        """An argument, or an entry of one, as a tensor; `None` as it is."""
        if argument is None:
            return None
        if isinstance(argument, Ref):
            found = self._emitter.values.get(argument.name)
            if found is None or isinstance(found, Value):
                return self._seen(argument.name)
            argument = self._emitter.number(found, self)
        dtype = "float32" if isinstance(argument, float) else None
        return constant(np.asarray(argument, dtype))

    def _seen(self, name: str) -> Value:
        """A tensor by its name; what depends on parameters is a weight, where it meets an input."""
        held, parameters = self._emitter.constant(name), self._emitter.parameters
        if self._trains and held.constant and parameters.depends(name):
            return parameters.trained(name, self._beside)
        return held

    def get(self, name: str, default: Any = None) -> Any:
        """An argument that is plain data; `default` where it is left out.

        A size that the program computes is what it is with the example inputs.
        """
        found = self.node.arguments.get(name)
        return default if found is None else self._plain(found)

    def named(self, name: str) -> Any:
        """What an argument refers to: a value or a `Number`; `None` where it is plain data."""
        argument = self.node.arguments.get(name)
        return self._emitter.values[argument.name] if isinstance(argument, Ref) else None

    def _plain(self, argument: Any) -> Any:
        if isinstance(argument, Ref):
            found = self._emitter.values[argument.name]
            if isinstance(found, Value):
                if not found.constant or found.tensor.size != 1:
                    raise self.refusal("it takes a number that depends on the input")
                return found.tensor.item()
            assert isinstance(found, Number)
            return found.value
        if isinstance(argument, Dtype):
            return argument.name
        if isinstance(argument, tuple):
            return [self._plain(entry) for entry in argument]
        return argument

    def fixed(self, name: str, default: Any = None) -> Any:
        """As `get`, of numbers that may not change with the inputs."""
        listed = self.node.arguments.get(name)
        for entry in listed if isinstance(listed, tuple) else (listed,):
            if isinstance(entry, Ref):
                self._emitter.number(self._emitter.values[entry.name], self)
        return self.get(name, default)

    def ints(self, name: str, count: int, default: int | None = None) -> tuple[int, ...]:
        """An argument of `count` integers, which may be given as one."""
        found = self.get(name)
        if found is None or found == []:
            found = default
        listed = list(found) if isinstance(found, list) else [found]
        return tuple(listed * count if len(listed) == 1 else listed)

    # What it gives

    @property
    def meta(self) -> Meta:
        """What the program says of the first tensor that it gives."""
        return self.metas[0]

    @property
    def metas(self) -> list[Meta]:
        """What the program says of the tensors that it gives."""
        values = self._emitter.program.values
        return [values[name] for name in self.node.outputs if name is not None and name in values]

    @property
    def free(self) -> list[bool | None]:
        """Which sizes of the first tensor are open; `None` for one that may be."""
        unsure = None if self._emitter.batch_in_sizes else False
        return [True if isinstance(size, str) else unsure for size in self.meta.shape]

    @property
    def batch(self) -> int:
        """The batch of the example."""
        return self._emitter.batch

    def result(
        self, tensor: Any, order: Sequence[int] | None = None, index: int = 0, **known: Any
    ) -> Value:
        """A tensor as a value, where each axis is one dimension.

        Args:
            tensor: A Keras tensor or an array.
            order: Which dimension each axis is; PyTorch's order by default.
            index: Which of the tensors that the operator gives it is.
            **known: `keys` and `nonnegative`, of the value.

        Returns:
            The value.

        Raises:
            ValueError: If it is not of the shape that the program says.
        """
        meta = self.metas[index]
        order = tuple(range(meta.rank)) if order is None else tuple(order)
        shape = tuple(tensor.shape)
        fits = len(shape) == meta.rank and all(
            size in (None, meta.hint[d]) for size, d in zip(shape, order, strict=True)
        )
        if not fits:
            expected = tuple(meta.hint[d] for d in order)
            raise self.refusal(f"Keras gives {shape} where {expected} is due")
        axes = tuple(
            self.open_group(meta.hint[d], meta.shape[d])
            if size is None
            else ((Atom(size),) if size != 1 else ())
            for size, d in zip(shape, order, strict=True)
        )
        dims = tuple(axes[order.index(d)] for d in range(meta.rank))
        return Value(tensor, axes, dims, dtype=meta.dtype, **known)

    def open_group(self, size: int, declared: int | str) -> Group:
        """The atoms of an open dimension: of samples times windows the two apart."""
        if isinstance(declared, str) or size % self.batch or size == self.batch:
            return (Atom(size, True),)
        return (Atom(self.batch, True), Atom(size // self.batch))

    # What it becomes

    def layer(
        self,
        kind: Callable[..., Any],
        inputs: Any,
        weights: Mapping[str, Held | None] | None = None,
        part: str = "",
        states: Any = None,
        **config: Any,
    ) -> Any:
        """Calls a Keras layer, named after the module; one layer for one module.

        Args:
            kind: Its class.
            inputs: The tensors that it is called on.
            weights: What its weights are, by their names; those of `None` it does not have.
            part: What a layer beside the module's own is for: `"pad"` gives `features.0.pad`.
            states: What a recurrent layer starts from.
            **config: Its arguments.

        Returns:
            The tensor it gives; an array if its inputs are arrays.
        """
        held = {name: w for name, w in (weights or {}).items() if w is not None}
        if self.again and held and isinstance(inputs, np.ndarray):
            inputs = self._emitter.parameters.in_the_model(inputs)
        return self._emitter.layer(self.node, kind, inputs, held, part, config, states=states)

    def ordered(self, value: Value, order: Sequence[int] | None = None) -> Value:
        """A value whose axes are its dimensions, in this order; in PyTorch's by default."""
        return self._emitter.arranger.ordered(value, order)

    def isolated(self, value: Value, dim: int) -> tuple[Value, int]:
        """A value with a dimension in an axis of its own, and the number of that axis."""
        return self._emitter.arranger.isolated(value, dim)

    def last(self, value: Value, dim: int) -> Value:
        """A value with a dimension in the last axis."""
        return self._emitter.arranger.last(value, dim)

    def array(self, value: Value | None) -> np.ndarray | None:
        """A constant in PyTorch's order; refused where it depends on an input."""
        if value is None:
            return None
        if not value.constant:
            raise self.refusal("one of its weights depends on the input")
        return self._emitter.arranger.array(value)

    def held(self, value: Value | None, how: Callable[[Any], Any] | None = None) -> Held | None:
        """A constant for a weight of a layer, changed by `how`."""
        array = self.array(value)
        if value is None or array is None:
            return None
        changed = array if how is None else np.asarray(how(array))
        text = "as it is" if how is None or array.shape == changed.shape == (1,) else "rearranged"
        if len(value.keys) == 1 and array.size < self._emitter.sizes.get(value.keys[0], 0):
            text = f"a part of it, {text}"
        return Held(np.ascontiguousarray(changed, "float32"), value.keys, text)

    def elementwise(
        self, function: Callable[..., Any], *values: Value, nonnegative: bool = False
    ) -> Value:
        """A function of values that are broadcast against each other."""
        tensors, axes, dims = self._emitter.arranger.together(values)
        tensor = function(*tensors)
        keys = tuple(dict.fromkeys(k for v in values for k in v.keys))
        dtype = self.meta.dtype if self.metas else values[0].dtype
        # Of values that no input changes, axes of one in front are left out.
        axes = axes[len(axes) - len(tensor.shape) :]
        if isinstance(tensor, np.ndarray):
            axes = tuple(g if n != 1 else () for g, n in zip(axes, tensor.shape, strict=True))
        return Value(tensor, axes, dims, keys, nonnegative, dtype)

    def reduced(
        self, value: Value, dims: Sequence[int], function: Callable[[Any, tuple[int, ...]], Any]
    ) -> Value:
        """A value after axes that hold some dimensions became one; the dimensions stay, of 1."""
        chosen = {value.dim(d) for d in dims} if dims else set(range(value.rank))
        for dim in chosen:
            self._emitter.arranger.own_to_a_sample(value.dims[dim])
        value, axes = self._emitter.arranger.reduced_axes(value, chosen)
        tensor = function(value.tensor, axes) if axes else value.tensor
        kept = tuple(() if n in axes else g for n, g in enumerate(value.axes))
        if len(tensor.shape) < len(kept):
            kept = tuple(g for n, g in enumerate(value.axes) if n not in axes)
        left = tuple(() if d in chosen else g for d, g in enumerate(value.dims))
        return replace(value, tensor=tensor, axes=kept, dims=left, nonnegative=False)

    def summed(self, value: Value, dims: Sequence[int]) -> Value:
        """The sum of a value over some dimensions, which it then lacks."""
        return squeezed(
            self.reduced(value, dims, lambda t, axes: self.ops.sum(t, axis=axes, keepdims=True)),
            dims,
        )

    @property
    def arranger(self) -> Any:
        """What brings values into the axes that are needed."""
        return self._emitter.arranger

    @property
    def flattened(self) -> bool:
        """Whether nothing but channels is read of its first value, which has one position."""
        emitter = self._emitter
        name = self.node.outputs[0]
        return name is not None and flattened(emitter.program, emitter.users, emitter.wanted, name)

    def sees_to_nan(self) -> bool:
        """Whether the program asks anywhere what is no number, or infinite."""
        asking = ("aten.isnan", "aten.nan_to_num", "aten.isinf", "aten.isneginf", "aten.isfinite")
        compared = ("aten.eq.", "aten.ne.")
        return any(
            node.target.startswith(asking)
            or node.target.startswith(compared)
            and node.arguments.get("other") == -np.inf
            for node in self._emitter.program.nodes
        )

    def rounding(self) -> str | None:
        """How all that takes its first value makes whole numbers of it: "floor" or "trunc"."""
        name, values = self.node.outputs[0], self._emitter.program.values
        found = set()
        takers = self._emitter.users.get(name, []) if name is not None else []
        for node in (n for n in takers if any(n.outputs)):  # not what asserts something of it
            kind = _ROUNDING.get(base_name(node.target).removesuffix("_"))
            taken = values.get(str(node.outputs[0])) if kind == "cast" else None
            found.add(kind if taken is None else "trunc" if "int" in taken.dtype else None)
        return found.pop() if len(found) == 1 else None

    def used(self, index: int) -> bool:
        """Whether something uses one of its values."""
        outputs = self.node.outputs
        name = outputs[index] if index < len(outputs) else None
        return name is not None and name in self._emitter.wanted

    def positions(self, size: int) -> Value | None:
        """0, 1, 2 … along the one dimension of what it gives that is open, of this size."""
        shape = self.meta.shape
        names = [n for n, hint in zip(shape, self.meta.hint, strict=True) if hint == size]
        symbol = next((n for n in names if isinstance(n, str)), None)
        return self._emitter.positions(symbol, size) if symbol is not None else None

    def samples(self, like: Value) -> Value:
        """Which sample each is, seen as another value that has one number for each."""
        places = self._emitter.samples()
        return replace(places, dims=(*places.dims, *((),) * (like.rank - 1)))

    def feeds(self, operator: str, argument: str, number: float | None) -> bool:
        """Whether all that takes its first value is an operator with a number as argument."""
        name = self.node.outputs[0]
        takers = self._emitter.users.get(name, []) if name is not None else []
        return bool(takers) and all(
            n.target.startswith(f"{operator}.") and n.arguments.get(argument) == number
            for n in takers
        )

    def note(self, text: str) -> None:
        """Something that the report is to say of this node."""
        self._emitter.notes.setdefault(self.node.name, []).append(text)

    def refusal(self, why: str) -> ValueError:
        """The error for what cannot be converted."""
        return ValueError(self._emitter.where(self.node) + why)

    def refuse(self, why: str) -> NoReturn:
        """Raises the error for what cannot be converted."""
        raise self.refusal(why)
