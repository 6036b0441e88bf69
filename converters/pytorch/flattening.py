"""The order in which a layer's input features come, where they are a flattened map.

PyTorch flattens a map channel by channel, (C, H, W); a channels-last Keras model position by
position, (H, W, C). A Linear behind a flattening therefore needs its rows in another order. That
is invisible in the shapes, so it is read off the model's graph, through Keras's public API. So is
the order of a norm's weights that is one of whole maps.

Imports NumPy; Keras and `ulsam_keras` only inside functions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

LAST, FIRST = "channels_last", "channels_first"


@dataclass(frozen=True)
class Order:
    """How the features of a flattened map are ordered in Keras.

    Attributes:
        map_shape: Shape (H, W, C) of the map.
    """

    map_shape: tuple[int, ...]

    @property
    def index(self) -> np.ndarray:
        """The place in PyTorch's order, (C, H, W), of each feature in Keras's."""
        *positions, channels = self.map_shape
        places = np.arange(prod(self.map_shape)).reshape(channels, *positions)
        return np.moveaxis(places, 0, -1).ravel()

    @property
    def name(self) -> str:
        """What the reordering is called in the port report."""
        return f"features C,H,W -> H,W,C = {','.join(map(str, self.map_shape))}"


@dataclass(frozen=True)
class Unknown:
    """That the order of the features cannot be read off the graph.

    Attributes:
        why: The reason, as a clause.
    """

    why: str


class Graph:
    """The operations of a model, as far as it has a graph.

    Args:
        target: A built Keras layer or model.
        layers: The layers in it that may take weights.

    Attributes:
        operations: Its layers and bare operations, those of nested models included.
    """

    def __init__(self, target: Any, layers: Sequence[Any]) -> None:
        import keras

        found = list(_operations(target))
        nested = [op for op in found if isinstance(op, keras.Model)]
        self.operations = [op for op in found if not isinstance(op, keras.Model)]
        self._models = [target, *nested]
        self._ids = {id(op) for op in self.operations}
        self._inputs = {id(t) for t in getattr(target, "inputs", None) or ()}
        self._producers = {id(t): op for op in self.operations for t in tensors(op, "output")}
        self._readers: dict[int, list[Any]] = {}
        for op in self.operations:
            for tensor in tensors(op, "input"):
                self._readers.setdefault(id(tensor), []).append(op)
        for tensor in getattr(target, "outputs", None) or ():
            self._readers.setdefault(id(tensor), []).append(None)
        self._nested_outputs = [t for model in nested for t in _inner_outputs(model)]
        self._orders: dict[int, Order | Unknown | None] = {}
        formats = {getattr(layer, "data_format", None) for layer in layers} - {None}
        self._format = formats.pop() if len(formats) == 1 else None
        self._widths = {getattr(layer, "filters", getattr(layer, "units", 0)) for layer in layers}

    def order(self, layer: Any, features: int) -> Order | Unknown | None:
        """Find how the input features of a layer are ordered.

        Args:
            layer: A layer of the model.
            features: Number of its input features.

        Returns:
            None if they are in PyTorch's order.
        """
        inputs = tensors(layer, "input")
        if inputs and len(inputs[0].shape) != 2:
            return None  # it works at every position of a map
        if inputs and id(layer) in self._ids:
            order = self._of_vector(inputs[0])
        else:
            order = Unknown("the model has no graph to see its input in")
        if isinstance(order, Unknown) and (
            # As many features as a layer has channels: no positions among them.
            features in self._widths
            # Norms of maps; those of vectors say so.
            or not (hasattr(layer, "kernel") or getattr(layer.input_spec, "ndim", None) == 2)
        ):
            return None
        return order

    def moves_channels(
        self, layer: Any, found: Sequence[int], wanted: Sequence[int]
    ) -> bool | Unknown:
        """Tell whether a norm of whole maps has its weights (C, H, W) in PyTorch, (H, W, C) here.

        Args:
            layer: A layer.
            found: Shape of PyTorch's weight.
            wanted: Shape of Keras's.
        """
        import keras

        moved = (*found[1:], *found[:1])
        norm = isinstance(layer, keras.layers.LayerNormalization)
        if not norm or len(found) < 2 or moved != tuple(wanted):
            return False
        if inputs := tensors(layer, "input"):
            rank = len(inputs[0].shape)
            if rank - 1 not in {axis % rank for axis in layer.axis}:
                return False  # of height and width alone
            layout = self.layout(inputs[0])
            if layout is None:
                return Unknown("where the channels of its maps are cannot be seen")
            if layout == FIRST:
                return False
        if len(found) == 2 and moved == tuple(found):
            return Unknown("its axes are of one size and may be (C, N) or (N, C)")
        return True

    def reshaped_into_maps(self) -> Iterator[tuple[Any, tuple[int, ...]]]:
        """Yield every layer with a kernel whose output becomes a map, with the map's shape."""
        for op in self.operations:
            inputs, outputs = tensors(op, "input"), tensors(op, "output")
            if len(inputs) == len(outputs) == 1 and len(inputs[0].shape) == 2:
                shape = tuple(outputs[0].shape[1:])
                source = self.producer(inputs[0]) if _is_map(shape) else None
                while source is not None and not hasattr(source, "kernel"):
                    before, after = tensors(source, "input"), tensors(source, "output")
                    same = [t.shape for t in before] == [t.shape for t in after]
                    source = self.producer(before[0]) if same and before else None
                if source is not None:
                    yield source, shape

    def readers(self, tensor: Any) -> list[Any]:
        """Find the operations that read a tensor; None among them for an output of the model."""
        return self._readers.get(id(tensor), [])

    @property
    def called_again(self) -> set[int]:
        """The ``id`` of every operation that is called more than once."""
        return self._unseen[0]

    def read_unseen(self, tensor: Any) -> bool:
        """Whether a nested model reads a tensor, or the further call of an operation."""
        return id(tensor) in self._unseen[1]

    @cached_property
    def _unseen(self) -> tuple[set[int], set[int]]:
        """What the inputs of operations do not show: they are those of the first call."""
        from ulsam_keras.graph import is_graph, trace

        again, read = set(), set()
        for model in filter(is_graph, self._models):
            seen: set[int] = set()
            makers: dict[int, Any] = {}
            for call in trace(model).calls:
                op = call.operation
                if id(op) in seen:
                    again |= {id(op), *map(id, _operations(op))}
                seen.add(id(op))
                sources = [makers.get(id(x)) for x in call.inputs]
                made = [t for source in sources for t in tensors(source, "output")]
                read |= {id(t) for t in made if op not in self.readers(t)}
                makers |= {id(x): op for x in call.outputs}
        return again, read

    def _of_vector(self, tensor: Any) -> Order | Unknown | None:
        """Follow a vector upstream to where a map was flattened, if it was."""
        if id(tensor) in self._inputs:
            return None
        if id(tensor) not in self._orders:
            op = self.producer(tensor)
            orders = {self._through(op, t, tensor) for t in tensors(op, "input")}
            order: Order | Unknown | None
            if not orders:
                order = Unknown("its input comes into a nested model or from a layer called twice")
            elif len(orders) > 1:
                order = Unknown(f"{op.name!r} joins a flattened map with something else")
            else:
                order = orders.pop()
            self._orders[id(tensor)] = order
        return self._orders[id(tensor)]

    def _through(self, op: Any, source: Any, tensor: Any) -> Order | Unknown | None:
        """Find the order of a vector after an operation, as far as this input decides it."""
        before, after = tuple(source.shape[1:]), tuple(tensor.shape[1:])
        if hasattr(op, "kernel"):
            return None  # new features
        if len(before) == 1:
            order = self._of_vector(source)
            if order is None or (before == after and _keeps_places(op)):
                return order
            return Unknown(f"{op.name!r} lies between it and a flattened map")
        flattened = None not in before and prod(before) == after[0] and _is_map(before)
        if not flattened or getattr(op, "weights", None):
            return None  # pooled over the positions, or made by a recurrent layer
        return self._of_flattening(op, source)

    def _of_flattening(self, op: Any, tensor: Any) -> Order | Unknown | None:
        import keras

        layout, shape = self.layout(tensor), tuple(tensor.shape[1:])
        if isinstance(op, keras.layers.Flatten) and op.data_format == FIRST:
            # It takes the channels to be first, and moves them last before it flattens.
            if layout == FIRST:
                layout, shape = LAST, (*shape[1:], shape[0])
            else:
                layout = None
        if layout is None:
            return Unknown(f"where the channels are at {op.name!r} cannot be seen")
        if layout == FIRST or shape[-1] == 1 or prod(shape[:-1]) == 1:
            return None
        return Order(shape)

    def layout(self, tensor: Any) -> str | None:
        """Find where a map has its channels; None if that cannot be seen."""
        import keras

        op = self.producer(tensor)
        sources = tensors(op, "input")
        if not sources:
            return self._format or keras.config.image_data_format()
        if getattr(op, "data_format", None) in (LAST, FIRST):
            return op.data_format
        before, after = tuple(sources[0].shape[1:]), tuple(tensor.shape[1:])
        if len(before) != len(after):
            return None
        layout = self.layout(sources[0])
        rank = len(before)
        if isinstance(op, keras.layers.Permute):
            to_first = tuple(op.dims) == (rank, *range(1, rank))
            to_last = tuple(op.dims) == (*range(2, rank + 1), 1)
        elif is_stock(op):
            return layout
        else:
            # It may move the channels. Where the axes can be told apart the shapes show it.
            last_apart, first_apart = before[-1] not in before[:-1], before[0] not in before[1:]
            if before == after and (last_apart if layout == LAST else first_apart):
                return layout
            if sum(b != a for b, a in zip(before, after, strict=True)) == 1:
                return layout  # a slice or the like; moved axes would change two sizes
            to_first = last_apart and after == (before[-1], *before[:-1])
            to_last = first_apart and after == (*before[1:], before[0])
        if to_first and layout == LAST:
            return FIRST
        return LAST if to_last and layout == FIRST else None

    def producer(self, tensor: Any) -> Any:
        """Find the operation that made a tensor; None if that cannot be seen.

        What a nested model puts out has another tensor outside than inside; the one inside is taken
        if only one is of the shape.
        """
        if id(tensor) not in self._producers and id(tensor) not in self._inputs:
            inner = [t for t in self._nested_outputs if t.shape == tensor.shape]
            tensor = inner[0] if len(inner) == 1 else tensor
        return self._producers.get(id(tensor))


