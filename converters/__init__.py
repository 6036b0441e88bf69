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
    from converters.program import Program as Program
    from converters.program import read_program as read_program
    from converters.program.exporting import export_program as export_program
    from converters.pytorch import Ledger as Ledger
    from converters.pytorch import port_weights as port_weights
    from converters.pytorch.graph import ProgramReport as ProgramReport
    from converters.pytorch.graph import converts as converts
    from converters.pytorch.graph import to_keras as to_keras
    from converters.tflite import lint as lint
    from converters.tflite import load_images as load_images
    from converters.tflite import to_tflite as to_tflite

_HOME = {
    "load_checkpoint": "converters.checkpoint",
    "list_tensors": "converters.checkpoint",
    "TensorInfo": "converters.checkpoint",
    "read_program": "converters.program",
    "Program": "converters.program",
    "export_program": "converters.program.exporting",
    "port_weights": "converters.pytorch",
    "Ledger": "converters.pytorch",
    "to_keras": "converters.pytorch.graph",
    "converts": "converters.pytorch.graph",
    "ProgramReport": "converters.pytorch.graph",
    "to_tflite": "converters.tflite",
    "lint": "converters.tflite",
    "load_images": "converters.tflite",
    "attention_fidelity": "converters.fidelity",
    "AttentionFidelity": "converters.fidelity",
}

__all__ = [
    "AttentionFidelity",
    "Ledger",
    "Program",
    "ProgramReport",
    "TensorInfo",
    "attention_fidelity",
    "converts",
    "export_program",
    "lint",
    "list_tensors",
    "load_checkpoint",
    "load_images",
    "port_weights",
    "read_program",
    "to_keras",
    "to_tflite",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'converters' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
