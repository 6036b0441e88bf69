"""Powers that the GPU delegate computes wrongly.

It takes 2 and 3, as one number, for an exponent wherever they stand; and of all other powers it
takes the base's size alone, x ** 3 apart.

Imports the flatbuffer reader and NumPy.
"""

import numpy as np

from converters.tflite.flatbuffer import Operator, Tensor
from converters.tflite.view import View

_EXPONENTS = (2, 3)


def constant_base(view: View, operator: Operator) -> float | None:
    """The number that is raised to a tensor, if it is taken for the exponent."""
    base, exponent = _parts(operator)
    number = _number(_values(view, base))
    return None if view.constant(exponent) or number not in _EXPONENTS else number


def odd(view: View, operator: Operator) -> bool:
    """Whether the sign of a base that may be below 0 is lost: of odd powers, but for x ** 3."""
    base, exponent = _parts(operator)
    if base is None or base in view.nonnegative or view.constant(base) == view.constant(exponent):
        return False
    if view.constant(base):
        values = _values(view, base)
        return values is not None and bool((values < 0).any())
    values = _values(view, exponent)
    if values is None or _number(values) == 3:
        return False
    return bool((values[np.isfinite(values)] % 2 == 1).any())


def odd_exponent(view: View, operator: Operator) -> int | None:
    """The exponent of such a power, if it is one number."""
    number = _number(_values(view, _parts(operator)[1])) if odd(view, operator) else None
    return None if number is None else int(number)


def _parts(operator: Operator) -> tuple[Tensor | None, Tensor | None]:
    if operator.name != "POW" or operator.outputs[0].dtype != "FLOAT32":
        return None, None
    return operator.inputs[0], operator.inputs[1]


def _values(view: View, tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else view.held(tensor).values()


def _number(values: np.ndarray | None) -> float | None:
    return float(values.reshape(())) if values is not None and values.size == 1 else None
