"""The tf_keras layer that rounds: tensors that have one range, and the inputs of a model.

Imports tf_keras and tensorflow-model-optimization, so it is itself imported inside functions only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ulsam_keras.quantization.extra import tensorflow, tf_keras
from ulsam_keras.quantization.quantizers import MovingRangeQuantizer

tf: Any = tensorflow()
keras2: Any = tf_keras()
_Layer: Any = keras2.layers.Layer

# Of a step: more than float32 is off by, and less than any average but a middle is off the middle.
_NUDGE = 1e-3

_exporting = ContextVar("exporting", default=False)


@contextmanager
def exporting() -> Iterator[None]:
    """While open, what imitates the arithmetic of integer kernels is left out: they do it."""
    token = _exporting.set(True)
    try:
        yield
    finally:
        _exporting.reset(token)


class SharedRange(_Layer):
    """Rounds a tensor to 8 bits over a range that other tensors have too.

    It is called on each of them; with `training=False` on all but one call, which is the last that
    sets the range and is given the others that do.

    Args:
        **kwargs: Arguments of `tf_keras.layers.Layer`.

    Call arguments:
        inputs: The tensor to round, or a list: the tensor, and others whose values the range
            follows as well when training.
        training: Whether the range follows the values.
        averaged: Whether the tensor holds averages of values on the grid. Many of these lie in the
            middle between two steps; the integer kernel of the average takes the one further from
            the middle of the range. Defaults to `False`.
    """

    def build(self, input_shape: Any) -> None:
        self._quantizer = MovingRangeQuantizer()
        self._range = self._quantizer.build(None, "output", self)
        super().build(input_shape)

    def call(self, inputs: Any, training: Any = None, averaged: bool = False) -> Any:
        x, *others = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        if averaged and not _exporting.get():
            x = self._off_the_middle(x)
        if not others:
            return self._quantize(x, training)
        if training is None:
            training = keras2.backend.learning_phase()
        ends = [[tf.reduce_min(t), tf.reduce_max(t)] for t in (x, *others)]
        # What this gives is the rounded ends; what it does is to move the range.
        self._quantize(tf.reshape(tf.stack(ends), (-1,)), training)
        return self._quantize(x, False)

    def _quantize(self, x: Any, training: Any) -> Any:
        if training is None:
            training = keras2.backend.learning_phase()
        return keras2.backend.in_train_phase(
            lambda: self._quantizer(x, True, self._range),
            lambda: self._quantizer(x, False, self._range),
            training=training,
        )

    def _off_the_middle(self, x: Any) -> Any:
        low, high = self._range["min_var"], self._range["max_var"]
        step = (high - low) / 255.0
        # The integer 0 is at the end of the 128th of the 255 steps.
        zero = tf.round(low / step) * step + 128.0 * step
        return x + tf.stop_gradient(tf.sign(x - zero) * step * _NUDGE)

    def compute_output_shape(self, input_shape: Any) -> Any:
        first = input_shape[0] if isinstance(input_shape, list) else input_shape
        return tf.TensorShape(first)

    def get_config(self) -> dict[str, Any]:
        # Its own: the default one of tf_keras leaves the name out of a layer without __init__.
        return super().get_config()
