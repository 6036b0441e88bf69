"""Full-integer conversion after training: the converter's calls.

Imports the flatbuffer reader and NumPy; TensorFlow inside functions.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from converters.tflite.flatbuffer import TfliteFile, packed
from converters.tflite.options import Options
from converters.tflite.sites import find_sites

# Above the step that the converter gives a tensor of zeros, 2e-6 / 255, and below any other.
_RANGE_OF_ZEROS = 1e-8

Progress = Callable[[int, int], None]


def convert_integer(
    converter: Any,
    options: Options,
    batches: Sequence[dict[str, np.ndarray]],
    floats: Sequence[str],
    progress: Progress | None,
) -> TfliteFile:
    """Converts with ranges from data: weights per channel, activations per tensor.

    Args:
        converter: A `tf.lite.TFLiteConverter`.
        options: What to make.
        batches: What the ranges are taken from, one batch per run of the model.
        floats: Names of the tensors whose operators are left in float.
        progress: Called with how many batches have run and how many there are, of every pass
            over them.

    Returns:
        The file.
    """
    import tensorflow as tf

    def dataset() -> Iterator[dict[str, np.ndarray]]:
        for number, batch in enumerate(batches):
            yield batch
            if progress:
                progress(number + 1, len(batches))

    sets = tf.lite.OpsSet
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = dataset
    converter.target_spec.supported_ops = [
        sets.TFLITE_BUILTINS_INT8
        if options.precision == "int8"
        else sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    ]
    with warnings.catch_warnings():
        # It runs the model in TensorFlow's own interpreter, which says that LiteRT's is newer.
        warnings.filterwarnings(
            "ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated"
        )
        if floats:
            debugger = tf.lite.experimental.QuantizationDebugger(
                converter=converter,
                debug_options=tf.lite.experimental.QuantizationDebugOptions(
                    denylisted_nodes=list(floats)
                ),
            )
            return _with_a_range_for_scores(bytes(debugger.get_nondebug_quantized_model()))
        converter.inference_input_type = tf.as_dtype(options.inference_type)
        converter.inference_output_type = tf.as_dtype(options.inference_type)
        return _with_a_range_for_scores(converter.convert())


def _with_a_range_for_scores(content: bytes) -> TfliteFile:
    """The file with a range from 0 to 1 or more for the scores of a ULSAM that were always 0.

    A ReLU makes the scores, and a flat attention is 0 everywhere before the softmax. The converter
    takes 1e-6 for the range of zeros, which XNNPACK refuses to compute, and with it the file.
    """
    file = TfliteFile(content)
    tensors = [
        tensor
        for site in find_sites(file.graph)
        for tensor in (site.scores, *(t for o in site.operators for t in o.outputs))
        if tensor.dtype == "INT8" and tensor.scales[0] < _RANGE_OF_ZEROS
    ]
    if not tensors:
        return file
    model = file.changeable()
    for tensor in tensors:
        model.subgraphs[0].tensors[tensor.index].quantization.scale = [1 / 128]
    return packed(model)
