"""Which function converts which operator.

Imports the standard library.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from converters.pytorch.graph.call import Call

Handler = Callable[["Call"], Any]
F = TypeVar("F", bound=Callable[..., Any])

_HANDLERS: dict[str, Handler] = {}


def converts(*targets: str) -> Callable[[F], F]:
    """Says that a function converts an operator of a PyTorch program to Keras.

    The function is given the call and returns the value that the operator gives, a list of values
    where it gives several. It replaces what the project has for that operator.

    Args:
        *targets: The operators, as `ulsam-keras inspect` lists them: `"aten.conv2d"` takes every
            overload and the in-place form `aten.conv2d_` too, `"aten.conv2d.default"` one.

    Returns:
        The decorator.

    Raises:
        ValueError: If it is used without an operator's name.

    Example:
    A file `mine.py` for an operator of one's own, loaded with `--import mine.py`:

    >>> import keras
    >>> from converters import converts
    >>>
    >>> @converts("mylib.scaled_swish")
    ... def scaled_swish(call):
    ...     x = call.value("x")  # a Keras tensor, maps channels last: x.tensor
    ...     y = call.ops.silu(x.tensor) * call.get("scale", 1.0)
    ...     return x.with_tensor(y)  # element by element: the axes stay what they are

    One that needs its dimensions in a certain order asks for it:

    >>> @converts("mylib.row_sums")
    ... def row_sums(call):
    ...     x = call.ordered(call.value("x"), (0, 2, 3, 1))  # (N, C, H, W) as (N, H, W, C)
    ...     return call.result(call.ops.sum(x.tensor, axis=2, keepdims=True), (0, 2, 3, 1))
    """
    if not targets or not all(isinstance(target, str) for target in targets):
        raise ValueError(
            'Give the operators by name: @converts("aten.relu"). '
            f"Received: {', '.join(repr(target) for target in targets) or 'nothing'}"
        )

    def register(function: F) -> F:
        for target in targets:
            _HANDLERS[target] = function
        return function

    return register


def base_name(target: str) -> str:
    """The operator without its overload: `"aten.conv2d"` of `"aten.conv2d.default"`."""
    parts = target.split(".")
    return ".".join(parts[:2])


def in_place(target: str) -> bool:
    """Whether an operator writes to what it is given: `aten.relu_.default`."""
    name = base_name(target)
    return name.startswith("aten.") and name.endswith("_") and not name.endswith("__")


def handler(target: str) -> Handler | None:
    """What converts an operator, or `None`."""
    base = base_name(target)
    names = (target, base, base.removesuffix("_") if in_place(target) else base)
    return next((_HANDLERS[name] for name in names if name in _HANDLERS), None)
