"""What a script of this folder needs beside Keras: told at once, in one line.

Imports the standard library only.
"""

import sys
from importlib.util import find_spec


def need(*modules: str) -> None:
    """Ends the program if a module is not installed; nothing is imported."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        sys.exit(
            'The examples need what `pip install ".[dev]"` installs, from the project\'s folder. '
            f"Missing: {', '.join(missing)}"
        )
