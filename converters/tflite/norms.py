"""Batch normalization as a factor and a shift that are computed in float64.

Imports Keras inside functions, and NumPy.

TensorFlow's `rsqrt` in float32 is 2e-8 too small on average, in every channel of every layer
alike, and its converter multiplies the weights of the convolution before with that: after 40
layers 1e-6 are missing. Rounded once, the factor is right on average.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from converters.tflite.rebuild import called_otherwise, layers_of


@contextmanager
def exact_norms(model: Any) -> Iterator[None]:
    """Has the batch normalizations of a model compute so in inference meanwhile."""
    import keras

    norms = [x for x in layers_of(model) if type(x) is keras.layers.BatchNormalization]
    # One in half precision computes in float32, and casts.
    layers = [norm for norm in norms if norm.built and norm.compute_dtype == "float32"]
    with called_otherwise({layer: _call(layer) for layer in layers}):
        yield


def _call(layer: Any) -> Any:
    own = layer.call
    with np.errstate(all="ignore"):  # what is not a number, the file is searched for
        factor = 1.0 / np.sqrt(_exact(layer.moving_variance) + layer.epsilon)
        factor = factor * _exact(layer.gamma) if layer.scale else factor
        shift = -_exact(layer.moving_mean) * factor
        shift = shift + _exact(layer.beta) if layer.center else shift
    factor, shift = factor.astype("float32"), shift.astype("float32")

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if training:
            return own(inputs, training=training, mask=mask)
        # Of the last axis they have no other: so the converter finds them before a dense layer.
        shape = (-1, *(1,) * (len(inputs.shape) - 1 - layer.axis % len(inputs.shape)))
        return inputs * factor.reshape(shape) + shift.reshape(shape)

    return call


def _exact(variable: Any) -> np.ndarray:
    return variable.numpy().astype("float64")
