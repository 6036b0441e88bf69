"""One verification: a model beside what it was made of, outputs and attention.

`limits` imports the standard library only; the public names load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converters.verify.attention import AttentionSNR as AttentionSNR
    from converters.verify.attention import attention_snr as attention_snr
    from converters.verify.compare import Verification as Verification
    from converters.verify.compare import verify as verify
    from converters.verify.limits import Limits as Limits
    from converters.verify.outputs import compare_outputs as compare_outputs
    from converters.verify.outputs import relative_difference as relative_difference

_HOME = {
    "AttentionSNR": "attention",
    "attention_snr": "attention",
    "Verification": "compare",
    "verify": "compare",
    "Limits": "limits",
    "compare_outputs": "outputs",
    "relative_difference": "outputs",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'converters.verify' has no attribute {name!r}")
    return getattr(import_module(f"converters.verify.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
