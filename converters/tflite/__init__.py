"""Keras to ``.tflite``, and a static check of the result.

The public names load on first use: linting needs no TensorFlow, importing needs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converters.tflite.export import Exporter as Exporter
    from converters.tflite.export import to_tflite as to_tflite
    from converters.tflite.integer import FLOAT_PRECISIONS as FLOAT_PRECISIONS
    from converters.tflite.integer import INTEGER_PRECISIONS as INTEGER_PRECISIONS
    from converters.tflite.integer import PRECISIONS as PRECISIONS
    from converters.tflite.representative import load_images as load_images
    from converters.tflite.representative import representative_samples as representative_samples
    from converters.tflite.static_check import RULES as RULES
    from converters.tflite.static_check import Finding as Finding
    from converters.tflite.static_check import lint as lint

_HOME = {
    "to_tflite": "converters.tflite.export",
    "Exporter": "converters.tflite.export",
    "FLOAT_PRECISIONS": "converters.tflite.integer",
    "INTEGER_PRECISIONS": "converters.tflite.integer",
    "PRECISIONS": "converters.tflite.integer",
    "load_images": "converters.tflite.representative",
    "representative_samples": "converters.tflite.representative",
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
    "load_images",
    "representative_samples",
    "to_tflite",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'converters.tflite' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
