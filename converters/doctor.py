"""What this machine has of what the project uses. Imports nothing heavy; asks for versions only."""

import os
import sys
from dataclasses import dataclass

from converters.extras import EXTRAS, install_line
from converters.versions import installed

_BASE = "pip install ulsam-keras"


@dataclass(frozen=True)
class Part:
    """One part of the machine.

    Attributes:
        name: What it is.
        found: Version, or name of the adapter; empty if it is missing.
        use: What it is for.
        install: The command that installs it.
        needed: Whether the base needs it: reading checkpoints, porting, `inspect`.
        problem: Why it does not work, or what more it needs, where it is not just missing.
    """

    name: str
    found: str
    use: str
    install: str
    needed: bool = False
    problem: str = ""


_NEEDED = {
    "keras": "models",
    "numpy": "arrays",
    "ml_dtypes": "bfloat16 in checkpoints",
    "click": "the command",
    "rich": "tables",
    "h5py": ".keras files",
}
_BACK_ENDS = ("tensorflow", "jax", "torch")


def examine() -> list[Part]:
    """Looks for every part. The GPU is really started, in a process of its own."""
    parts = [Part("Python", sys.version.split()[0], "everything", "", True)]
    for package, use in _NEEDED.items():
        parts.append(Part(package, installed(package) or "", use, _BASE, True))
    parts.append(_back_end())
    for name, extra in EXTRAS.items():
        for module, package in extra.packages.items():
            if any(part.name == package for part in parts):
                continue  # of an extra above
            found = installed(package, module) or ""
            parts.append(Part(package, found, extra.use, install_line(name)))
    torch = "record, export_program, --check-with-torch"
    parts.append(Part("torch", installed("torch") or "", torch, "pip install torch"))
    adapter, problem = _adapter()
    install = "scripts/vulkan_drivers.sh (of a clone; software drivers, without root)"
    parts.append(Part("Vulkan adapter", adapter, "the GPU delegate", install, problem=problem))
    return parts


def _back_end() -> Part:
    """What Keras can compute with, and what it is told to."""
    there = {name: version for name in _BACK_ENDS if (version := installed(name))}
    found = ", ".join(f"{name} {version}" for name, version in there.items())
    install = f"{install_line('convert')}, pip install jax, or pip install torch"
    taken = os.environ.get("KERAS_BACKEND", "tensorflow") in there
    problem = "" if taken or not there else f"Keras takes it with KERAS_BACKEND={next(iter(there))}"
    return Part("back end", found, "Keras models", install, problem=problem)


def _adapter() -> tuple[str, str]:
    """The GPU's name, empty without one, and why there is none."""
    try:
        from converters.runtime import gpu_trial, is_software

        trial = gpu_trial()
    except Exception as error:  # whatever keeps it from running, the rest is told
        return "", " ".join(str(error).split()) or type(error).__name__
    problem = "" if trial.outcome == "no_driver" else trial.problem
    if is_software(trial.adapter):
        return f"{trial.adapter} (software)", problem
    return trial.adapter, problem
