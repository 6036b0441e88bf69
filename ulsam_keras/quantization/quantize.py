"""`quantize_model`: a Keras 3 model to a tf_keras model with tfmot's wrappers.

Imports Keras and NumPy, and tf_keras and tensorflow-model-optimization inside functions only.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from ulsam_keras.quantization.bridge.build import Bridged, bridge, copy_weights
from ulsam_keras.quantization.bridge.emitter import Step, variables
from ulsam_keras.quantization.extra import tf_keras, tfmot
from ulsam_keras.quantization.plan import decide
from ulsam_keras.quantization.ranges import Group, Place, places

# The prefix of a quantised layer's name, tfmot's own.
PREFIX = "quant_"


def quantize_model(
    model: keras.Model,
    *,
    attention: str = "log_softmax",
    quantize: Mapping[str, bool] | None = None,
) -> Any:
    """Prepares a Keras 3 model for quantisation-aware training.

    The result is a tf_keras model in which every tensor that an int8 LiteRT model rounds is
    rounded the same way, with tfmot's `QuantizeWrapperV2` around each layer. Weights are rounded
    per channel (per tensor in `Dense` and `Conv2DTranspose`), activations to 8 bits over ranges
    that follow the data. Batch normalizations and ReLUs are taken as part of the convolution
    before them. ULSAM becomes its parts. What has no int8 operator stays a float operator between
    int8 ones: elu, selu, softplus, softsign, and a ReLU with a slope, a threshold or another
    maximum than 6.

    The order is: train the Keras 3 model; `quantize_model`; `calibrate`; compile and fit the
    result; `converters.to_tflite(q, precision="int8")`; `restore`.

    Args:
        model: A functional or built Sequential Keras 3 model, trained. It is left as it is.
        attention: How the int8 model computes the softmax of the attention. `"log_softmax"`: the
            exponential of the log-softmax, which keeps maps of any size alive. `"softmax"`: the
            softmax operator, whose fixed step of 1/256 makes flat maps of more than about 16 x 16
            positions zeros. `"float"`: exponential, sum and quotient in float. Defaults to
            `"log_softmax"`.
        quantize: For names of layers of `model`, whether to quantise them; a layer in a nested
            model goes by `"nested/layer"`. With `False` nothing is rounded in a layer, nor in the
            norm and ReLU that belong to it, and an int8 model computes these and the layers that
            read them on float tensors. Layers that only move values, pools among them, do as their
            inputs do. A convolution whose output is concatenated with quantised ones becomes int8
            in the file all the same, its weights rounded by the converter. Defaults to `None`: all
            layers are quantised, but for those that `bridges` says are not.

    Returns:
        A `tf_keras.Model`, not compiled.

    Raises:
        ImportError: If the extra `qat` is not installed.
        ValueError: If the model is not as above, if something in it cannot be bridged to tf_keras
            (the message names it), or if `attention` or a name in `quantize` is unknown.

    Example:

    >>> q = quantization.quantize_model(model)
    >>> quantization.calibrate(q, batches)
    >>> q.compile("adam", "sparse_categorical_crossentropy")
    >>> q.fit(images, labels)
    """
    tfmot()
    bridged = bridge(model, attention=attention)
    q = _wrapped(bridged, _chosen(bridged, quantize))
    copy_weights(bridged.weights, layers_by_name(q))
    return q


def scope() -> Any:
    """The scope in which models from `quantize_model` are loaded and cloned.

    tfmot's `quantize_scope`, with the layers, configs and quantisers of this package.

    Returns:
        A context manager.

    Raises:
        ImportError: If the extra `qat` is not installed.

    Example:

    >>> with quantization.scope():
    ...     q = tf_keras.models.load_model("q.h5")
    """
    keras_quantization = tfmot()
    from ulsam_keras.quantization.configs import CONFIGS
    from ulsam_keras.quantization.quantizers import QUANTIZERS
    from ulsam_keras.quantization.shared_range import SharedRange
    from ulsam_keras.quantization.tf_layers import LAYERS
    from ulsam_keras.quantization.wrapper import FreezableQuantizeWrapper

    own = {layer.__name__: layer for layer in (SharedRange, FreezableQuantizeWrapper)}
    return keras_quantization.quantize_scope({**LAYERS, **CONFIGS, **QUANTIZERS, **own})


def layers_by_name(q: Any) -> dict[str, Any]:
    """The wrappers of a quantised model, by the names of what they wrap."""
    return {x.layer.name: x for x in q.layers if isinstance(x, tfmot().QuantizeWrapper)}


def is_quantized(q: Any) -> bool:
    """Whether it is a tf_keras model with tfmot's wrappers."""
    return isinstance(q, tf_keras().Model) and any(
        isinstance(layer, tfmot().QuantizeWrapper) for layer in q.layers
    )


def check_quantized(q: Any) -> None:
    """Raises a ValueError unless it is a tf_keras model with tfmot's wrappers."""
    if not is_quantized(q):
        raise ValueError(
            "`q` must be a model from ulsam_keras.quantization.quantize_model. Received: "
            f"{type(q).__module__}.{type(q).__qualname__}"
        )


