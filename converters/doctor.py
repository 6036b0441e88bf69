"""What this machine has of what the project uses. Imports nothing heavy; asks for versions only."""

import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from converters.runtime import vulkan_adapter


@dataclass(frozen=True)
class Part:
    """One part of the machine.

    Attributes:
        name: What it is.
        found: Version, or name of the adapter; empty if it is missing.
        use: What it is for.
        install: The command that installs it.
    """

    name: str
    found: str
    use: str
    install: str


_PACKAGES = (
    # package, what it is for, what installs it
    ("tensorflow", "conversion", "pip install ulsam-keras"),
    ("keras", "models", "pip install ulsam-keras"),
    ("ai-edge-litert", "running .tflite files", "pip install ulsam-keras"),
    (
        "tensorflow-model-optimization",
        "quantisation-aware training",
        'pip install "ulsam-keras[qat]"',
    ),
    ("tf_keras", "quantisation-aware training", 'pip install "ulsam-keras[qat]"'),
    ("torch", "the tests and training examples only", "pip install torch"),
)
_SOFTWARE = ("swiftshader", "llvmpipe")


def examine() -> list[Part]:
    """Looks for every part. The GPU is really started, in a process of its own."""
    parts = [Part("Python", sys.version.split()[0], "everything", "")]
    for package, use, install in _PACKAGES:
        try:
            found = version(package)
        except PackageNotFoundError:
            found = ""
        parts.append(Part(package, found, use, install))
    adapter = vulkan_adapter() or ""
    if any(name in adapter.lower() for name in _SOFTWARE):
        adapter += " (software)"
    install = "scripts/vulkan_drivers.sh (of a clone; software drivers, without root)"
    parts.append(Part("Vulkan adapter", adapter, "the GPU delegate", install))
    return parts
