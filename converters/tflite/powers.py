"""Powers that the GPU delegate computes wrongly.

It takes 2 and 3, as one number, for an exponent wherever they stand. All other powers are
2 ** (exponent * log2(base)): of a base below 0 the driver makes that of its size, or NaN, and of 0
some make 2 ** (exponent * -127).

Imports the flatbuffer reader and NumPy.
"""

import numpy as np

from converters.tflite.flatbuffer import Operator, Tensor
from converters.tflite.view import View

_EXPONENTS = (2, 3)
# 2 ** (-127 * 0.13) is 1e-5 of 1.
_SMALL = 0.13
# What is above 0 whatever it is of.
_ABOVE = {"EXP", "LOGISTIC"}


def constant_base(view: View, operator: Operator) -> float | None:
    """The number that is raised to a tensor, if it is taken for the exponent."""
    base, exponent = _parts(operator)
    number = _number(_values(view, base))
    return None if view.constant(exponent) or number not in _EXPONENTS else number


def negative(view: View, operator: Operator) -> bool:
    """Whether a base that may be below 0 is raised to whole numbers, other than to 2 or 3 alone."""
    base, exponent = _parts(operator)
    if base is None or view.constant(base) == view.constant(exponent):
        return False
    if base in view.nonnegative or _above(view, base):
        return False
    if view.constant(base):
        values = _values(view, base)
        return values is not None and bool((values < 0).any())
    values = _values(view, exponent)
    if values is None or _number(values) in _EXPONENTS:
        return False
    return bool((values[np.isfinite(values)] % 1 == 0).any())


def whole_exponent(view: View, operator: Operator) -> int | None:
    """The exponent of such a power, if it is one number."""
    number = _number(_values(view, _parts(operator)[1])) if negative(view, operator) else None
    return None if number is None else int(number)


def small(view: View, operator: Operator) -> bool:
    """Whether a base that may be 0 is raised to a power for which that makes a difference.

    A product with the base's sign makes it right.
    """
    base, exponent = _parts(operator)
    values = _values(view, exponent)
    if base is None or values is None or view.constant(base) or _above(view, base):
        return False
    readers = view.readers(operator.outputs[0])
    if readers and all(_signed(view, reader, base) for reader in readers):
        return False
    return bool(((values > 0) & (values < _SMALL)).any())


def signable(view: View, operator: Operator) -> bool:
    """Whether all exponents of such a power are roots, that keep the sign of what is above 0."""
    values = _values(view, _parts(operator)[1]) if small(view, operator) else None
    return values is not None and bool(((values > 0) & (values < 1)).all())


def _signed(view: View, product: Operator, base: Tensor) -> bool:
    makers = [view.producer.get(tensor) for tensor in view.computed(product)]
    signs = [m for m in makers if m is not None and m.name == "SIGN" and m.inputs[0] is base]
    return product.name == "MUL" and bool(signs)


def _above(view: View, tensor: Tensor) -> bool:
    """Whether a tensor is known to be above 0: of an exponential, or by a number added."""
    maker = view.producer.get(tensor)
    if maker is None or maker.name in _ABOVE:
        return maker is not None
    if maker.name not in ("ADD", "MAXIMUM"):
        return False
    least = [v for t in maker.inputs if view.constant(t) and (v := _values(view, t)) is not None]
    others = view.computed(maker)
    raised = maker.name == "MAXIMUM" or all(t in view.nonnegative for t in others)
    return raised and len(least) == len(others) == 1 and bool((least[0] > 0).all())


def _parts(operator: Operator) -> tuple[Tensor | None, Tensor | None]:
    if operator.name != "POW" or operator.outputs[0].dtype != "FLOAT32":
        return None, None
    return operator.inputs[0], operator.inputs[1]


def _values(view: View, tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else view.held(tensor).values()


def _number(values: np.ndarray | None) -> float | None:
    return float(values.reshape(())) if values is not None and values.size == 1 else None
