"""Keras to ``.tflite``, and a static check of the result.

The public names load on first use: linting needs no TensorFlow, importing needs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converters.tflite.export import PRECISIONS as PRECISIONS
    from converters.tflite.export import Exporter as Exporter
    from converters.tflite.export import to_tflite as to_tflite
    from converters.tflite.static_check import RULES as RULES
    from converters.tflite.static_check import Finding as Finding
    from converters.tflite.static_check import lint as lint

_HOME = {
    "to_tflite": "converters.tflite.export",
    "Exporter": "converters.tflite.export",
    "PRECISIONS": "converters.tflite.export",
    "lint": "converters.tflite.static_check",
    "Finding": "converters.tflite.static_check",
    "RULES": "converters.tflite.static_check",
}

__all__ = ["PRECISIONS", "RULES", "Exporter", "Finding", "lint", "to_tflite"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'converters.tflite' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
