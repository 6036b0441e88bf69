"""Versions of installed packages, whatever distribution brought them. Standard library only."""

from importlib.metadata import PackageNotFoundError, packages_distributions, version

# TensorFlow comes under other names too, tensorflow-cpu among them.
_MODULES = {"tensorflow": "tensorflow", "ai-edge-litert": "ai_edge_litert"}


def installed(package: str) -> str | None:
    """The version of a package, or of the distribution that brings its module; `None` without."""
    try:
        return version(package)
    except PackageNotFoundError:
        pass
    module = _MODULES.get(package)
    brought = packages_distributions().get(module, []) if module else []
    return version(brought[0]) if brought else None
