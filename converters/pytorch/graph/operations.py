"""`keras.ops`, which folds what depends on no input.

Imports NumPy, and Keras inside functions.
"""

from collections.abc import Callable
from typing import Any

import numpy as np


class Operations:
    """The functions of `keras.ops`, `image.resize` as `image_resize`; arrays give arrays.

    Attributes:
        used: The names of those that became a part of the model since it was emptied.
    """

    def __init__(self) -> None:
        self.used: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        import keras

        function = keras.ops
        for part in name.replace("image_", "image.", 1).split("."):
            function = getattr(function, part)

        def call(*args: Any, **kwargs: Any) -> Any:
            symbolic = any(
                isinstance(entry, keras.KerasTensor) for entry in keras.tree.flatten((args, kwargs))
            )
            if symbolic:
                self.used.append(name)
                return function(*args, **kwargs)
            return arrays(function(*args, **kwargs))

        return call


def arrays(tensors: Any) -> Any:
    """Tensors as arrays that can be written to."""
    if isinstance(tensors, list | tuple):
        return [arrays(tensor) for tensor in tensors]
    return np.array(tensors)
