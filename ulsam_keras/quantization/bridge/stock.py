"""The bridging of Keras 3's stock layers, from the tables of `tables.py`.

Imports Keras and NumPy, and tf_keras inside functions only.
"""

import inspect
from typing import Any

import keras
import numpy as np

from ulsam_keras.quantization.bridge.emitter import Emitter
from ulsam_keras.quantization.bridge.registry import bridges
from ulsam_keras.quantization.bridge.tables import DROPPED, STOCK
from ulsam_keras.quantization.extra import tf_keras


def is_stock(layer: Any) -> bool:
    """Whether the layer is of one of the classes of the table, and not of a subclass."""
    name = type(layer).__name__
    return name in STOCK and type(layer) is getattr(keras.layers, name)


def bridge_stock(layer: Any, inputs: Any, emit: Emitter) -> Any:
    """Bridges a layer of the table; its activation becomes a layer of its own."""
    entry = STOCK[type(layer).__name__]
    config = layer.get_config()
    activation = _activation(layer, emit) if "activation" in config else "linear"
    config.pop("activation", None)
    arguments = _arguments(layer, config, emit)
    layer_class = _tf_class(type(layer).__name__)
    weights = {
        theirs: getattr(layer, ours)
        for theirs, ours in entry.weights.items()
        if getattr(layer, ours, None) is not None
    }
    # The last part has the layer's own name, so that outputs keep theirs.
    name = emit.name("" if activation == "linear" else "linear")
    x = emit(layer_class(**arguments, name=name), inputs, weights=weights)
    return emit.activation(activation, x)


def _tf_class(name: str) -> Any:
    if name == "BatchNormalization":
        from ulsam_keras.quantization.tf_layers import BatchNormalization

        return BatchNormalization
    return getattr(tf_keras().layers, name)


def _activation(layer: Any, emit: Emitter) -> Any:
    """The name of a layer's activation, Keras 3's own one."""
    activation = layer.activation
    if isinstance(activation, keras.layers.Layer):
        raise emit.refusal("its activation is a layer; call that on its output instead")
    name = getattr(activation, "__name__", None)
    if not hasattr(keras.activations, str(name)) or keras.activations.get(name) is not activation:
        raise emit.refusal(f"its activation {name or activation!r} is not one of Keras's own")
    return name


def _arguments(layer: Any, config: dict[str, Any], emit: Emitter) -> dict[str, Any]:
    """The arguments of the tf_keras layer."""
    name = type(layer).__name__
    layer_class = _tf_class(name)
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
        if key == "name" or key in DROPPED or key.endswith("_initializer"):
            continue
        if key in STOCK[name].renamed:
            key = STOCK[name].renamed[key]
        elif key not in known:
            if value and (key not in defaults or value != defaults[key].default):
                raise emit.refusal(f"its option {key}={value!r} has no counterpart")
            continue
        if key.endswith(("_regularizer", "_constraint")):
            value = _legacy(key, value, emit)
        arguments[key] = value
    return arguments


def _legacy(key: str, value: Any, emit: Emitter) -> Any:
    """A regularizer or constraint of Keras, made again from its configuration."""
    if value is None:
        return None
    kind = "regularizers" if key.endswith("_regularizer") else "constraints"
    made = getattr(getattr(tf_keras(), kind), str(value.get("class_name")), None)
    if made is None or value.get("registered_name") not in (None, value["class_name"]):
        raise emit.refusal(f"its {key} {value.get('class_name')!r} has no counterpart")
    return made(**value["config"])


@bridges(keras.layers.Activation)
def _bridge_activation(layer: Any, inputs: Any, emit: Emitter) -> Any:
    return emit.activation(_activation(layer, emit), inputs)


@bridges(keras.layers.Identity)
def _bridge_identity(layer: Any, inputs: Any, emit: Emitter) -> Any:
    return inputs


def _bridge_merge(layer: Any, inputs: Any, emit: Emitter) -> Any:
    return emit.merge(type(layer).__name__, list(inputs))


for _class in (
    keras.layers.Add,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Multiply,
    keras.layers.Subtract,
):
    bridges(_class)(_bridge_merge)


@bridges(keras.layers.Average)
def _bridge_average(layer: Any, inputs: Any, emit: Emitter) -> Any:
    total = emit.merge("Add", list(inputs), part="sum")
    return emit.affine(total, scale=1.0 / len(inputs))


@bridges(keras.layers.Rescaling)
def _bridge_rescaling(layer: Any, inputs: Any, emit: Emitter) -> Any:
    scale = np.asarray(layer.scale)
    if scale.ndim and keras.config.image_data_format() == "channels_first":
        # As Keras does when it is called, to the scale and not to the offset.
        scale = scale.reshape(scale.shape + (1,) * (3 - scale.ndim))
    return emit.affine(inputs, scale, layer.offset)


@bridges(keras.layers.Normalization)
def _bridge_normalization(layer: Any, inputs: Any, emit: Emitter) -> Any:
    mean, variance = (keras.ops.convert_to_numpy(value) for value in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    if layer.invert:
        return emit.affine(inputs, deviation, mean)
    return emit.affine(inputs, 1.0 / deviation, -mean / deviation)


@bridges(keras.layers.SeparableConv2D)
def _bridge_separable(layer: Any, inputs: Any, emit: Emitter) -> Any:
    layers = tf_keras().layers
    activation = _activation(layer, emit)
    config = layer.get_config()
    depthwise = layers.DepthwiseConv2D(
        layer.kernel_size,
        layer.strides,
        layer.padding,
        depth_multiplier=layer.depth_multiplier,
        data_format=layer.data_format,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        depthwise_regularizer=_legacy(
            "depthwise_regularizer", config["depthwise_regularizer"], emit
        ),
        depthwise_constraint=_legacy("depthwise_constraint", config["depthwise_constraint"], emit),
        name=emit.name("depthwise"),
    )
    pointwise = layers.Conv2D(
        layer.filters,
        1,
        data_format=layer.data_format,
        use_bias=layer.use_bias,
        kernel_regularizer=_legacy("pointwise_regularizer", config["pointwise_regularizer"], emit),
        kernel_constraint=_legacy("pointwise_constraint", config["pointwise_constraint"], emit),
        bias_regularizer=_legacy("bias_regularizer", config["bias_regularizer"], emit),
        bias_constraint=_legacy("bias_constraint", config["bias_constraint"], emit),
        name=emit.name("" if activation == "linear" else "pointwise"),
    )
    x = emit(depthwise, inputs, weights={"depthwise_kernel": layer.depthwise_kernel})
    weights = {"kernel": layer.pointwise_kernel}
    if layer.use_bias:
        weights["bias"] = layer.bias
    return emit.activation(activation, emit(pointwise, x, weights=weights))
