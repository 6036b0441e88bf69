"""`inference_function`: the quantised model as the LiteRT converter takes it.

Imports NumPy, and TensorFlow inside functions only.
"""

import re
from dataclasses import dataclass
from typing import Any

from ulsam_keras.quantization.quantize import PREFIX, check_finite, check_quantized


@dataclass(frozen=True)
class Inference:
    """A quantised model, traced for inference with static shapes.

    Attributes:
        function: The concrete function, `{output name: tensor}` of named inputs.
        trackable: The object that holds the function and its variables. The converter saves what
            hangs on the object it is given: with the model itself that is every layer's call
            functions, which takes a minute; with this one it is a second.
        input_shapes: The shape of each input, by name.
        output_names: The names of the outputs.
    """

    function: Any
    trackable: Any
    input_shapes: dict[str, tuple[int, ...]]
    output_names: list[str]


def inference_function(q: Any, batch_size: int = 1) -> Inference:
    """The function of a quantised model that an int8 LiteRT model is made of.

    To convert it:

    ```python
    inference = inference_function(q)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [inference.function], inference.trackable
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8  # or tf.float32
    content = converter.convert()
    ```

    A representative dataset is not needed, the ranges are in the function; so
    `target_spec.supported_ops` is left alone, since `TFLITE_BUILTINS_INT8` asks for one.

    Args:
        q: A model from `quantize_model`, calibrated or trained.
        batch_size: Integer, the number of samples of a call. Defaults to 1.

    Returns:
        An `Inference`.

    Raises:
        ValueError: If `q` is not such a model, was neither calibrated nor trained, holds weights
            or ranges that are not finite (the converter crashes on them), or leaves another
            dimension than the batch open.
    """
    check_quantized(q)
    _check_variables(q)
    import tensorflow as tf

    from ulsam_keras.quantization.shared_range import exporting

    structure = q.input
    tensors = tf.nest.flatten(structure)
    specs = [
        tf.TensorSpec(
            (batch_size, *tensor.shape[1:]), tensor.dtype, _identifier(layer_name, "input")
        )
        for tensor, layer_name in zip(tensors, q.input_names, strict=True)
    ]
    if any(None in spec.shape for spec in specs):
        raise ValueError(
            "The model must know its input sizes; give them in the keras.Input of the Keras 3 "
            f"model. Received: input shapes {[tuple(tensor.shape) for tensor in tensors]}"
        )
    names = (
        sorted(q.output)
        if isinstance(q.output, dict)
        else [n.removeprefix(PREFIX) for n in q.output_names]
    )
    output_names = [_identifier(name, "output") for name in names]

    def forward(*inputs: Any) -> dict[str, Any]:
        outputs = q(tf.nest.pack_sequence_as(structure, inputs), training=False)
        return dict(zip(output_names, tf.nest.flatten(outputs), strict=True))

    function = tf.function(forward, input_signature=specs, autograph=False)
    with exporting():
        concrete = function.get_concrete_function()
    trackable = tf.Module()
    trackable.function = function
    trackable.model_variables = list(q.variables)
    return Inference(
        concrete,
        trackable,
        {spec.name: tuple(spec.shape) for spec in specs},
        output_names,
    )


def _check_variables(q: Any) -> None:
    check_finite(q)
    # As the quantisers of tfmot begin.
    ends = {"_min": -6.0, "_max": 6.0}
    ranges = [
        (v.numpy(), ends[name[-4:]])
        for v in q.variables
        if (name := v.name.split(":")[0]).endswith(tuple(ends))
    ]
    if ranges and all(value == start for value, start in ranges):
        raise ValueError(
            "The quantised model has never seen data; call calibrate(q, batches), or train it. "
            "Received: every range at its start, [-6, 6]"
        )


def _identifier(name: str, kind: str) -> str:
    """A name that a signature may have."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    return name if re.match("[A-Za-z]", name) else f"{kind}_{name.lstrip('_')}"
