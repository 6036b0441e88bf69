"""int8 ``.tflite`` files of models that were trained with quantisation.

Imports TensorFlow and `ulsam_keras.quantization` inside the functions that use them.
"""

from typing import Any

from converters.tflite.quiet import without_native_logs


def is_tf_keras_model(model: Any) -> bool:
    """Whether it is a model of tf_keras, which quantisation-aware training works in."""
    modules = {cls.__module__.split(".")[0] for cls in type(model).__mro__}
    return "tf_keras" in modules


def convert_trained(model: Any, inference_type: str, batch_size: int) -> bytes:
    """Converts a model from `ulsam_keras.quantization.quantize_model`, with the ranges in it.

    Args:
        model: The model, calibrated or trained.
        inference_type: The type of inputs and outputs.
        batch_size: The number of samples of a run.

    Returns:
        The content of the file.

    Raises:
        ImportError: If the extra `qat` is not installed.
        ValueError: If it is not such a model, or it is not fit to be converted.
    """
    import tensorflow as tf

    from ulsam_keras.quantization import inference_function

    inference = inference_function(model, batch_size)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [inference.function], inference.trackable
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.as_dtype(inference_type)
    converter.inference_output_type = tf.as_dtype(inference_type)
    with without_native_logs():
        return converter.convert()
