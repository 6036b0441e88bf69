"""The two software Vulkan drivers that `scripts/vulkan_drivers.sh` puts into `.vulkan`."""

import os
from pathlib import Path

import pytest

_HOME = Path(__file__).resolve().parent.parent / ".vulkan"

ADAPTER = {"swiftshader": "SwiftShader", "lavapipe": "llvmpipe"}
NONE = {
    "LD_LIBRARY_PATH": None,
    "VK_ICD_FILENAMES": "/nonexistent",
    "VK_DRIVER_FILES": "/nonexistent",
}


def environment(driver):
    """The worker's environment for a driver; skips without it, or fails if one is required."""
    folder = _HOME / driver
    if not folder.is_dir():
        reason = f"no {driver}: run scripts/vulkan_drivers.sh"
        (pytest.fail if os.environ.get("ULSAM_REQUIRE_GPU") == "1" else pytest.skip)(reason)
    if driver == "swiftshader":  # is its own loader, and reads no variable
        return {"LD_LIBRARY_PATH": str(folder)}
    return {
        "LD_LIBRARY_PATH": str(folder),
        "VK_ICD_FILENAMES": str(folder / "lvp_icd.json"),
        "VK_DRIVER_FILES": None,
        # Quicker to compile; the arithmetic is the same.
        "GALLIVM_PERF": "nopt",
        "LP_NATIVE_VECTOR_WIDTH": "128",
    }


def hide(monkeypatch):
    """Has a test, and what it starts, find no driver."""
    for name, value in NONE.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
