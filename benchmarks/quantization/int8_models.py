"""Two ways to int8 beside `converters.to_tflite`: TFLite's defaults, and training for it.

Shared by the examples of this folder. Imports ulsam_keras, Keras and TensorFlow, and tf_keras
inside the function.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ulsam_keras import quantization


def tflite_default(model: keras.Model, samples: np.ndarray) -> bytes:
    """Post-training int8 as TensorFlow's guide does it, with nothing of this project.

    Args:
        model: The trained Keras 3 model.
        samples: Representative images, `(N, H, W, C)`.

    Returns:
        The content of the `.tflite` file; its input and output are float.
    """
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # "Statistics for quantized inputs were expected", whatever is given; and a list of all
        # variables.
        warnings.simplefilter("ignore")
        return converter.convert()


def quantization_aware(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    calibration: np.ndarray,
    epochs: int,
    learning_rate: float,
    batch_size: int = 128,
    seed: int = 0,
) -> Any:
    """Goes on training a classifier, with the rounding of its int8 file simulated.

    Args:
        model: The trained Keras 3 model, which gives logits. It is left as it is.
        images: Training images, `(N, H, W, C)`.
        labels: Their classes, `(N,)`.
        calibration: Images that the ranges of the activations begin with.
        epochs: Number of epochs.
        learning_rate: Adam's at the start; it falls to 0 along a cosine.
        batch_size: Images in a step. Defaults to 128.
        seed: Of the order of the images. Defaults to 0.

    Returns:
        The quantised tf_keras model: `converters.to_tflite` makes the int8 file of it, and
        `quantization.restore` brings its weights back to Keras 3.
    """
    q = quantization.quantize_model(model)
    quantization.calibrate(q, [calibration])

    import tf_keras

    tf_keras.utils.set_random_seed(seed)
    # Only whole batches: ULSAM's batch normalizations follow the last batch to nine tenths.
    steps = len(images) // batch_size
    whole = np.random.default_rng(seed).permutation(len(images))[: steps * batch_size]
    rate = tf_keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)
    q.compile(
        tf_keras.optimizers.Adam(rate),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    q.fit(images[whole], labels[whole], batch_size=batch_size, epochs=epochs, verbose=2)
    return q
