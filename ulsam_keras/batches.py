"""Data of every form that a model's `predict` takes, in batches.

Imports Keras (public names only).
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import keras


def batches(data: Any, batch_size: int, steps: int | None = None) -> Iterator[Any]:
    """The inputs of every batch, as NumPy arrays in the structure that the model takes.

    Args:
        data: Arrays, cut into batches; or batches, of a `tf.data.Dataset`, a `PyDataset`, a PyTorch
            `DataLoader`, a generator or another iterable. Of `(x, y)` only x is taken.
        batch_size: Samples in a batch where the data is arrays.
        steps: Batches taken; `None` for all.
    """
    leaves = keras.tree.flatten(data)
    if leaves and all(hasattr(leaf, "shape") for leaf in leaves):
        arrays = keras.tree.map_structure(keras.ops.convert_to_numpy, data)
        count = len(keras.tree.flatten(arrays)[0])
        for start in range(0, count, batch_size)[:steps]:
            end = start + batch_size
            yield keras.tree.map_structure(lambda array: array[start:end], arrays)  # noqa: B023
        return
    if isinstance(data, keras.utils.PyDataset):
        data = map(data.__getitem__, range(data.num_batches))
    for item in islice(data, steps):
        inputs = keras.utils.unpack_x_y_sample_weight(item)[0]
        yield keras.tree.map_structure(keras.ops.convert_to_numpy, inputs)
