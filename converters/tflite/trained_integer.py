"""Models that were trained with quantisation, on their way to ``.tflite`` files.

Imports TensorFlow and `ulsam_keras.quantization` inside the functions that use them.
"""

from typing import Any

from converters.tflite.quiet import without_native_logs


def is_tf_keras_model(model: Any) -> bool:
    """Whether it is a model of tf_keras, which quantisation-aware training works in."""
    modules = {cls.__module__.split(".")[0] for cls in type(model).__mro__}
    return "tf_keras" in modules


def save_trained(model: Any, batch_size: int, folder: str) -> tuple[list[str], list[str]]:
    """Writes the SavedModel of a model from `ulsam_keras.quantization.quantize_model`.

    Args:
        model: The model, calibrated or trained; the ranges are in it.
        batch_size: The number of samples of a run.
        folder: Where to.

    Returns:
        The names of its inputs and of its outputs, in order.

    Raises:
        ImportError: If the extra `qat` is not installed.
        ValueError: If it is not such a model, or it is not fit to be converted.
    """
    import tensorflow as tf

    from ulsam_keras.quantization import inference_function

    inference = inference_function(model, batch_size)
    with without_native_logs():
        tf.saved_model.save(inference.trackable, folder, signatures=inference.function)
    return [*inference.input_shapes], inference.output_names
