"""What this machine has of what the project uses. Imports nothing heavy; asks for versions only."""

import sys
from dataclasses import dataclass

from converters.versions import installed

_BASE, _QAT = "pip install ulsam-keras", 'pip install "ulsam-keras[qat]"'


@dataclass(frozen=True)
class Part:
    """One part of the machine.

    Attributes:
        name: What it is.
        found: Version, or name of the adapter; empty if it is missing.
        use: What it is for.
        install: The command that installs it.
        needed: Whether the base needs it: reading checkpoints, porting, `inspect`.
        problem: Why it does not work, where it is not just missing.
    """

    name: str
    found: str
    use: str
    install: str
    needed: bool = False
    problem: str = ""


_PACKAGES = (
    # package, what it is for, what installs it, needed by the base
    ("keras", "models", _BASE, True),
    ("numpy", "arrays", _BASE, True),
    ("ml_dtypes", "bfloat16 in checkpoints", _BASE, True),
    ("click", "the command", _BASE, True),
    ("tensorflow", "conversion", _BASE, False),
    ("ai-edge-litert", "running .tflite files", _BASE, False),
    ("rich", "tables", _BASE, False),
    ("tensorflow-model-optimization", "quantisation-aware training", _QAT, False),
    ("tf_keras", "quantisation-aware training", _QAT, False),
    ("torch", "the tests and training examples only", "pip install torch", False),
)
_SOFTWARE = ("swiftshader", "llvmpipe")


def examine() -> list[Part]:
    """Looks for every part. The GPU is really started, in a process of its own."""
    parts = [Part("Python", sys.version.split()[0], "everything", "", True)]
    for package, use, install, needed in _PACKAGES:
        found = installed(package) or ""
        parts.append(Part(package, found, use, install, needed))
    adapter, problem = _adapter()
    install = "scripts/vulkan_drivers.sh (of a clone; software drivers, without root)"
    parts.append(Part("Vulkan adapter", adapter, "the GPU delegate", install, problem=problem))
    return parts


def _adapter() -> tuple[str, str]:
    """The GPU's name, empty without one, and why there is none."""
    try:
        from converters.runtime import vulkan_adapter

        adapter = vulkan_adapter() or ""
    except Exception as error:  # whatever keeps it from running, the rest is told
        return "", " ".join(str(error).split()) or type(error).__name__
    if any(name in adapter.lower() for name in _SOFTWARE):
        adapter += " (software)"
    return adapter, ""
