"""Keras to ``.tflite``, and a static check of the result.

The public names load on first use: linting needs no TensorFlow, importing needs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converters.tflite.export import Exporter as Exporter
    from converters.tflite.export import to_tflite as to_tflite
    from converters.tflite.options import FLOAT_PRECISIONS as FLOAT_PRECISIONS
    from converters.tflite.options import INTEGER_PRECISIONS as INTEGER_PRECISIONS
    from converters.tflite.options import PRECISIONS as PRECISIONS
    from converters.tflite.static_check import RULES as RULES
    from converters.tflite.static_check import Finding as Finding
    from converters.tflite.static_check import lint as lint

_HOME = {
    "to_tflite": "converters.tflite.export",
    "Exporter": "converters.tflite.export",
    "FLOAT_PRECISIONS": "converters.tflite.options",
    "INTEGER_PRECISIONS": "converters.tflite.options",
    "PRECISIONS": "converters.tflite.options",
    "lint": "converters.tflite.static_check",
    "Finding": "converters.tflite.static_check",
    "RULES": "converters.tflite.static_check",
}

__all__ = [
    "FLOAT_PRECISIONS",
    "INTEGER_PRECISIONS",
    "PRECISIONS",
    "RULES",
    "Exporter",
    "Finding",
    "lint",
    "to_tflite",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'converters.tflite' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
