"""The softmax over the positions of a map, in three forms that are one function in float.

They differ in what 8-bit arithmetic leaves of them. Imports Keras (public names only).
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops

ATTENTION_FORMS = ("log_softmax", "softmax", "float")
# The name scope of the operations of the form "float": by it a converter knows what to leave alone.
FLOAT_ISLAND = "ulsam_float_island"

_FORM = ContextVar("ulsam_attention_form", default="softmax")


@contextmanager
def attention_form(form: str) -> Iterator[None]:
    """Has every ULSAM that is called or traced within the block compute its softmax in a form.

    Weights and values are the same in all forms; what differs is the operators of a traced graph.
    In training the softmax operator is used, the fastest.
    Only the calling thread is concerned, and no layer is changed. What was traced before keeps its
    form: a model that has run `predict` or `fit` does so until it is compiled again.

    Args:
        form: `"softmax"`, the softmax operator, which is what is used outside of any such block.
            Its int8 kernel in LiteRT has the fixed step 1/256, so that a flat map of more than
            about 16 x 16 positions becomes zeros. `"log_softmax"`, the exponential of the
            log-softmax: the int8 kernels keep the logarithm in steps of 1/16, whatever the size of
            the map. `"float"`, the exponential, its sum and their quotient, in the name scope
            `FLOAT_ISLAND`, for a converter that leaves these in float.

    Raises:
        ValueError: If the form is none of `ATTENTION_FORMS`.

    Example:

    >>> with attention_form("log_softmax"):
    ...     function = tf.function(model, autograph=False).get_concrete_function(spec)
    """
    token = _FORM.set(checked_form(form))
    try:
        yield
    finally:
        _FORM.reset(token)


def current_form() -> str:
    """The form that a ULSAM called now would take."""
    return _FORM.get()


def checked_form(form: Any) -> str:
    """The form, once it is known to be one.

    Raises:
        ValueError: If it is none of `ATTENTION_FORMS`.
    """
    if form not in ATTENTION_FORMS:
        raise ValueError(
            f"`attention` must be one of {', '.join(map(repr, ATTENTION_FORMS))}. "
            f"Received: attention={form!r}"
        )
    return form


def spatial_softmax(s: Any) -> Any:
    """Softmax over the H * W positions of each map: (N, H, W, g) to (N, H, W, g)."""
    form = _FORM.get()
    if form == "float":
        with keras.name_scope(FLOAT_ISLAND):
            exponential = ops.exp(s - ops.max(s, axis=(1, 2), keepdims=True))
            return exponential / ops.sum(exponential, axis=(1, 2), keepdims=True)
    _, height, width, groups = ops.shape(s)
    a = ops.transpose(ops.reshape(s, (-1, height * width, groups)), (0, 2, 1))
    a = ops.exp(ops.log_softmax(a, axis=-1)) if form == "log_softmax" else softmax(a)
    return ops.reshape(ops.transpose(a, (0, 2, 1)), (-1, height, width, groups))


def softmax(a: Any) -> Any:
    """Softmax over the last axis, of whatever size."""
    if a.shape[-1] != 1:
        return ops.softmax(a, axis=-1)
    with warnings.catch_warnings():
        # Keras takes a softmax over one value for a mistake; of a map with one position it is 1.
        warnings.filterwarnings("ignore", message="You are using a softmax over axis")
        return ops.softmax(a, axis=-1)