def check_finite(q: Any) -> None:
    """Raises a ValueError unless all weights and ranges of a quantised model are finite."""
    bad = [
        f"{layer.name}/{name}"
        for layer in q.layers
        for name, variable in variables(layer).items()
        if not np.isfinite(variable.numpy()).all()
    ]
    if bad:
        raise ValueError(
            "The quantised model must have finite weights and ranges; load a checkpoint from "
            f"before the loss became NaN. Received: NaN or infinity in {bad[:3]}"
        )


def _chosen(bridged: Bridged, quantize: Mapping[str, bool] | None) -> Mapping[str, bool]:
    chosen = dict(quantize or {})
    unknown = sorted(set(chosen) - bridged.names)
    if unknown:
        raise ValueError(
            "`quantize` pairs names of the model's layers with True or False; the model has no "
            f"such layers. Received: {unknown}"
        )
    return chosen


def _copy(step: Step) -> Any:
    try:
        return type(step.layer).from_config(step.layer.get_config())
    except (NotImplementedError, TypeError) as error:
        raise ValueError(
            f"{step.source!r} is bridged to a tf_keras layer that cannot be made again; give "
            f"{type(step.layer).__name__} a get_config() with all arguments of its __init__. "
            f"Received: {str(error).strip().splitlines()[0]}"
        ) from error


def _wrapped(bridged: Bridged, chosen: Mapping[str, bool]) -> Any:
    """The bridged model built once more, each layer in a wrapper with its QuantizeConfig.

    What tfmot's `quantize_apply` does too, after it has cloned the model three times.
    """
    keras2 = tf_keras()
    from ulsam_keras.quantization.configs import LayerQuantizeConfig
    from ulsam_keras.quantization.shared_range import SharedRange
    from ulsam_keras.quantization.tf_layers import ConvBatchNormalization
    from ulsam_keras.quantization.wrapper import FreezableQuantizeWrapper

    nest = keras.tree
    inputs, outputs = nest.flatten(bridged.model.input), nest.flatten(bridged.model.output)
    decisions = decide(bridged.steps, outputs, chosen)
    at_inputs, at_steps = places(inputs, bridged.steps, decisions)
    # The name of a range may be that of a layer too.
    wrappers: dict[str, Any] = {}
    ranges: dict[str, Any] = {}
    taken = {PREFIX + step.layer.name for step in bridged.steps} | {*bridged.model.input_names}
    values: dict[int, Any] = {}
    setting: dict[Group, list[Any]] = {}
    # The mode that the Keras 3 model fixes is the layer's, and must not be its range's.
    fixed = {step.layer.name for step in bridged.steps if step.kwargs}

    def range_layer(name: str) -> Any:
        if name not in ranges:
            unique = PREFIX + name
            while unique in taken:
                unique += "_"
            taken.add(unique)
            ranges[name] = SharedRange(name=unique)
        return ranges[name]

    def rounded(x: Any, place: Place) -> Any:
        if place.group is None:
            return x
        layer = range_layer(place.group.name)
        if not place.sets:
            return layer(x, training=False, **({"averaged": True} if place.averaged else {}))
        set_by = setting.setdefault(place.group, [])
        set_by.append(x)
        # The last one moves the range, by all that have set it.
        if len(set_by) < place.group.size:
            return layer(x, training=False)
        return layer([x, *set_by[:-1]] if len(set_by) > 1 else x)

    flat_inputs = []
    for old, name, place in zip(inputs, bridged.model.input_names, at_inputs, strict=True):
        x = keras2.Input(old.shape[1:], batch_size=old.shape[0], dtype=old.dtype, name=name)
        flat_inputs.append(x)
        x = range_layer(f"{name}_range")(x) if place.output else x
        values[id(old)] = rounded(x, place)
    for step, decision, place in zip(bridged.steps, decisions, at_steps, strict=True):
        x = nest.map_structure(lambda tensor: values[id(tensor)], step.inputs)
        name = step.layer.name
        by_itself = name in fixed and place.output == "moving"
        if name not in wrappers:
            layer = _copy(step)
            if decision.alone:
                layer = ConvBatchNormalization(**layer.get_config())
            config = step.recipe.arguments(fused=True) if decision.quantize else {}
            config = LayerQuantizeConfig(
                **{**config, "output": None if by_itself else place.output}
            )
            wrappers[name] = FreezableQuantizeWrapper(layer, config, name_prefix=PREFIX)
        y = wrappers[name](x, **step.kwargs)
        y = range_layer(f"{name}_output_range")(y) if by_itself else y
        values[id(step.output)] = rounded(y, place)
    return keras2.Model(
        nest.pack_sequence_as(bridged.model.input, flat_inputs),
        nest.map_structure(lambda tensor: values[id(tensor)], bridged.model.output),
        name=bridged.model.name,
    )
