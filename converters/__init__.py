"""From a PyTorch checkpoint to a verified mobile model.

The public names load on first use, so that ``import converters`` (and with it the command's
``--help``) stays free of TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converters.checkpoint import TensorInfo as TensorInfo
    from converters.checkpoint import list_tensors as list_tensors
    from converters.checkpoint import load_checkpoint as load_checkpoint
    from converters.fidelity import AttentionFidelity as AttentionFidelity
    from converters.fidelity import attention_fidelity as attention_fidelity
    from converters.pytorch import PortReport as PortReport
    from converters.pytorch import port_weights as port_weights
    from converters.tflite import lint as lint
    from converters.tflite import load_images as load_images
    from converters.tflite import to_tflite as to_tflite

_HOME = {
    "load_checkpoint": "converters.checkpoint",
    "list_tensors": "converters.checkpoint",
    "TensorInfo": "converters.checkpoint",
    "port_weights": "converters.pytorch",
    "PortReport": "converters.pytorch",
    "to_tflite": "converters.tflite",
    "lint": "converters.tflite",
    "load_images": "converters.tflite",
    "attention_fidelity": "converters.fidelity",
    "AttentionFidelity": "converters.fidelity",
}

__all__ = [
    "AttentionFidelity",
    "PortReport",
    "TensorInfo",
    "attention_fidelity",
    "lint",
    "list_tensors",
    "load_checkpoint",
    "load_images",
    "port_weights",
    "to_tflite",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'converters' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
