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
        fixed: Tensors of the model that no input changes, by their `id`: weights, and what is
            computed of them alone.
    """

    def __init__(self) -> None:
        self.used: list[str] = []
        self.fixed: dict[int, Any] = {}

    def settle(self, given: Any, tensors: Any) -> Any:
        """Takes note of tensors that are computed of others, and gives them."""
        import keras

        symbolic = [t for t in keras.tree.flatten(given) if isinstance(t, keras.KerasTensor)]
        if symbolic and all(id(t) in self.fixed for t in symbolic):
            self.fixed |= {id(t): t for t in keras.tree.flatten(tensors)}
        return tensors

    def add(self, x: Any, y: Any) -> Any:
        """`x + y`, spelled so that it is that on every back end; of masks, where either is."""
        if all(str(getattr(t, "dtype", "")) == "bool" for t in (x, y)):
            return self._call("logical_or")(x, y)
        add = self._call("add")
        if not taken_for_a_bias(x, y):
            return add(x, y)
        if not taken_for_a_bias(y, x):
            return add(y, x)
        return self._call("subtract")(x, self._call("negative")(y))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return self._call(name)

    def _call(self, name: str) -> Callable[..., Any]:
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
                return self.settle((args, kwargs), function(*args, **kwargs))
            return arrays(function(*args, **kwargs))

        return call


def taken_for_a_bias(x: Any, y: Any) -> bool:
    """Whether `keras.ops.add(x, y)` adds y along another axis than it lies, or in no file.

    On TensorFlow, what has one dimension of more than one is a bias: of the last axis of x or of
    its second, whichever is as long; the sum has no more axes than x. LiteRT has none of whole
    numbers.
    """
    a, b = tuple(getattr(x, "shape", ())), tuple(getattr(y, "shape", ()))
    long = [axis for axis, size in enumerate(b) if size not in (None, 1)]
    if len(a) < 2 or len(long) > 1:
        return False
    # An open size is the batch: one in a file, and else whatever it happens to be.
    if not long:
        return None in b and (a[1], a[-1]) != (1, 1)
    if not {None, b[long[0]]} & {a[1], a[-1]}:
        return False
    lies_last = long[0] == len(b) - 1 < len(a) and a[-1] == b[-1]
    return not lies_last or not str(y.dtype).startswith(("float", "bfloat"))


def arrays(tensors: Any) -> Any:
    """Tensors as arrays that can be written to."""
    if isinstance(tensors, list | tuple):
        return [arrays(tensor) for tensor in tensors]
    return np.array(tensors)
