"""A model's graph, seen through Keras's public interface.

`keras.models.clone_model` visits every call of a functional model in topological order. Here it
does so with stand-ins that have shapes but neither weights nor a computation, so that looking at a
graph is cheap and leaves no trace in the model.

Imports Keras (public names only).
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Call:
    """One call of a layer or bare operation; the tensors are those of the stand-ins.

    Attributes:
        operation: The layer or operation.
        args: Its positional arguments; the first one of a layer is always among them.
        kwargs: Its keyword arguments.
        result: What it gives.
    """

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The tensors among the arguments."""
        return symbolic_tensors(self.args, self.kwargs)

    @property
    def outputs(self) -> tuple[Any, ...]:
        """The tensors of the result."""
        return symbolic_tensors(self.result)


@dataclass(frozen=True)
class Graph:
    """The calls of a model in topological order, and its inputs and outputs."""

    calls: tuple[Call, ...]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


def is_graph(model: Any) -> bool:
    """Whether it is a functional model or a built Sequential one, and computes what its graph says.

    A subclass with a `call` of its own does not.
    """
    if not isinstance(model, keras.Model):
        return False
    author = next(base for base in type(model).__mro__ if "call" in vars(base))
    if author.__module__.split(".")[0] != "keras":
        return False
    if isinstance(model, keras.Sequential):
        return bool(model.built and model.outputs)
    return hasattr(model, "operations")


def as_functional(model: keras.Model) -> keras.Model:
    """A plain functional model of the same layers: not compiled, of no class of its own."""
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return keras.Model(model.input, model.output, name=model.name)


def symbolic_tensors(*structures: Any) -> tuple[Any, ...]:
    """The symbolic tensors in nested structures, such as the arguments of a call."""
    return tuple(x for x in keras.tree.flatten(structures) if isinstance(x, keras.KerasTensor))


def new_inputs(
    model: keras.Model, input_shapes: Sequence[Sequence[int | None]] | None = None
) -> Any:
    """Inputs like a functional model's, in the same structure, under the same names."""
    # `clone_model` names its inputs after the tensors, which need not have the layers' names.
    sources = {
        id(layer.output): layer
        for layer in model.layers
        if isinstance(layer, keras.layers.InputLayer)
    }
    shapes = [x.shape for x in model.inputs] if input_shapes is None else input_shapes
    tensors = [
        keras.Input(
            batch_shape=tuple(shape),
            dtype=tensor.dtype,
            sparse=tensor.sparse,
            ragged=tensor.ragged,
            name=sources[id(tensor)].name,
            optional=sources[id(tensor)].optional,
        )
        for tensor, shape in zip(model.inputs, shapes, strict=True)
    ]
    return keras.tree.pack_sequence_as(model.input, tensors)


def trace(model: keras.Model, input_shapes: Sequence[Sequence[int | None]] | None = None) -> Graph:
    """The graph of a functional or built Sequential model.

    Args:
        model: The model. Its weights, nodes and layers are left as they are.
        input_shapes: One shape for each input, batch axis included, in place of the model's own.
    """
    model = as_functional(model)
    inputs = new_inputs(model, input_shapes)
    calls = []

    def record(operation: Any, *args: Any, **kwargs: Any) -> Any:
        result = _StandIn(operation.compute_output_spec)(*args, **kwargs)
        args, kwargs = by_position(operation, args, kwargs)
        calls.append(Call(operation, args, kwargs, result))
        return result

    shadow = keras.models.clone_model(
        model,
        input_tensors=inputs,
        clone_function=lambda operation: operation,
        call_function=record,
    )
    return Graph(tuple(calls), tuple(keras.tree.flatten(inputs)), tuple(shadow.outputs))


def by_position(
    operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call, those that a layer or operation computes on by position."""
    names = list(inspect.signature(operation.call).parameters)[len(args) :]
    # Of a layer the first one only: after it come `training` and the like.
    names = names[: max(0, 1 - len(args))] if isinstance(operation, keras.layers.Layer) else names
    kwargs = {**kwargs}
    for name in names:
        if name not in kwargs:
            break
        args = (*args, kwargs.pop(name))
    return args, kwargs


def layers_within(layer: Any) -> list[Any]:
    """A layer and every layer inside of it, at any depth, each once."""
    found: dict[int, Any] = {id(layer): layer}
    waiting = [layer]
    while waiting:
        for inner in layers_inside(waiting.pop()):
            if id(inner) not in found:
                found[id(inner)] = inner
                waiting.append(inner)
    return list(found.values())


def layers_inside(layer: Any) -> Iterator[Any]:
    """The layers that a layer holds: of a model its layers, else those in its attributes."""
    if isinstance(layer, keras.Model):
        yield from layer.layers
        return
    for value in vars(layer).values():
        values = value.values() if isinstance(value, dict) else value
        for item in values if isinstance(value, (dict, list, tuple)) else [value]:
            if isinstance(item, keras.layers.Layer):
                yield item


class _StandIn(keras.Operation):
    """An operation known only by the specification of its outputs."""

    def __init__(self, specification: Callable[..., Any]) -> None:
        super().__init__()
        self._specification = specification

    def call(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("A stand-in has shapes, not values.")

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return self._specification(*args, **kwargs)
