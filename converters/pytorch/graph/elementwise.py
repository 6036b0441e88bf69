"""Arithmetic, comparisons and functions of each element.

PyTorch: Keras

- add, mul of two tensors of one rank: `Add`, `Multiply`
- a tensor and a constant or number: `keras.ops`
- sub, div, rsub, pow, remainder, floor_divide, maximum, minimum: `keras.ops`
- comparisons, logical operators, where, masked_fill, clamp: `keras.ops`; of the bits of whole
  numbers only where they are constants
- exp, log, sqrt, rsqrt, abs, sin …: `keras.ops` of that name
- erf, erfc, special_ndtr: `gelu`, divided
- asin, acos, atan: `arctan2`; tan, sinh, cosh: of sin, cos, `expm1`
- asinh, acosh, atanh: `log1p`
- xlogy, xlog1py, entr, sinc, heaviside, lerp, addcmul, fmod, ldexp, copysign,
  signbit, logit, logaddexp2, nan_to_num, isclose, isin of constants: operations
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from converters.pytorch.graph.call import Call
from converters.pytorch.graph.layout import Value, constant, squeezed, unsqueezed
from converters.pytorch.graph.operations import taken_for_a_bias
from converters.pytorch.graph.registry import converts

_LEAST = float(np.finfo(np.float32).min)


def _operand(call: Call, name: str) -> Value:
    return call.value(name)


def _merged(call: Call, kind: str, operation: str, a: Value, b: Value) -> Value:
    """A merge layer where both depend on the input, else an operation."""
    import keras

    nonnegative = a.nonnegative and b.nonnegative

    def compute(s: Any, t: Any) -> Any:
        fixed = call.arranger.fixed(a) or call.arranger.fixed(b)
        # Keras's layers take tensors of one rank and one batch.
        like = [(len(v.shape), v.shape[:1], v.dtype) for v in (s, t) if not fixed]
        biased = operation == "add" and taken_for_a_bias(s, t)
        if like and like[0] == like[1] and not biased:
            return call.layer(getattr(keras.layers, kind), [s, t])
        return getattr(call.ops, operation)(s, t)

    return call.elementwise(compute, *_alike(a, b), nonnegative=nonnegative)


def _alike(a: Value, b: Value) -> tuple[Value, Value]:
    """Constants in the dtype of what they meet."""
    if a.constant != b.constant:
        fixed, other = (a, b) if a.constant else (b, a)
        wanted = getattr(other.tensor, "dtype", None)
        if str(wanted).startswith("float") and fixed.tensor.dtype != "float32":
            fixed = replace(fixed, tensor=fixed.tensor.astype("float32"), dtype="float32")
        elif wanted == "int32" and fixed.tensor.dtype == "int64":
            fixed = replace(fixed, tensor=fixed.tensor.astype("int32"))
        a, b = (fixed, b) if a.constant else (a, fixed)
    return a, b


def added(call: Call, a: Value, b: Value) -> Value:
    """The sum of two values."""
    return _merged(call, "Add", "add", a, b)


def _scaled(call: Call, value: Value, name: str = "alpha") -> Value:
    factor = call.get(name, 1)
    return value if factor == 1 else value.with_tensor(value.tensor * factor)


@converts("aten.add")
def add(call: Call) -> Value:
    """`self + alpha * other`; of two masks, where either is."""
    a, b = _operand(call, "self"), _operand(call, "other")
    if a.dtype == b.dtype == "bool":
        return call.elementwise(call.ops.logical_or, a, b)
    return added(call, a, _scaled(call, b))


@converts("aten.mul", "aten.multiply")
def mul(call: Call) -> Value:
    """`self * other`; of two masks, where both are."""
    a, b = _operand(call, "self"), _operand(call, "other")
    if a.dtype == b.dtype == "bool":
        return call.elementwise(call.ops.logical_and, a, b)
    if a is b and not a.constant:
        return a.with_tensor(call.ops.square(a.tensor), nonnegative=True)
    return _merged(call, "Multiply", "multiply", a, b)


@converts("aten.sub", "aten.subtract")
def sub(call: Call) -> Value:
    """`self - alpha * other`."""
    a, b = _alike(_operand(call, "self"), _scaled(call, _operand(call, "other")))
    return call.elementwise(call.ops.subtract, a, b)


@converts("aten.rsub")
def rsub(call: Call) -> Value:
    """`other - alpha * self`."""
    a, b = _alike(_scaled(call, _operand(call, "self")), _operand(call, "other"))
    return call.elementwise(lambda s, t: call.ops.subtract(t, s), a, b)


@converts("aten.div", "aten.divide", "aten.true_divide")
def div(call: Call) -> Value:
    """`self / other`, rounded where that is asked for."""
    a, b = _alike(_operand(call, "self"), _operand(call, "other"))
    # A quotient by a constant is a product with its inverse in a file, which of 47 by 47 is less
    # than one. Rounded at once it is divided by.
    mode = call.get("rounding_mode") or call.rounding()
    if mode == "floor":
        return call.elementwise(call.ops.floor_divide, a, b)
    if mode == "trunc":
        return _truncated(call, a, b)
    nonnegative = a.nonnegative and b.constant and bool((b.tensor > 0).all())
    if b.constant and b.tensor.dtype.name == "float32" and not a.constant:
        inverse = 1.0 / b.tensor.astype("float64")
        b = b.with_tensor(inverse.astype("float32"))
        return call.elementwise(call.ops.multiply, a, b, nonnegative=nonnegative)
    if call.arranger.fixed(b) and not b.constant:
        b = b.with_tensor(call.ops.reciprocal(b.tensor))
        return call.elementwise(call.ops.multiply, a, b)
    return call.elementwise(call.ops.divide, a, b)


def _truncated(call: Call, a: Value, b: Value) -> Value:
    """A quotient rounded towards 0."""
    ops = call.ops

    def compute(s: Any, t: Any) -> Any:
        size = ops.floor_divide(ops.abs(s), ops.abs(t))
        return ops.multiply(ops.multiply(size, ops.sign(s)), ops.sign(t))

    return call.elementwise(compute, a, b)


def _binary(target: str, name: str) -> None:
    @converts(target)
    def convert(call: Call) -> Value:
        names = list(call.node.arguments)[:2]
        a, b = _alike(_operand(call, names[0]), _operand(call, names[1]))
        return call.elementwise(getattr(call.ops, name), a, b)


for _target, _name in {
    "aten.floor_divide": "floor_divide",
    "aten.remainder": "mod",
    "aten.maximum": "maximum",
    "aten.minimum": "minimum",
    "aten.eq": "equal",
    "aten.ne": "not_equal",
    "aten.lt": "less",
    "aten.le": "less_equal",
    "aten.gt": "greater",
    "aten.ge": "greater_equal",
    "aten.logical_and": "logical_and",
    "aten.logical_or": "logical_or",
    "aten.logical_xor": "logical_xor",
    "aten.logaddexp": "logaddexp",
    "aten.atan2": "arctan2",
    "aten.arctan2": "arctan2",
    "aten.hypot": "hypot",
    "aten.fmax": "maximum",
    "aten.fmin": "minimum",
    "aten.not_equal": "not_equal",
    "aten.less": "less",
    "aten.less_equal": "less_equal",
    "aten.greater": "greater",
    "aten.greater_equal": "greater_equal",
}.items():
    _binary(_target, _name)


def _bitwise(targets: Sequence[str], name: str) -> None:
    @converts(*targets)
    def convert(call: Call) -> Value:
        values = [_operand(call, argument) for argument in call.node.arguments]
        kind = "logical" if all(v.dtype == "bool" for v in values) else "bitwise"
        if kind == "bitwise" and not all(v.constant for v in values):
            call.refuse("it is of the bits of whole numbers, which LiteRT has no operator for")
        return call.elementwise(getattr(call.ops, f"{kind}_{name}"), *values)


for _name in ("and", "or", "xor"):
    _bitwise((f"aten.bitwise_{_name}", f"aten.__{_name}__"), _name)
_bitwise(("aten.bitwise_not",), "not")
_bitwise(("aten.bitwise_left_shift", "aten.__lshift__"), "left_shift")
_bitwise(("aten.bitwise_right_shift", "aten.__rshift__"), "right_shift")


@converts("aten.pow", "aten.float_power")
def pow_(call: Call) -> Value:
    """`self ** exponent`; small whole ones by multiplication."""
    ops = call.ops
    a = _operand(call, "self")
    exponent = call.node.arguments.get("exponent")
    if not a.constant and isinstance(exponent, int | float):
        simple: dict[float, Callable[[Any], Any]] = {
            1: lambda t: t,
            2: ops.square,
            3: lambda t: ops.square(t) * t,
            0.5: ops.sqrt,
            -0.5: ops.rsqrt,
            -1: ops.reciprocal,
        }
        if exponent in simple:
            return a.with_tensor(simple[exponent](a.tensor), nonnegative=exponent == 2)
    b = _operand(call, "exponent")
    return call.elementwise(ops.power, *_alike(a, b))


def _unary(target: str, name: str, nonnegative: bool = False) -> None:
    @converts(target)
    def convert(call: Call) -> Value:
        x = call.value("self")
        return x.with_tensor(getattr(call.ops, name)(x.tensor), nonnegative=nonnegative)


for _name in (
    *("exp", "log", "sqrt", "rsqrt", "abs", "sin", "cos"),
    *("floor", "ceil", "sign", "square"),
):
    _unary(f"aten.{_name}", _name, _name in ("exp", "sqrt", "rsqrt", "abs", "square"))
for _target, _name in {
    "aten.neg": "negative",
    "aten.reciprocal": "reciprocal",
    "aten.log2": "log2",
    "aten.log10": "log10",
    "aten.log1p": "log1p",
    "aten.expm1": "expm1",
    "aten.trunc": "trunc",
    "aten.logical_not": "logical_not",
    "aten.isnan": "isnan",
    "aten.isinf": "isinf",
    "aten.isfinite": "isfinite",
    "aten.exp2": "exp2",
    "aten.absolute": "abs",
    "aten.negative": "negative",
    "aten.sgn": "sign",
    "aten.fix": "trunc",
    "aten.deg2rad": "deg2rad",
    "aten.special_exp2": "exp2",
    "aten.special_expm1": "expm1",
    "aten.special_log1p": "log1p",
}.items():
    _unary(_target, _name)


# LiteRT has sines, cosines, and the angle of two sides.


def _angle(targets: tuple[str, ...], sides: Callable[[Any, Any, Any], tuple[Any, Any]]) -> None:
    @converts(*targets)
    def convert(call: Call) -> Value:
        x, ops = call.value("self"), call.ops
        t = ops.cast(x.tensor, "float32")
        # The third side of a triangle with a right angle, whose longest is 1.
        beside = ops.sqrt(ops.multiply(ops.subtract(1.0, t), ops.add(t, 1.0)))
        return x.with_tensor(ops.arctan2(*sides(ops, t, beside)))


_angle(("aten.asin", "aten.arcsin"), lambda ops, t, beside: (t, beside))
_angle(("aten.acos", "aten.arccos"), lambda ops, t, beside: (beside, t))


@converts("aten.atan", "aten.arctan")
def atan(call: Call) -> Value:
    """The angle whose opposite side is x, and the other 1."""
    x, ops = call.value("self"), call.ops
    return x.with_tensor(ops.arctan2(ops.cast(x.tensor, "float32"), ops.ones_like(x.tensor)))


@converts("aten.tan")
def tan(call: Call) -> Value:
    """`sin(x) / cos(x)`."""
    x, ops = call.value("self"), call.ops
    return x.with_tensor(ops.divide(ops.sin(x.tensor), ops.cos(x.tensor)))


@converts("aten.sinh", "aten.cosh")
def hyperbolic(call: Call) -> Value:
    """Half the difference, or the sum, of `exp(x)` and `exp(-x)`; exact around 0."""
    x, ops = call.value("self"), call.ops
    both = [ops.expm1(t) for t in (x.tensor, ops.negative(x.tensor))]
    if "cosh" in call.node.target:
        return x.with_tensor(ops.add(ops.multiply(ops.add(*both), 0.5), 1.0))
    return x.with_tensor(ops.multiply(ops.subtract(*both), 0.5))


# LiteRT has no inverse of a hyperbolic function; by log1p they are exact around 0.


@converts("aten.asinh", "aten.arcsinh")
def asinh(call: Call) -> Value:
    """`sign(x) * log1p(|x| + x ** 2 / (1 + sqrt(x ** 2 + 1)))`."""
    x, ops = call.value("self"), call.ops
    square = ops.square(x.tensor)
    more = ops.divide(square, ops.add(ops.sqrt(ops.add(square, 1.0)), 1.0))
    size = ops.log1p(ops.add(ops.abs(x.tensor), more))
    return x.with_tensor(ops.multiply(ops.sign(x.tensor), size))


@converts("aten.acosh", "aten.arccosh")
def acosh(call: Call) -> Value:
    """`log1p(y + sqrt(y * (y + 2)))` of y = x - 1."""
    x, ops = call.value("self"), call.ops
    y = ops.subtract(x.tensor, 1.0)
    root = ops.sqrt(ops.multiply(y, ops.add(y, 2.0)))
    return x.with_tensor(ops.log1p(ops.add(y, root)))


@converts("aten.atanh", "aten.arctanh")
def atanh(call: Call) -> Value:
    """`(log1p(x) - log1p(-x)) / 2`."""
    x, ops = call.value("self"), call.ops
    twice = ops.subtract(ops.log1p(x.tensor), ops.log1p(ops.negative(x.tensor)))
    return x.with_tensor(ops.multiply(twice, 0.5))


@converts("aten.round", "aten.special_round")
def round_(call: Call) -> Value:
    """To whole numbers, or to so many decimals."""
    x = call.value("self")
    return x.with_tensor(call.ops.round(x.tensor, call.get("decimals", 0)))


@converts("aten.clamp", "aten.clip", "aten.clamp_min", "aten.clamp_max")
def clamp(call: Call) -> Value:
    """Bounds, from one or both sides."""
    import keras

    x = call.value("self")
    low, high = call.optional("min"), call.optional("max")
    real = x.dtype.startswith(("float", "bfloat"))
    numbers = all(v is None or v.constant and v.tensor.size == 1 for v in (low, high))
    if numbers and real and not x.constant and low is not None and high is not None:
        most = float(high.tensor.item())
        least = min(float(low.tensor.item()), most)
        if least == 0:
            tensor = call.layer(keras.layers.ReLU, x.tensor, max_value=most)
            return x.with_tensor(tensor, nonnegative=True)
        return x.with_tensor(call.ops.clip(x.tensor, least, most))
    if low is not None:
        x = call.elementwise(call.ops.maximum, *_alike(x, low))
    if high is not None:
        x = call.elementwise(call.ops.minimum, *_alike(x, high))
    return x


@converts("aten.where")
def where(call: Call) -> Value:
    """One value or the other."""
    condition = call.value("condition")
    return _chosen(call, condition, call.value("self"), call.value("other"))


@converts("aten.masked_fill")
def masked_fill(call: Call) -> Value:
    """A number where a mask says so."""
    fill = call.value("value")
    # -inf stands for "never": as the least number no kernel makes NaN of a row of nothing else,
    # unless the program is there to see to that.
    if fill.constant and np.isneginf(fill.tensor).all() and not call.sees_to_nan():
        fill = fill.with_tensor(np.full_like(fill.tensor, _LEAST))
    return _chosen(call, call.value("mask"), fill, call.value("self"))


def _chosen(call: Call, condition: Value, a: Value, b: Value) -> Value:
    dtype = "float32" if call.meta.dtype in ("float16", "bfloat16", "float64") else call.meta.dtype
    a, b = (
        v.with_tensor(v.tensor.astype(dtype)) if v.constant and v.tensor.dtype != dtype else v
        for v in (a, b)
    )
    return call.elementwise(call.ops.where, condition, a, b)


@converts("aten.erf", "aten.special_erf", "aten.erfc", "aten.special_erfc", "aten.special_ndtr")
def erf(call: Call) -> Value:
    """The share of a normal distribution that is less, and what is made of it."""
    x, ops, name = call.value("self"), call.ops, call.node.target
    if "erf." in name and (x.constant or call.feeds("aten.add", "other", 1)):
        return x.with_tensor(ops.erf(x.tensor))  # GELU by hand, which the converter knows
    root = float(np.sqrt(2.0))
    scale = root if "erf." in name else -root if "erfc" in name else 1.0
    at = x.tensor if scale == 1.0 else ops.multiply(x.tensor, scale)
    # LiteRT has no erf but in GELU, which is x times that share.
    zero = ops.equal(at, 0.0)
    share = ops.divide(ops.gelu(at, approximate=False), ops.where(zero, 1.0, at))
    share = ops.where(zero, 0.5, share)
    if "ndtr" in name:
        return x.with_tensor(share)
    twice = ops.multiply(share, 2.0)
    return x.with_tensor(twice if "erfc" in name else ops.subtract(twice, 1.0))


@converts("aten.rad2deg")
def rad2deg(call: Call) -> Value:
    """From radians."""
    x = call.value("self")
    return x.with_tensor(call.ops.multiply(x.tensor, 180 / np.pi))


@converts("aten.xlogy", "aten.special_xlogy", "aten.special_xlog1py")
def xlogy(call: Call) -> Value:
    """`x * log(y)`, or of `1 + y`; 0 where x is."""
    ops = call.ops
    a, b = _alike(call.value("self"), call.value("other"))
    more = "log1py" in call.node.target

    def compute(x: Any, y: Any) -> Any:
        zero = ops.equal(x, 0.0)
        log = ops.log1p if more else ops.log
        return ops.multiply(x, log(ops.where(zero, 0.0 if more else 1.0, y)))

    return call.elementwise(compute, a, b)


@converts("aten.special_entr")
def entropy(call: Call) -> Value:
    """`-x * log(x)`, 0 where x is, minus infinity below."""
    x, ops = call.value("self"), call.ops
    above = ops.greater(x.tensor, 0.0)
    entropy = ops.negative(ops.multiply(x.tensor, ops.log(ops.where(above, x.tensor, 1.0))))
    return x.with_tensor(ops.where(ops.less(x.tensor, 0.0), -np.inf, entropy))


@converts("aten.sinc", "aten.special_sinc")
def sinc(call: Call) -> Value:
    """`sin(pi x) / (pi x)`, 1 at 0."""
    x, ops = call.value("self"), call.ops
    zero = ops.equal(x.tensor, 0.0)
    angle = ops.where(zero, 1.0, ops.multiply(x.tensor, float(np.pi)))
    return x.with_tensor(ops.where(zero, 1.0, ops.divide(ops.sin(angle), angle)))


@converts("aten.copysign")
def copysign(call: Call) -> Value:
    """The size of one with the sign of the other."""
    ops = call.ops
    a, b = _alike(call.value("self"), call.value("other"))
    return call.elementwise(
        lambda x, y: ops.multiply(ops.abs(x), ops.where(ops.less(y, 0.0), -1.0, 1.0)), a, b
    )


@converts("aten.signbit")
def signbit(call: Call) -> Value:
    """Whether it is below 0."""
    x = call.value("self")
    return x.with_tensor(call.ops.less(x.tensor, 0))


@converts("aten.isposinf", "aten.isneginf")
def infinite(call: Call) -> Value:
    """Whether it is infinity, or minus infinity."""
    x, ops, most = call.value("self"), call.ops, float(np.finfo(np.float32).max)
    # TensorFlow's converter makes the largest number of an infinity that a graph holds.
    above = "pos" in call.node.target
    return x.with_tensor(ops.greater(x.tensor, most) if above else ops.less(x.tensor, -most))


@converts("aten.ldexp")
def ldexp(call: Call) -> Value:
    """`self * 2 ** other`."""
    ops = call.ops
    a, b = (
        v.with_tensor(ops.cast(v.tensor, "float32")) for v in map(call.value, ("self", "other"))
    )
    return call.elementwise(lambda x, y: ops.multiply(x, ops.power(2.0, y)), a, b)


@converts("aten.logaddexp2")
def logaddexp2(call: Call) -> Value:
    """`log2(2 ** a + 2 ** b)`."""
    ops, two = call.ops, float(np.log(2.0))
    return call.elementwise(
        lambda a, b: ops.multiply(
            ops.logaddexp(ops.multiply(a, two), ops.multiply(b, two)), 1 / two
        ),
        *_alike(call.value("self"), call.value("other")),
    )


@converts("aten.isclose")
def isclose(call: Call) -> Value:
    """`|a - b| <= atol + rtol * |b|`."""
    ops, rtol, atol = call.ops, call.get("rtol", 1e-5), call.get("atol", 1e-8)
    return call.elementwise(
        lambda a, b: ops.less_equal(
            ops.abs(ops.subtract(a, b)), ops.add(ops.multiply(ops.abs(b), rtol), atol)
        ),
        *_alike(call.value("self"), call.value("other")),
    )


@converts("aten.isin")
def isin(call: Call) -> Value:
    """Whether it is one of constants."""
    listed = call.value(
        "test_elements" if "test_elements" in call.node.arguments else "test_element"
    )
    if not listed.constant:
        call.refuse("what it is searched in depends on the input")
    x, ops = call.value("elements"), call.ops
    numbers = constant(call.arranger.array(listed).ravel().astype(str(x.tensor.dtype)))
    hits = call.elementwise(ops.equal, unsqueezed(x, x.rank), numbers)
    found = call.reduced(hits, [x.rank], lambda t, axes: ops.any(t, axis=axes, keepdims=True))
    found = squeezed(found, [x.rank])
    return found.with_tensor(ops.logical_not(found.tensor)) if call.get("invert") else found


@converts("aten.heaviside")
def heaviside(call: Call) -> Value:
    """0 below 0, 1 above, another number at 0."""
    ops = call.ops

    def compute(x: Any, y: Any) -> Any:
        return ops.where(ops.equal(x, 0.0), y, ops.cast(ops.greater(x, 0.0), "float32"))

    return call.elementwise(compute, *_alike(call.value("self"), call.value("values")))


@converts("aten.frac")
def frac(call: Call) -> Value:
    """What follows the point."""
    x = call.value("self")
    return x.with_tensor(call.ops.subtract(x.tensor, call.ops.trunc(x.tensor)))


@converts("aten.logit", "aten.special_logit")
def logit(call: Call) -> Value:
    """`log(x / (1 - x))`, x within bounds where they are given."""
    x, eps, ops = call.value("self"), call.get("eps"), call.ops
    tensor = x.tensor if eps is None else ops.clip(x.tensor, eps, 1 - eps)
    return x.with_tensor(ops.log(ops.divide(tensor, ops.subtract(1.0, tensor))))


@converts("aten.nan_to_num")
def nan_to_num(call: Call) -> Value:
    """Numbers in the place of NaN and infinities."""
    x = call.value("self")
    most = float(np.finfo(np.float32).max)
    nan, high, low = (
        call.get(n, d) for n, d in (("nan", 0.0), ("posinf", most), ("neginf", -most))
    )
    return x.with_tensor(call.ops.nan_to_num(x.tensor, nan=nan, posinf=high, neginf=low))


@converts("aten.lerp")
def lerp(call: Call) -> Value:
    """`self + weight * (end - self)`."""
    ops = call.ops

    def compute(a: Any, b: Any, w: Any) -> Any:
        return ops.add(a, ops.multiply(w, ops.subtract(b, a)))

    return call.elementwise(compute, call.value("self"), call.value("end"), call.value("weight"))


@converts("aten.fmod")
def fmod(call: Call) -> Value:
    """What is left of a division rounded towards 0."""
    ops = call.ops
    a, b = _alike(call.value("self"), call.value("other"))
    whole = _truncated(call, a, b)
    return call.elementwise(lambda s, q, t: ops.subtract(s, ops.multiply(q, t)), a, whole, b)


@converts("aten.addcmul", "aten.addcdiv")
def addcmul(call: Call) -> Value:
    """`self + value * a * b`, or `a / b`."""
    factor = call.get("value", 1)
    ops = call.ops
    inner = ops.multiply if "mul" in call.node.target else ops.divide

    def compute(s: Any, a: Any, b: Any) -> Any:
        product = inner(a, b)
        return ops.add(s, product if factor == 1 else ops.multiply(product, factor))

    return call.elementwise(
        compute, call.value("self"), call.value("tensor1"), call.value("tensor2")
    )
