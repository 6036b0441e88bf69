"""What this machine has of what the project uses. Imports nothing heavy; asks for versions only."""

import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass

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
    # distribution, the module it provides, what it is for, what installs it, needed by the base
    ("keras", "keras", "models", _BASE, True),
    ("numpy", "numpy", "arrays", _BASE, True),
    ("ml_dtypes", "ml_dtypes", "bfloat16 in checkpoints", _BASE, True),
    ("safetensors", "safetensors", "checkpoints", _BASE, True),
    ("click", "click", "the command", _BASE, True),
    ("tensorflow", "tensorflow", "conversion", _BASE, False),
    ("ai-edge-litert", "ai_edge_litert", "running .tflite files", _BASE, False),
    ("rich", "rich", "tables", _BASE, False),
    (
        *("tensorflow-model-optimization", "tensorflow_model_optimization"),
        *("quantisation-aware training", _QAT, False),
    ),
    ("tf_keras", "tf_keras", "quantisation-aware training", _QAT, False),
    ("torch", "torch", "the tests and training examples only", "pip install torch", False),
)
_SOFTWARE = ("swiftshader", "llvmpipe")


def examine() -> list[Part]:
    """Looks for every part. The GPU is really started, in a process of its own."""
    parts = [Part("Python", sys.version.split()[0], "everything", "", True)]
    for package, module, use, install, needed in _PACKAGES:
        found = installed_version(package, module)
        parts.append(Part(package, found, use, install, needed))
    adapter, problem = _adapter()
    install = "scripts/vulkan_drivers.sh (of a clone; software drivers, without root)"
    parts.append(Part("Vulkan adapter", adapter, "the GPU delegate", install, problem=problem))
    return parts


def installed_version(package: str, module: str | None = None) -> str:
    """The version of a package, or of another that provides its module; empty if there is none.

    `tensorflow` may be there as `tensorflow-cpu`, for example.

    Args:
        package: The name of the distribution.
        module: The module that it provides; `None` if it is called alike.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pass
    module = module or package
    try:
        if importlib.util.find_spec(module) is None:
            return ""
    except (ImportError, ValueError):
        return ""
    for provider in importlib.metadata.packages_distributions().get(module, ()):
        return f"{importlib.metadata.version(provider)} ({provider})"
    return "of unknown version"


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
