"""Parameters that operations use by themselves: weights of the model, which train.

Imports NumPy and `converters.program`, and Keras inside functions.

No stock layer just holds a scale, a class token or a table of positions. An `Embedding` that is
looked up at positions which never change does: it gives its table, exactly and in the shape that
is asked for, and once weights are constants nothing of it is left in an exported file.

What is computed of parameters alone (a part of a table, `exp(scale)`) is an array at conversion,
as layers hold it. Where another operator takes it, it is computed once more, in the model.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from converters.program import Node
from converters.pytorch.graph.call import Held
from converters.pytorch.graph.layout import Value, flat
from converters.pytorch.graph.registry import in_place
from converters.pytorch.graph.uses import given

if TYPE_CHECKING:
    from converters.pytorch.graph.emitter import Emitter


class Parameters:
    """The parameters of a program that train, and what is computed of them alone.

    Args:
        emitter: The state of the conversion.
    """

    def __init__(self, emitter: "Emitter") -> None:
        self._emitter = emitter
        weights = emitter.program.weights
        self._own = {name for name, weight in weights.items() if weight.trains}
        self._made_by: dict[str, Node] = {}
        self._trained: dict[str, Value] = {}
        self._tables: dict[str, tuple[Any, list[int]]] = {}
        self._zero: Any = None
        self._use: tuple[Value | None, Value] | None = None

    def depends(self, name: str) -> bool:
        """Whether a constant is a parameter that trains, or computed of such."""
        return name in self._own or name in self._made_by

    def note(self, node: Node) -> None:
        """Takes note of a node that gave a constant."""
        taken = given(node)
        names = [name for name in node.outputs if name is not None]
        if in_place(node.target):
            # What was written to is more than this node computes.
            for name in (*taken[:1], *names):
                self._made_by.pop(name, None)
        elif any(map(self.depends, taken)):
            self._made_by |= dict.fromkeys(names, node)

    def trained(self, name: str, beside: Value | None) -> Value:
        """A constant that depends on parameters, as a value that is trained.

        Args:
            name: Its name.
            beside: What it is used with, whose axes are the best order for its own.

        Returns:
            The value; the constant itself where it cannot be.
        """
        if name not in self._trained:
            held, outer = self._emitter.constant(name), self._use
            # What a view is of lies as is best where the view is used.
            self._use = outer or (beside, held)
            if name in self._own:
                self._trained[name] = self._looked_up(held, *self._use)
            else:
                self._compute_again(self._made_by[name])
            self._use = outer
        return self._trained[name]

    def _compute_again(self, node: Node) -> None:
        """Computes what a node gives in the model."""
        emitter = self._emitter
        try:
            results = emitter.again(node)
        except ValueError as error:
            emitter.notes.setdefault(node.name, []).append(f"does not train: {error}")
            results = []
        for number, name in enumerate(node.outputs):
            if name is not None:
                constant = emitter.constant(name)
                found = results[number] if number < len(results) else constant
                self._trained[name] = found if isinstance(found, Value) else constant

    def _looked_up(self, value: Value, beside: Value | None, seen: Value) -> Value:
        """A parameter as a table; its first use says in what order it lies."""
        key = value.keys[0]
        if key not in self._tables:
            order = _order(value, beside, seen)
            self._tables[key] = (self._table(key, value.tensor.transpose(order)), order)
        tensor, order = self._tables[key]
        axes = tuple(value.axes[n] for n in order if value.axes[n])
        return value.with_tensor(tensor, axes=((),) * (len(tensor.shape) - len(axes)) + axes)

    def _table(self, key: str, array: np.ndarray) -> Any:
        import keras

        shape = [n for n in array.shape if n != 1]
        columns = shape[-1] if shape else 1
        rows = array.size // columns
        held = Held(np.ascontiguousarray(array, "float32").reshape(rows, columns), (key,))
        where = self.zero()
        if rows > 1:
            at = np.arange(rows, dtype="int32").reshape(shape[:-1])
            where = self._emitter.ops.add(where, at)
        sizes = {"input_dim": rows, "output_dim": columns}
        return self._emitter.table(key, keras.layers.Embedding, where, {"embeddings": held}, sizes)

    def in_the_model(self, array: np.ndarray) -> Any:
        """An array as a tensor of the model."""
        ops = self._emitter.ops
        return ops.add(ops.cast(self.zero(), array.dtype.name), array)

    def zero(self) -> Any:
        """A whole 0 of shape (1,) that is computed of an input, so that it is in the model."""
        if self._zero is None:
            ops, given = self._emitter.ops, self._emitter.first_input
            corner = given[(slice(0, 1), *(0,) * (len(given.shape) - 1))]
            self._zero = ops.reshape(ops.zeros_like(corner, dtype="int32"), (1,))
            ops.fixed[id(self._zero)] = self._zero
        return self._zero


def _order(value: Value, beside: Value | None, seen: Value) -> list[int]:
    """The order of a parameter's axes that needs the fewest transposes beside another value."""
    order = list(range(len(value.axes)))
    if beside is None or seen.tensor.shape != value.tensor.shape:
        return order
    lies = flat(beside.axes)
    places = {}
    for axis, group in enumerate(seen.axes):
        inside = (d for d, g in enumerate(seen.dims, -seen.rank) if group and group[0] in g)
        dim = next(inside, 0)
        across = beside.dims[dim] if -beside.rank <= dim < 0 else ()
        if group and not (across and across[0] in lies):
            return order
        places[axis] = lies.index(across[0]) if group else -1
    return sorted(order, key=lambda axis: places[axis])
