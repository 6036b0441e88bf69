"""A Keras 3 model walked through, call by call, into a tf_keras model.

Imports Keras, NumPy and `ulsam_keras.graph`, and tf_keras inside functions only.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ulsam_keras.graph import (
    Call,
    Graph,
    as_functional,
    is_graph,
    new_inputs,
    trace,
)
from ulsam_keras.quantization.bridge.emitter import Emitter, RefusedError, Step, variables
from ulsam_keras.quantization.bridge.operations import bridge_operation
from ulsam_keras.quantization.bridge.table import row_for
from ulsam_keras.quantization.extra import tf_keras
from ulsam_keras.spatial_softmax import checked_form


@dataclass(frozen=True)
class Bridged:
    """A Keras 3 model in tf_keras.

    Attributes:
        model: The `tf_keras.Model`; its weights are random until `copy_weights`.
        steps: The calls of its layers, in order.
        weights: By name of a tf_keras layer: the name of its weight, and the Keras 3 variable.
        names: The names of the Keras 3 layers met, those of nested models with their prefix.
    """

    model: Any
    steps: tuple[Step, ...]
    weights: dict[str, dict[str, Any]]
    names: frozenset[str]


def to_tf_keras(model: keras.Model, *, attention: str = "log_softmax") -> Any:
    """The tf_keras model that computes the same as a Keras 3 model.

    Layers keep their names; those of nested models are `"nested/layer"`; what TensorFlow takes for
    no name gets `_` in place of a character. Of a layer that becomes several the last has its name,
    the others end in the part's name. ULSAM becomes its parts, and an activation inside a layer
    becomes a layer of its own.

    Args:
        model: A functional or built Sequential Keras 3 model.
        attention: How the attention's softmax is computed, as in `quantize_model`.

    Returns:
        A `tf_keras.Model` of its own weights, float32 whatever the model's dtype policy.

    Raises:
        ImportError: If tf_keras is not installed.
        ValueError: If the model is subclassed or not built, or has a layer, operation or option
            that cannot be bridged; the message names all of them.
    """
    bridged = bridge(model, attention=attention)
    copy_weights(bridged.weights, {layer.name: layer for layer in bridged.model.layers})
    return bridged.model


def bridge(model: keras.Model, *, attention: str = "log_softmax") -> Bridged:
    """As `to_tf_keras`, with the way the model was made; the weights are not copied yet."""
    keras2 = tf_keras()
    checked_form(attention)
    _check(model)
    policy = keras2.mixed_precision.global_policy().name
    if policy != "float32":
        raise ValueError(
            "The tf_keras model is one of float32; call "
            "tf_keras.mixed_precision.set_global_policy('float32') first. "
            f"Received: tf_keras's global policy {policy!r}"
        )
    walk = _Walk(Emitter(attention, frozen=not model.trainable))
    functional = as_functional(model)
    inputs = keras.tree.map_structure(
        lambda tensor: keras2.Input(
            tensor.shape[1:],
            batch_size=tensor.shape[0],
            dtype=tensor.dtype,
            name=walk.emit.free(tensor.name),
        ),
        new_inputs(functional),
    )
    outputs = walk.run(functional, inputs, "", None)
    if walk.refused:
        raise RefusedError.of(walk.refused)
    result = keras2.Model(inputs, outputs, name=model.name)
    return Bridged(result, tuple(walk.emit.steps), walk.emit.weights, frozenset(walk.names))


def copy_weights(weights: dict[str, dict[str, Any]], layers: dict[str, Any]) -> None:
    """Gives tf_keras layers, or their wrappers, by name, the values of the Keras 3 variables."""
    for name, pairs in weights.items():
        targets = variables(layers[name]) if pairs else {}
        for weight, variable in pairs.items():
            targets[weight].assign(keras.ops.convert_to_numpy(variable))


def _check(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise ValueError(
            "`model` must be a Keras 3 model, an instance of keras.Model. Received: model of type "
            f"{type(model).__module__}.{type(model).__qualname__}"
        )
    if not is_graph(model):
        built = isinstance(model, keras.Sequential)
        advice = "build it first" if built else "write it as a functional model"
        kind = "a Sequential model that is not built" if built else "a subclass with its own call"
        raise ValueError(
            f"Model {model.name!r} ({type(model).__name__}) has no graph of layers to go through; "
            f"{advice}. Received: {kind}"
        )


class _Walk:
    """Goes through a model and the models inside it."""

    def __init__(self, emit: Emitter) -> None:
        self.emit = emit
        self.names: set[str] = set()
        self.refused: list[RefusedError] = []

    def run(self, model: keras.Model, inputs: Any, prefix: str, training: bool | None) -> Any:
        """The outputs of a functional model on tf_keras tensors, in its structure."""
        graph = trace(model)
        flat = keras.tree.flatten
        values = {id(x): y for x, y in zip(graph.inputs, flat(inputs), strict=True)}

        def value(x: Any) -> Any:
            # What zeros are like is not needed.
            return values.get(id(x)) if isinstance(x, keras.KerasTensor) else x

        for call in _used(graph):
            args, kwargs = keras.tree.map_structure(value, (call.args, call.kwargs))
            fixed = _fixed(call, args, kwargs)
            if fixed is not None:
                values |= {id(x): y for x, y in zip(flat(call.result), fixed, strict=True)}
                continue
            try:
                outputs = self._checked(call, args, kwargs, prefix, training)
            except RefusedError as error:
                # What follows is gone through all the same: all that is refused is named at once.
                self.refused.append(error)
                outputs = [
                    tf_keras().Input(x.shape[1:], batch_size=x.shape[0], dtype=x.dtype)
                    for x in flat(call.result)
                ]
            values |= {id(x): y for x, y in zip(flat(call.result), outputs, strict=True)}
        return keras.tree.map_structure(
            value, keras.tree.pack_sequence_as(model.output, list(graph.outputs))
        )

    def _checked(
        self, call: Call, args: Any, kwargs: Any, prefix: str, training: bool | None
    ) -> list[Any]:
        """What a call gives, which is of the shape and the kind of numbers that it is in Keras."""
        flat = keras.tree.flatten
        outputs: list[Any] = flat(self._call(call, args, kwargs, prefix, training))
        for x, y in zip(flat(call.result), outputs, strict=True):
            if not _alike(x, y):
                self.emit.enter(call.operation, prefix)
                raise self.emit.refusal(
                    f"it gives {x.dtype} of shape {x.shape}, in tf_keras {y.dtype.name} of "
                    f"shape {tuple(y.shape)}"
                )
        return outputs

    def _call(self, call: Call, args: Any, kwargs: Any, prefix: str, training: bool | None) -> Any:
        operation = call.operation
        kwargs = dict(kwargs)
        mode = kwargs.pop("training", None)
        training = training if mode is None else mode
        name = prefix + operation.name
        if not isinstance(operation, keras.Model):
            self.names.add(name)
        row = row_for(operation)
        self.emit.enter(operation, prefix, training, row)
        policy = getattr(operation, "dtype_policy", None)
        more = "LoRA weights" if getattr(operation, "lora_enabled", False) else ""
        if isinstance(policy, keras.dtype_policies.QuantizedDTypePolicy):
            more = f"dtype={policy.name!r}"
        if more:
            raise ValueError(
                f"{name!r} ({type(operation).__name__}) holds more than float weights; give the "
                f"model as it was before quantize() or enable_lora(). Received: {more}"
            )
        if getattr(operation, "activity_regularizer", None) is not None:
            raise self.emit.refusal("its activity_regularizer would be lost")
        if not isinstance(operation, keras.layers.Layer):
            return bridge_operation(operation, args, kwargs, self.emit)
        # A model of several inputs is called with a mask for each, None if there is none.
        extra = {
            key
            for key, value in kwargs.items()
            if any(v is not None and v is not False for v in keras.tree.flatten(value))
        }
        if len(args) != 1 or extra:
            raise self.emit.refusal(f"it is called with {sorted(extra) or f'{len(args)} inputs'}")
        if row is not None and row.becomes is not None:
            inputs = keras.tree.flatten(args[0])
            if any(isinstance(x, np.ndarray) for x in inputs):
                raise self.emit.refusal("one of its inputs is a constant")
            if row.takes_integers and all("float" in x.dtype for x in call.outputs):
                inputs = [self.emit.floating(x, f"cast{n or ''}") for n, x in enumerate(inputs)]
            inputs = keras.tree.pack_sequence_as(args[0], inputs)
            return row.becomes(operation, inputs, self.emit)
        if isinstance(operation, keras.Model):
            _check(operation)
            return self.run(as_functional(operation), args[0], f"{name}/", training)
        raise self.emit.refusal("tf_keras has no such layer")


def _used(graph: Graph) -> list[Call]:
    """The calls that an output depends on; zeros like a tensor do not depend on that."""
    wanted = {id(x) for x in graph.outputs}
    found = []
    for call in reversed(graph.calls):
        if any(id(x) in wanted for x in call.outputs):
            found.append(call)
            if type(call.operation).__name__ != "ZerosLike":
                wanted |= {id(x) for x in call.inputs}
    return found[::-1]


def _fixed(call: Call, args: Any, kwargs: Any) -> list[Any] | None:
    """What a call gives where no input changes it, as arrays: tables looked up at constants."""
    if type(call.operation).__name__ == "ZerosLike":
        dtype = keras.backend.standardize_dtype(call.outputs[0].dtype)
        return [np.zeros([size or 1 for size in call.outputs[0].shape], dtype)]
    flat = keras.tree.flatten
    known = [
        isinstance(given, np.ndarray)
        for x, given in zip(flat((call.args, call.kwargs)), flat((args, kwargs)), strict=True)
        if isinstance(x, keras.KerasTensor)
    ]
    if not known or not all(known):
        return None
    return [np.asarray(y) for y in keras.tree.flatten(call.operation(*args, **kwargs))]


def _alike(ours: Any, theirs: Any) -> bool:
    """Whether a tensor of Keras 3 and one of tf_keras agree in shape and kind of numbers."""
    pairs = zip(ours.shape, theirs.shape, strict=False)
    return (
        len(ours.shape) == len(theirs.shape)
        and all(a == b or None in (a, b) for a, b in pairs)
        and ("float" in keras.backend.standardize_dtype(ours.dtype)) == theirs.dtype.is_floating
    )


def weight_values(weights: dict[str, dict[str, Any]], layers: dict[str, Any]) -> list[Any]:
    """The Keras 3 variables with the values that the tf_keras layers have for them.

    Raises:
        ValueError: If a layer or weight is missing, or a shape differs.
    """
    pairs = []
    for name, expected in weights.items():
        found = variables(layers[name]) if name in layers else {}
        for weight, variable in expected.items():
            value = found.get(weight)
            if value is None or tuple(value.shape) != tuple(variable.shape):
                has = f"the shape {value.shape}" if value is not None else "no such weight"
                raise ValueError(
                    f"The trained model has no weight {weight!r} of shape "
                    f"{tuple(variable.shape)} in a layer {name!r}; give the Keras 3 model that it "
                    f"was made from. Received: {has}"
                )
            pairs.append((variable, value.numpy()))
    return pairs
