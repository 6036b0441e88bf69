"""The PyTorch ULSAM that the tests use as their oracle.

It is the one in `examples/digits/torch_ulsam.py`, loaded by path because the examples are not a
package. Imports PyTorch only.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_HOME = Path(__file__).resolve().parent.parent / "examples" / "digits" / "torch_ulsam.py"


def _load():
    # Registered under its own name, so that the example's files and the tests share one module.
    name = _HOME.stem
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, _HOME)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


SubSpace = _load().SubSpace
ULSAM = _load().ULSAM

__all__ = ["ULSAM", "SubSpace"]
