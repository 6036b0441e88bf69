"""How a tensor is quantised in training: the three quantisers, and what observes ranges.

Imports tensorflow-model-optimization, so it is itself imported inside functions only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from ulsam_keras.quantization.extra import tensorflow, tfmot

tf: Any = tensorflow()
_MovingAverageQuantizer: Any = tfmot().quantizers.MovingAverageQuantizer
_Quantizer: Any = tfmot().quantizers.Quantizer

# A quantised weight or range narrower than this has no int8 scale that the kernels can hold.
_SMALLEST = 1e-8


class Observer:
    """The smallest and largest value of each tensor that has a range of its own.

    Attributes:
        seen: One `(min variable, max variable, smallest, largest)` for each.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[Any, Any, Any, Any]] = []


_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def observing() -> Iterator[Observer]:
    """While open, `MovingRangeQuantizer` records values and leaves them as they are."""
    observer = Observer()
    token = _observer.set(observer)
    try:
        yield observer
    finally:
        _observer.reset(token)


class MovingRangeQuantizer(_MovingAverageQuantizer):
    """8 bits over a range that follows the data: a moving average (0.999) when training.

    The range is two weights of the layer, so it is saved, loaded and trained on with them.
    """

    def __init__(self) -> None:
        super().__init__(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)

    def __call__(self, inputs: Any, training: bool, weights: Any, **kwargs: Any) -> Any:
        observer = _observer.get()
        if observer is None:
            return super().__call__(inputs, training, weights, **kwargs)
        # The smallest of some values and NaN may be either: mark all of them.
        finite = tf.reduce_all(tf.math.is_finite(inputs))
        marked = tf.where(finite, inputs, np.float32(np.nan))
        observer.seen.append(
            (
                weights["min_var"],
                weights["max_var"],
                tf.reduce_min(marked),
                tf.reduce_max(marked),
            )
        )
        return inputs

    def get_config(self) -> dict[str, Any]:
        return {}


class FixedRangeQuantizer(_Quantizer):
    """8 bits over a fixed range: that of an int8 kernel which takes no other.

    Args:
        low: Float, the smallest value.
        high: Float, the largest value.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low = low
        self.high = high

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        return {}

    def __call__(self, inputs: Any, training: bool, weights: Any, **kwargs: Any) -> Any:
        return tf.quantization.fake_quant_with_min_max_args(inputs, self.low, self.high)

    def get_config(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high}


class WeightQuantizer(_Quantizer):
    """8 bits, symmetric, over the range that the weight has now.

    Args:
        axis: Integer, the axis of a kernel of rank 4 whose every index has its own range; `None`
            for one range of the whole weight. tfmot's own quantiser takes the last axis always,
            which in a depthwise kernel `(h, w, C, 1)` is one range for all channels.
    """

    def __init__(self, axis: int | None) -> None:
        self.axis = axis

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        return {}

    def __call__(self, inputs: Any, training: bool, weights: Any, **kwargs: Any) -> Any:
        if self.axis is None:
            high = self._largest(inputs, None)
            return tf.quantization.fake_quant_with_min_max_vars(
                inputs, -high, high, narrow_range=True
            )
        # The operator quantises along the last axis: (h, w, C, m) becomes (h, w, 1, C * m).
        height, width, rows, columns = inputs.shape
        depthwise = self.axis == 2
        kernel = tf.reshape(inputs, (height, width, 1, rows * columns)) if depthwise else inputs
        high = self._largest(kernel, (0, 1, 2))
        kernel = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            kernel, -high, high, narrow_range=True
        )
        return tf.reshape(kernel, inputs.shape) if depthwise else kernel

    def _largest(self, kernel: Any, axes: Any) -> Any:
        # The range is a measurement of the weight, not something that has a gradient.
        magnitude = tf.reduce_max(tf.abs(tf.stop_gradient(kernel)), axes)
        return tf.maximum(magnitude, _SMALLEST)

    def get_config(self) -> dict[str, Any]:
        return {"axis": self.axis}


QUANTIZERS = {
    quantizer.__name__: quantizer
    for quantizer in (MovingRangeQuantizer, FixedRangeQuantizer, WeightQuantizer)
}
