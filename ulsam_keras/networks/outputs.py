"""Where each block of a network ends.

Imports Keras (public names only).
"""

import re

import keras

_STAGE = re.compile(r"(stem|block_\d+|head)_")


def block_output_names(model: keras.Model) -> dict[str, str]:
    """The name of the last layer of the stem, of each block and of the head.

    Where a ULSAM comes after a block or takes its place, it is the block's last layer.

    Args:
        model: A model from `MobileNetV1` or `MobileNetV2`.

    Returns:
        A dictionary from `"stem"`, `"block_1"`, ..., `"head"` (MobileNetV2 only) to layer names, in
        the order of the network. The names do not change when the model is saved and loaded.

    Example:
    >>> names = block_output_names(MobileNetV2())
    >>> names["block_2"], names["block_3"]
    ('block_2_project_bn', 'block_3_add')
    """
    names = {}
    for layer in model.layers:
        match = _STAGE.match(layer.name)
        if match:
            names[match[1]] = layer.name
    return names
