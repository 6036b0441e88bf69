"""Tools beside Python that tests run: a test without its tool is skipped, and fails in CI."""

import os

import pytest


def need(there, script):
    """Ends the test if a tool is not there, which a script of `scripts/` brings."""
    if not there:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"not there: scripts/{script}")
