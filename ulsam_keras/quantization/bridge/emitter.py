"""What collects the tf_keras layers of a bridged model, call by call.

Imports Keras and NumPy, and tf_keras inside functions only.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ulsam_keras.quantization.bridge.activations import ACTIVATIONS
from ulsam_keras.quantization.bridge.table import Row, recipe_for
from ulsam_keras.quantization.extra import tf_keras
from ulsam_keras.quantization.plan import Recipe


def variables(layer: Any) -> dict[str, Any]:
    """The variables of a tf_keras layer, or of the wrapper round one, by their own names.

    Not by attribute: a quantising wrapper puts tensors in the place of attributes.
    """
    return {weight.name.split("/")[-1].split(":")[0]: weight for weight in layer.weights}


@dataclass(frozen=True)
class Step:
    """One call of a tf_keras layer.

    Attributes:
        layer: The tf_keras layer.
        recipe: How it is quantised.
        inputs: The tensor it is called on, or the list of them.
        kwargs: Further call arguments: `training`, where the Keras 3 model fixes it.
        output: The tensor it gives.
        source: The name of the Keras 3 layer it comes from, `"nested/layer"` in a nested model.
        quantize: Whether it may be quantised.
    """

    layer: Any
    recipe: Recipe
    inputs: Any
    kwargs: Mapping[str, Any]
    output: Any
    source: str
    quantize: bool


class Emitter:
    """Takes tf_keras layers, one call at a time; handlers see it as `emit`.

    Attributes:
        attention: The form of the softmax in the attention.
        steps: The calls so far.
        weights: By name of the tf_keras layer: the name of its weight, and the Keras 3 variable
            that the value comes from.
    """

    def __init__(self, attention: str, frozen: bool = False) -> None:
        self.attention = attention
        self._frozen = frozen
        self.steps: list[Step] = []
        self.weights: dict[str, dict[str, Any]] = {}
        self._layers: dict[str, Any] = {}
        self._names: dict[tuple[int, str], str] = {}
        self._taken: set[str] = set()
        # The Keras 3 objects, kept so that an id stays the name of one of them.
        self._seen: list[Any] = []
        self._operation: Any = None
        self._prefix = ""
        self._training: bool | None = None
        self._row = Row()

    def enter(
        self, operation: Any, prefix: str, training: bool | None = None, row: Row | None = None
    ) -> None:
        """Says which Keras 3 layer or operation the next calls come from, and its row if any."""
        self._operation, self._prefix = operation, prefix
        self._training, self._row = training, row or Row()
        self._seen.append(operation)

    def name(self, part: str = "") -> str:
        """The name of a tf_keras layer: unique, and the same for every call of a shared layer."""
        key = (id(self._operation), part)
        if key not in self._names:
            base = self._prefix + self._operation.name + (f"_{part}" if part else "")
            self._names[key] = self.free(base)
        return self._names[key]

    def free(self, name: str) -> str:
        """The name, or the like of it, that TensorFlow knows and nothing else has."""
        name = re.sub(r"[^A-Za-z0-9_.\-/]", "_", name)
        name = base = name if re.match("[A-Za-z0-9.]", name) else f"layer{name}"
        number = 1
        while name in self._taken:
            name, number = f"{base}_{number}", number + 1
        self._taken.add(name)
        return name

    def __call__(self, layer: Any, inputs: Any, *, weights: Mapping[str, Any] | None = None) -> Any:
        """Calls a tf_keras layer; a layer of the same name is called in its place, if there is one.

        Args:
            layer: The tf_keras layer, named by `name`.
            inputs: The tensor to call it on, or a list of them.
            weights: Attributes of the layer, and the Keras 3 variables their values come from.

        Returns:
            The output tensor.

        Raises:
            ValueError: If an attribute is not a weight of the layer, or differs in shape.
        """
        if layer.name not in self._names.values():
            raise ValueError(
                f"Give the tf_keras layers of {self._operation.name!r} the names that emit.name() "
                f"or emit.name('part') gives. Received: {layer.name!r}"
            )
        layer = self._layers.setdefault(layer.name, layer)
        if self._frozen or not getattr(self._operation, "trainable", True):
            layer.trainable = False
        kwargs = {}
        if self._training is not None and "training" in inspect.signature(layer.call).parameters:
            kwargs["training"] = self._training
        output = layer(inputs, **kwargs)
        own = variables(layer)
        pairs = {}
        for attribute, variable in (weights or {}).items():
            weight: Any = getattr(layer, attribute, None)
            names = [name for name, candidate in own.items() if candidate is weight]
            if not names or tuple(weight.shape) != tuple(variable.shape):
                raise ValueError(
                    f"Layer {self._operation.name!r} gives {attribute!r} of its tf_keras layer a "
                    "variable; that must be a weight of the same shape. Received: "
                    f"{tuple(variable.shape)} for {getattr(weight, 'shape', None)}"
                )
            learns = any(weight is candidate for candidate in layer.trainable_weights)
            if learns and not variable.trainable:
                raise self.refusal(
                    f"its weight {variable.name!r} is frozen by itself; freeze the whole layer"
                )
            pairs[names[0]] = variable
        self.weights.setdefault(layer.name, pairs)
        source = self._prefix + self._operation.name
        recipe, quantize = recipe_for(layer, self._row), self._row.quantize
        self.steps.append(Step(layer, recipe, inputs, kwargs, output, source, quantize))
        return output

    def activation(self, name: str, x: Any, part: str = "") -> Any:
        """A Keras 3 activation, by its name."""
        if name not in ACTIVATIONS:
            raise self.refusal(f"the activation {name!r} has no counterpart")
        return ACTIVATIONS[name](x, part, self)

    def merge(self, class_name: str, inputs: list[Any], part: str = "") -> Any:
        """Add, Multiply and so on, two tensors at a time: each LiteRT operator has a range."""
        layer_class = getattr(tf_keras().layers, class_name)
        x = inputs[0]
        for number, other in enumerate(inputs[1:]):
            suffix = part if number == len(inputs) - 2 else f"{part}{number}"
            x = self(layer_class(name=self.name(suffix)), [x, other])
        return x

    def floating(self, x: Any, part: str) -> Any:
        """Integers, of an image for example, as float32."""
        if x.dtype.is_floating:
            return x
        from ulsam_keras.quantization.tf_layers import Cast

        return self(Cast(name=self.name(part)), x)

    def affine(self, x: Any, scale: Any = 1.0, offset: Any = 0.0, part: str = "") -> Any:
        """`x * scale + offset`, with constants as they are broadcast against x."""
        layers = tf_keras().layers
        x = self.floating(x, f"{part}cast")
        scale, offset = (self._per_channel(value, x) for value in (scale, offset))
        scalars = scale.ndim == offset.ndim == 0
        both = not (np.all(scale == 1) or np.all(offset == 0))
        if len(x.shape) == 4 and (both or not scalars):
            from ulsam_keras.quantization.tf_layers import ChannelAffine

            return self(ChannelAffine(scale, offset, name=self.name(part)), x)
        if not np.all(scale == 1) or np.all(offset == 0):
            name = self.name(f"{part}scale" if both else part)
            x = self(layers.Rescaling(scale.tolist(), name=name), x)
        if not np.all(offset == 0):
            x = self(layers.Rescaling(1.0, offset.tolist(), name=self.name(part)), x)
        return x

    def _per_channel(self, value: Any, x: Any) -> np.ndarray:
        """A constant as a number, or as one for each index of the last axis."""
        value = np.asarray(value, "float32")
        if value.size == 1 and value.ndim <= len(x.shape):
            return value.reshape(())
        sizes = (1,) * (len(x.shape) - value.ndim) + value.shape
        if sizes != (1,) * (len(x.shape) - 1) + (x.shape[-1],):
            raise self.refusal(
                f"it has a constant of shape {value.shape} for a tensor of shape {tuple(x.shape)}, "
                "which is not one number for all of it or for each index of its last axis"
            )
        return value.reshape(-1)

    def refusal(self, reason: str) -> "RefusedError":
        """The error for what cannot be bridged."""
        operation = self._operation
        kind = type(operation).__name__
        # A function is registered for a layer class; a bare operation is put into one first.
        layer = kind if isinstance(operation, keras.layers.Layer) else "YourLayer"
        received = f"{type(operation).__module__}.{kind}"
        return RefusedError({(kind, reason, layer, received): (self._prefix + operation.name,)})


class RefusedError(ValueError):
    """What cannot be bridged, all that is alike in one clause.

    Attributes:
        found: Names, by what they are, why not, what to register and what was received.
    """

    def __init__(self, found: Mapping[tuple[str, str, str, str], Sequence[str]]) -> None:
        self.found = found
        clauses = []
        for (kind, reason, *_), names in found.items():
            shown = ", ".join(map(repr, names[:3])) + (
                f" and {len(names) - 3} more" if len(names) > 3 else ""
            )
            clauses.append(f"{shown} ({kind}) cannot be bridged to tf_keras: {reason}")
        layers, received = ([*dict.fromkeys(entry[n] for entry in found)] for n in (2, 3))
        super().__init__(
            f"{'; '.join(clauses)}. Write it with layers that can, or as a layer class of your own "
            "with a function registered by "
            f"@ulsam_keras.quantization.bridges({' or '.join(layers)}). "
            f"Received: {', '.join(received)}"
        )

    @classmethod
    def of(cls, errors: "Sequence[RefusedError]") -> "RefusedError":
        """One for several."""
        found: dict[tuple[str, str, str, str], tuple[str, ...]] = {}
        for error in errors:
            for what, names in error.found.items():
                found[what] = tuple(dict.fromkeys((*found.get(what, ()), *names)))
        return cls(found)
