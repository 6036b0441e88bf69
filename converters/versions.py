"""Versions of installed packages, whatever distribution brought them. Standard library only."""

from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec


def installed(package: str, module: str | None = None) -> str | None:
    """The version of a package, or of the distribution that brings its module; `None` without.

    TensorFlow comes under other names too, tensorflow-cpu among them.

    Args:
        package: The name of the distribution.
        module: The module that it brings. Default: its name, with underscores for dashes.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        module = module or package.replace("-", "_")
    try:
        if find_spec(module) is None:
            return None
    except (ImportError, ValueError):
        return None
    for brought in packages_distributions().get(module, ()):
        return f"{version(brought)} ({brought})"
    return "of unknown version"
