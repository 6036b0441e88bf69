"""Runs a .tflite model on the CPU or the GPU delegate, each run in a process of its own.

A model can crash the runtime, hang it or be refused by it; in a process of its own that is an
outcome with a name, and the caller lives on. Imports NumPy and the standard library only: the
runtime is loaded in the child process (``worker.py``), TensorFlow and Keras nowhere.
"""

from converters.runtime.probe import gpu_trial, half_precision, is_software, vulkan_adapter
from converters.runtime.result import RunResult
from converters.runtime.runner import cores, run

__all__ = [
    "RunResult",
    "cores",
    "gpu_trial",
    "half_precision",
    "is_software",
    "run",
    "vulkan_adapter",
]
