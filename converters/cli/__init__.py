"""The `ulsam-keras` command: one file for each subcommand.

Imports click only; rich, NumPy and TensorFlow are loaded by the subcommands that need them.
Exit status 0: all checks held; 1: done, and a check failed; 2: bad input or usage, nothing written.
"""

from converters.cli.group import cli, main

__all__ = ["cli", "main"]
