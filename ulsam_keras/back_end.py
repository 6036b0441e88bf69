"""What to say where Keras finds no back end. Imports the standard library only."""

import os
from importlib.util import find_spec

# What installs each back end of Keras that is tested here.
_INSTALL = {
    "tensorflow": 'pip install "ulsam-keras[convert]"',
    "jax": "pip install jax",
    "torch": "pip install torch",
}


def explain(error: ImportError) -> None:
    """Says in one line what to install, or to set, where Keras cannot be imported.

    Args:
        error: What Keras raised.

    Raises:
        ImportError: If it is that its back end is not installed.
    """
    wanted = error.name
    if wanted not in _INSTALL:
        return
    there = [name for name in _INSTALL if find_spec(name) is not None]
    if there:
        advice = (
            f"set the environment variable KERAS_BACKEND={there[0]} before Python starts, or run "
            f"{_INSTALL[wanted]}"
        )
    else:
        one, *others = (f"{line} ({name})" for name, line in _INSTALL.items())
        advice = (
            f"install one: {one}, or {' or '.join(others)}; for these two also set the environment "
            "variable KERAS_BACKEND to that name before Python starts"
        )
    variable = os.environ.get("KERAS_BACKEND")
    raise ImportError(
        f"Keras is set to the back end {wanted!r}, which is not installed; {advice}. Received: "
        f"{f'KERAS_BACKEND={variable}' if variable else 'no KERAS_BACKEND'}, back ends installed: "
        f"{', '.join(there) or 'none'}",
        name=wanted,
    ) from error
