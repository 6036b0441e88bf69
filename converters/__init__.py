"""From a PyTorch checkpoint or program to a verified mobile model.

The public names load on first use, so that ``import converters`` (and with it the command's
``--help``) stays free of TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converters.checkpoint import TensorInfo as TensorInfo
    from converters.checkpoint import list_tensors as list_tensors
    from converters.checkpoint import load_checkpoint as load_checkpoint
    from converters.data.images import load_images as load_images
    from converters.program import Program as Program
    from converters.program import read_program as read_program
    from converters.pytorch import PortReport as PortReport
    from converters.pytorch import port_weights as port_weights
    from converters.pytorch.graph import ProgramReport as ProgramReport
    from converters.pytorch.graph import converts as converts
    from converters.pytorch.graph import to_keras as to_keras
    from converters.recording import record as record
    from converters.recording.exporting import export_program as export_program
    from converters.tflite import lint as lint
    from converters.tflite import to_tflite as to_tflite
    from converters.verify.attention import AttentionSNR as AttentionSNR
    from converters.verify.attention import attention_snr as attention_snr

_HOME = {
    "AttentionSNR": "converters.verify.attention",
    "PortReport": "converters.pytorch",
    "Program": "converters.program",
    "ProgramReport": "converters.pytorch.graph",
    "TensorInfo": "converters.checkpoint",
    "attention_snr": "converters.verify.attention",
    "converts": "converters.pytorch.graph",
    "export_program": "converters.recording.exporting",
    "lint": "converters.tflite",
    "list_tensors": "converters.checkpoint",
    "load_checkpoint": "converters.checkpoint",
    "load_images": "converters.data.images",
    "port_weights": "converters.pytorch",
    "read_program": "converters.program",
    "record": "converters.recording",
    "to_keras": "converters.pytorch.graph",
    "to_tflite": "converters.tflite",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'converters' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
