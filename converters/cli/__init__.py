"""The `ulsam-keras` command: one file for each subcommand.

Imports click only; rich, NumPy and TensorFlow are loaded by the subcommands that need them.
Exit status 0: all checks held; 1: done, and a check failed; 2: bad input or usage, nothing written.
"""

import sys


def main() -> None:
    """Runs the command and ends the process."""
    try:
        from converters.cli.group import cli
        from converters.cli.guard import run_command
    except KeyboardInterrupt:  # before there is anything that could say so
        sys.exit(130)
    run_command(cli)
