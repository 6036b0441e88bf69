"""How Keras 3's stock layers are written in tf_keras; `table.py` says which goes by which function.

Imports Keras and NumPy, and tf_keras inside functions only.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ulsam_keras.quantization.extra import tf_keras

if TYPE_CHECKING:
    from ulsam_keras.quantization.bridge.emitter import Emitter

Bridge = Callable[[Any, Any, Any], Any]


# Arguments without a meaning in a float32 tf_keras model whose weights are copied afterwards.
_DROPPED = frozenset(
    {
        "dtype",
        "autocast",
        "quantization_config",
        "lora_rank",
        "lora_alpha",
        "gptq_unpacked_column_size",
    }
)


def same(*weights: str, renamed: Mapping[str, str] | None = None, **others: str) -> Bridge:
    """A layer that tf_keras has under the same name and that computes the same there.

    Its activation becomes a layer of its own.

    Args:
        *weights: The attributes of its weights.
        renamed: The Keras 3 argument, and the tf_keras one.
        **others: The attribute of the tf_keras layer, and that of the Keras 3 layer.
    """
    names = {**dict(zip(weights, weights, strict=True)), **others}

    def bridge(layer: Any, inputs: Any, emit: "Emitter") -> Any:
        config = layer.get_config()
        function = activation_name(layer, emit) if "activation" in config else "linear"
        config.pop("activation", None)
        layer_class = _tf_class(type(layer).__name__)
        arguments = _arguments(layer, layer_class, config, renamed or {}, emit)
        values = {
            theirs: getattr(layer, ours)
            for theirs, ours in names.items()
            if getattr(layer, ours, None) is not None
        }
        # The last part has the layer's own name, so that outputs keep theirs.
        name = emit.name("" if function == "linear" else "linear")
        x = emit(layer_class(**arguments, name=name), inputs, weights=values)
        return emit.activation(function, x)

    return bridge


def _tf_class(name: str) -> Any:
    if name == "BatchNormalization":
        from ulsam_keras.quantization.tf_layers import BatchNormalization

        return BatchNormalization
    return getattr(tf_keras().layers, name)


def activation_name(layer: Any, emit: "Emitter") -> Any:
    """The name of a layer's activation, Keras 3's own one."""
    activation = layer.activation
    if isinstance(activation, keras.layers.Layer):
        raise emit.refusal("its activation is a layer; call that on its output instead")
    name = getattr(activation, "__name__", None)
    if not hasattr(keras.activations, str(name)) or keras.activations.get(name) is not activation:
        raise emit.refusal(f"its activation {name or activation!r} is not one of Keras's own")
    return name


def _arguments(
    layer: Any,
    layer_class: Any,
    config: dict[str, Any],
    renamed: Mapping[str, str],
    emit: "Emitter",
) -> dict[str, Any]:
    """The arguments of the tf_keras layer."""
    known = {
        parameter
        for base in layer_class.__mro__
        if "__init__" in vars(base)
        for parameter in inspect.signature(base.__init__).parameters
    }
    defaults = inspect.signature(type(layer).__init__).parameters
    arguments: dict[str, Any] = {}
    for key, value in config.items():
        # The weights are copied: how they began does not matter.
        if key == "name" or key in _DROPPED or key.endswith("_initializer"):
            continue
        if key in renamed:
            key = renamed[key]
        elif key not in known:
            if value and (key not in defaults or value != defaults[key].default):
                raise emit.refusal(f"its option {key}={value!r} has no counterpart")
            continue
        if key.endswith(("_regularizer", "_constraint")):
            value = legacy(key, value, emit)
        arguments[key] = value
    return arguments


def legacy(key: str, value: Any, emit: "Emitter") -> Any:
    """A regularizer or constraint of Keras, made again from its configuration."""
    if value is None:
        return None
    kind = "regularizers" if key.endswith("_regularizer") else "constraints"
    made = getattr(getattr(tf_keras(), kind), str(value.get("class_name")), None)
    if made is None or value.get("registered_name") not in (None, value["class_name"]):
        raise emit.refusal(f"its {key} {value.get('class_name')!r} has no counterpart")
    return made(**value["config"])


def activation(layer: Any, inputs: Any, emit: "Emitter") -> Any:
    """The activation alone."""
    return emit.activation(activation_name(layer, emit), inputs)


def identity(layer: Any, inputs: Any, emit: "Emitter") -> Any:
    """Nothing."""
    return inputs


def merge(layer: Any, inputs: Any, emit: "Emitter") -> Any:
    """The layer of the same name, of two tensors at a time."""
    return emit.merge(type(layer).__name__, list(inputs))


def average(layer: Any, inputs: Any, emit: "Emitter") -> Any:
    """A sum, then a product with a number."""
    total = emit.merge("Add", list(inputs), part="sum")
    return emit.affine(total, scale=1.0 / len(inputs))


def rescaling(layer: Any, inputs: Any, emit: "Emitter") -> Any:
    """A scale and an offset."""
    scale = np.asarray(layer.scale)
    if scale.ndim and keras.config.image_data_format() == "channels_first":
        # As Keras does when it is called, to the scale and not to the offset.
        scale = scale.reshape(scale.shape + (1,) * (3 - scale.ndim))
    return emit.affine(inputs, scale, layer.offset)


def normalization(layer: Any, inputs: Any, emit: "Emitter") -> Any:
    """A scale and an offset."""
    mean, variance = (keras.ops.convert_to_numpy(value) for value in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    if layer.invert:
        return emit.affine(inputs, deviation, mean)
    return emit.affine(inputs, 1.0 / deviation, -mean / deviation)


def separable(layer: Any, inputs: Any, emit: "Emitter") -> Any:
    """A depthwise and a 1x1 convolution."""
    layers = tf_keras().layers
    function = activation_name(layer, emit)
    config = layer.get_config()
    depthwise = layers.DepthwiseConv2D(
        layer.kernel_size,
        layer.strides,
        layer.padding,
        depth_multiplier=layer.depth_multiplier,
        data_format=layer.data_format,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        depthwise_regularizer=legacy(
            "depthwise_regularizer", config["depthwise_regularizer"], emit
        ),
        depthwise_constraint=legacy("depthwise_constraint", config["depthwise_constraint"], emit),
        name=emit.name("depthwise"),
    )
    pointwise = layers.Conv2D(
        layer.filters,
        1,
        data_format=layer.data_format,
        use_bias=layer.use_bias,
        kernel_regularizer=legacy("pointwise_regularizer", config["pointwise_regularizer"], emit),
        kernel_constraint=legacy("pointwise_constraint", config["pointwise_constraint"], emit),
        bias_regularizer=legacy("bias_regularizer", config["bias_regularizer"], emit),
        bias_constraint=legacy("bias_constraint", config["bias_constraint"], emit),
        name=emit.name("" if function == "linear" else "pointwise"),
    )
    x = emit(depthwise, inputs, weights={"depthwise_kernel": layer.depthwise_kernel})
    weights = {"kernel": layer.pointwise_kernel}
    if layer.use_bias:
        weights["bias"] = layer.bias
    return emit.activation(function, emit(pointwise, x, weights=weights))
