"""The extras of the installation, and the one line that says which of them is missing.

Imports the standard library only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class Extra:
    """An extra of `pyproject.toml`.

    Attributes:
        use: What it is for.
        packages: The name of each distribution, by the module that it brings.
    """

    use: str
    packages: Mapping[str, str]


EXTRAS = {
    # First: of a module that several have, the smallest is named.
    "viz": Extra("pictures of the attention", {"matplotlib": "matplotlib"}),
    "convert": Extra(
        "conversion to .tflite, lint, verify",
        {
            "tensorflow": "tensorflow",
            "ai_edge_litert": "ai-edge-litert",
            "PIL": "pillow",
            "jinja2": "jinja2",
            "matplotlib": "matplotlib",
        },
    ),
    "qat": Extra(
        "quantisation-aware training",
        {
            "tensorflow_model_optimization": "tensorflow-model-optimization",
            "tf_keras": "tf_keras",
        },
    ),
}


def install_line(extra: str) -> str:
    """The command that installs an extra."""
    return f'pip install "ulsam-keras[{extra}]"'


def require(use: str, *modules: str) -> None:
    """Raises if a module of an extra is not installed; nothing is imported.

    Args:
        use: What needs it, as the message begins.
        *modules: The modules.

    Raises:
        ImportError: In one line, with the command that installs what is missing.
    """
    for module in modules:
        if find_spec(module) is None:
            raise missing(use, module)


def missing(use: str, module: str, received: str = "") -> ImportError:
    """The error of a module that is not installed, with what was received of it."""
    extra = next(name for name, extra in EXTRAS.items() if module in extra.packages)
    return ImportError(
        f"{use} needs {EXTRAS[extra].packages[module]}, which is not installed; install it with "
        f"{install_line(extra)}. Received: {received or f'no module {module!r}'}",
        name=module,
    )


def told(error: ImportError) -> str | None:
    """What to say of an import that failed for want of an extra; `None` for any other."""
    cause: BaseException | None = error
    while isinstance(cause, ImportError):
        module = (cause.name or "").partition(".")[0]
        if any(module in extra.packages for extra in EXTRAS.values()):
            message = str(error)
            return message if "pip install" in message else str(missing("This", module))
        cause = cause.__cause__
    return None
