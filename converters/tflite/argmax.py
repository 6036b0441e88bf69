"""`keras.ops.argmax` and `argmin` as the one operator that LiteRT has.

Imports TensorFlow inside functions.

On TensorFlow Keras tells -0.0 from 0.0 by their bits before it looks for the largest of floats, and
LiteRT has no operator for bits. The position is another one only where both zeros are the largest.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from converters.tflite.rebuild import called_otherwise, layers_of


@contextmanager
def plain_argmax(model: Any) -> Iterator[None]:
    """Has such operations of a model, at any depth, look for nothing else meanwhile."""
    found = [
        operation
        for layer in layers_of(model)
        for operation in getattr(layer, "operations", ())
        if type(operation).__name__ in ("Argmax", "Argmin")
    ]
    with called_otherwise({operation: _call(operation) for operation in found}):
        yield


def _call(operation: Any) -> Any:
    import tensorflow as tf

    function = tf.argmax if type(operation).__name__ == "Argmax" else tf.argmin

    def call(x: Any) -> Any:
        axis = operation.axis
        flat = tf.reshape(x, [-1]) if axis is None else x
        found = function(flat, axis=0 if axis is None else axis, output_type="int32")
        if not operation.keepdims:
            return found
        if axis is None:
            return tf.reshape(found, [1] * len(x.shape))
        return tf.expand_dims(found, axis)

    return call
