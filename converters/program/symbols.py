"""Sizes that are not fixed: what PyTorch writes of them, as names and expressions one can read.

Imports the standard library and this package's errors only.
"""

import ast
from typing import Any

from converters.checkpoint.content import ContentError, shown
from converters.program.program import Dimension

_LONGEST = 4000
_INFIX = {"Add": " + ", "Mul": "*", "FloorDiv": "//", "Mod": " % ", "PythonMod": " % "}
# SymPy's srepr writes numbers as calls: Integer(2), Rational(1, 2).
_NUMBERS = {"Integer": "{}", "Float": "{}", "Rational": "{}/{}"}


def dimension(size: Any) -> tuple[Dimension, int]:
    """Read one size.

    Args:
        size: `{"as_int": 8}`, or `{"as_expr": {"expr_str": …, "hint": {"as_int": 2}}}`.

    Returns:
        The size, a number, a name or an expression; and what it was with the example inputs, -1
        where that is not known.

    Raises:
        ContentError: It is neither.
    """
    match size:
        case {"as_int": int() as number} if type(number) is int and number >= 0:
            return number, number
        case {"as_expr": {"expr_str": str() as text, **rest}}:
            expression = readable(text)
            hint = rest.get("hint")
            known = hint.get("as_int") if isinstance(hint, dict) else hint
            if expression.isdecimal():
                return int(expression), int(expression)
            return expression, known if type(known) is int and known >= 0 else -1
    raise ContentError(f"expected a size in the program. Received: {shown(str(size))}")


def readable(text: str) -> str:
    """Write an expression as one would: `Mul(Integer(2), Symbol('s0'))` as `2*s0`.

    Raises:
        ContentError: It is no expression.
    """
    if len(text) <= _LONGEST:
        try:
            return _write(ast.parse(text, mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass
    raise ContentError(f"expected an expression of dynamic sizes. Received: {shown(text)}")


def _write(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=int() | float() | str() as value):
            return str(value)
        case ast.Name(id=name):
            return name
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str() as name), *_]):
            return name
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _NUMBERS:
            return _NUMBERS[name].format(*map(_write, arguments))
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _INFIX:
            parts = [_write(argument) for argument in arguments]
            return _INFIX[name].join(f"({p})" if " " in p or "/" in p else p for p in parts)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return f"{name}({', '.join(map(_write, arguments))})"
        case ast.BinOp() | ast.UnaryOp():  # PyTorch up to 2.5 writes str() of it
            return ast.unparse(node)
    raise ValueError("no expression")