def _is_map(shape: Sequence[int | None]) -> bool:
    return sum(size != 1 for size in shape) > 1


def _keeps_places(op: Any) -> bool:
    """Tell whether an operation that keeps a vector's length keeps its features' places."""
    return is_stock(op) or not getattr(op, "weights", None)


def is_stock(op: Any) -> bool:
    """Tell whether it is one of Keras's layers that treat an axis as what it was before."""
    import keras

    free = (keras.layers.Lambda, keras.layers.Reshape, keras.layers.Permute, keras.Model)
    own = getattr(keras.layers, type(op).__name__, None) is type(op)
    return own and not isinstance(op, free)


def tensors(op: Any, side: str) -> list[Any]:
    """Give the symbolic inputs or outputs of an operation's first call; none if never called so."""
    import keras

    try:
        return keras.tree.flatten(getattr(op, side))
    except AttributeError:
        return []


def _inner_outputs(model: Any) -> list[Any]:
    """Give the outputs of a nested model as its own graph has them."""
    import keras

    return tensors(model.layers[-1] if isinstance(model, keras.Sequential) else model, "output")


def _operations(target: Any) -> Iterator[Any]:
    """Yield the operations of a model's graph, those of nested models included."""
    import keras

    if isinstance(target, keras.Function):
        inner = target.operations
    elif isinstance(target, keras.Sequential):
        inner = target.layers
    else:
        return
    for op in inner:
        yield op
        yield from _operations(op)
