"""`calibrate`: the ranges of a quantised model, from data.

Imports NumPy, and TensorFlow inside functions only.
"""

from collections.abc import Iterable
from itertools import islice
from operator import length_hint
from typing import Any

import numpy as np

from ulsam_keras.quantization.extra import tf_keras
from ulsam_keras.quantization.quantize import check_finite, check_quantized


def calibrate(q: Any, batches: Iterable[Any], *, steps: int | None = None, verbose: int = 1) -> int:
    """Sets the range of every activation, and of the input, to what data shows.

    Ranges begin at [-6, 6] and move by a thousandth in a training step; a model that is trained
    or converted without calibration computes with ranges that have nothing to do with it. The
    data goes through in inference mode, with rounded weights and activations that are not
    rounded; batch normalization statistics and weights stay as they are. Call it again when
    batch normalization statistics have moved far.

    Args:
        q: A model from `quantize_model`.
        batches: Batches of inputs as the model takes them, `(N, H, W, C)`, or tuples
            `(inputs, targets)` as `fit` takes them. A few hundred images are plenty.
        steps: Integer, how many batches to take, of a dataset that repeats without end for
            example. Defaults to `None`, all of them.
        verbose: 1 for a progress bar, 0 for none, as in `fit`. Defaults to 1.

    Returns:
        The number of samples seen.

    Raises:
        ValueError: If there are no batches, or no end of them and `steps` is `None`; if a batch is
            empty, not finite or of another shape
            than the model's inputs, or if an activation is not finite. The ranges are then as
            they were.
    """
    check_quantized(q)
    check_finite(q)
    import tensorflow as tf

    from ulsam_keras.quantization.quantizers import observing

    variables: list[tuple[Any, Any]] = []

    @tf.function(reduce_retracing=True)
    def observe(inputs: Any) -> tuple[Any, Any]:
        with observing() as observer:
            q(inputs, training=False)
        variables[:] = [(low, high) for low, high, _, _ in observer.seen]
        return (
            tf.stack([smallest for _, _, smallest, _ in observer.seen]),
            tf.stack([largest for _, _, _, largest in observer.seen]),
        )

    given = _iterable(batches, steps)
    total = steps or length_hint(batches) or None
    bar = tf_keras().utils.Progbar(total, verbose=verbose, unit_name="batch")
    low: Any = None
    high: Any = None
    samples = 0
    for number, batch in enumerate(given):
        only = batch[0] if isinstance(batch, tuple) and batch else batch
        inputs = _checked(q, only, number)
        smallest, largest = (np.asarray(values) for values in observe(inputs))
        if not (np.isfinite(smallest).all() and np.isfinite(largest).all()):
            place = int(np.argmin(np.isfinite(smallest) & np.isfinite(largest)))
            raise ValueError(
                f"Batch {number} gives values that are not finite where {variables[place][0].name} "
                "is set; check the weights and batch normalization statistics. Received: NaN or "
                "infinity"
            )
        low = smallest if low is None else np.minimum(low, smallest)
        high = largest if high is None else np.maximum(high, largest)
        samples += len(tf.nest.flatten(inputs)[0])
        bar.update(number + 1, finalize=number + 1 == total)
    if low is None:
        raise ValueError("`batches` must hold at least one batch of inputs. Received: none")
    # A layer that is called several times has one range for all of its calls.
    ranges: dict[int, tuple[Any, Any, float, float]] = {}
    for (minimum, maximum), least, most in zip(variables, low, high, strict=True):
        before = ranges.get(id(minimum), (minimum, maximum, 0.0, 0.0))
        # An int8 range holds 0, whose value padding and ReLU rely on.
        ranges[id(minimum)] = (
            minimum,
            maximum,
            min(before[2], float(least)),
            max(before[3], float(most)),
        )
    for minimum, maximum, lowest, highest in ranges.values():
        minimum.assign(lowest)
        # What was always 0 gets some range: a scale of 0 has no int8 operator.
        maximum.assign(highest if highest > lowest else 1.0)
    return samples


def _iterable(batches: Any, steps: int | None) -> Iterable[Any]:
    if isinstance(batches, (np.ndarray, str, bytes, dict)) or not isinstance(batches, Iterable):
        raise ValueError(
            "`batches` must be an iterable of batches, such as a list of arrays (N, H, W, C) or a "
            f"tf.data.Dataset; put a single batch in a list. Received: {type(batches).__name__}"
        )
    if steps is not None:
        if not hasattr(steps, "__index__") or steps < 1:
            raise ValueError(
                f"`steps` must be at least 1, or None for all. Received: steps={steps!r}"
            )
        return islice(batches, steps)
    import tensorflow as tf

    if (
        isinstance(batches, tf.data.Dataset)
        and batches.cardinality() == tf.data.INFINITE_CARDINALITY
    ):
        raise ValueError(
            "`batches` has no end; say with `steps` how many to take. Received: a dataset that "
            "repeats, steps=None"
        )
    return batches


def _checked(q: Any, inputs: Any, number: int) -> Any:
    """The batch as tensors, once it fits the model's inputs."""
    import tensorflow as tf

    specs = tf.nest.flatten(q.input)
    try:
        arrays = [np.asarray(value) for value in tf.nest.flatten(inputs)]
        # A single input stands for itself, whatever the model calls it.
        structure = inputs if len(specs) > 1 else q.input
        if len(arrays) == len(specs) and len(specs) > 1:
            tf.nest.assert_same_structure(structure, q.input)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"Batch {number} must have the structure of the model's inputs, "
            f"{q.input_names}. Received: {type(inputs).__name__}"
        ) from error
    shapes = [array.shape for array in arrays]
    fits = len(arrays) == len(specs) and all(
        array.dtype.kind in "fiub"
        and len(array.shape) == len(spec.shape)
        and all(b in (None, a) for a, b in zip(array.shape[1:], spec.shape[1:], strict=True))
        for array, spec in zip(arrays, specs, strict=True)
    )
    if not fits:
        raise ValueError(
            f"Batch {number} must hold numbers in the shape of the model's inputs, "
            f"{[tuple(spec.shape) for spec in specs]}. Received: shapes {shapes}, types "
            f"{[array.dtype.name for array in arrays]}"
        )
    if any(array.size == 0 for array in arrays):
        raise ValueError(f"Batch {number} must hold at least one sample. Received: {shapes}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"Batch {number} must be finite. Received: NaN or infinity in it")
    tensors = [tf.cast(a, spec.dtype) for a, spec in zip(arrays, specs, strict=True)]
    return tf.nest.pack_sequence_as(q.input, tensors)
