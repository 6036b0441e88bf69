"""What kind of model file a file is, told by its content. Imports the standard library only."""

import os
import zipfile
from typing import BinaryIO, Literal

# "program": torch.export; "other": checkpoints, and whatever else their readers name.
Format = Literal["tflite", "keras", "program", "torchscript", "aotinductor", "executorch", "other"]

# What is compiled, or is code: its weights cannot be taken out without running it.
_EXPORT = "export the module itself with torch.export (converters.export_program)"
_COMPILED = {
    "torchscript": "TorchScript, a program as code; load it with torch.jit.load and save its "
    f"state_dict() with torch.save, or {_EXPORT}",
    "aotinductor": f"an AOTInductor package, compiled machine code; {_EXPORT}, or save its "
    "state_dict() with torch.save",
    "executorch": f"an ExecuTorch program (.pte), compiled for its runtime; {_EXPORT}, or save its "
    "state_dict() with torch.save",
}


def format_of(file: BinaryIO) -> Format:
    """The format of an open file, which is left at its start."""
    file.seek(0)
    head = file.read(8)
    file.seek(0)
    if head[4:8] == b"TFL3":
        return "tflite"
    if head[4:6] == b"ET" and head[6:8].isdigit():
        return "executorch"
    if head.startswith(b"\x7fELF"):
        return "aotinductor"  # of PyTorch before 2.6: a bare shared library
    if not head.startswith(b"PK\x03\x04"):
        return "other"
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception:  # a damaged archive, of which zipfile raises anything
        return "other"
    finally:
        file.seek(0)
    if {"config.json", "model.weights.h5"} <= set(names):
        return "keras"
    if all(name.endswith(".npy") for name in names):
        return "other"  # an .npz, whose arrays may be called anything
    inner = {name.partition("/")[2] for name in names}
    if any(name.startswith("data/aotinductor/") for name in inner):
        return "aotinductor"
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return "torchscript"
    if any(name.startswith("models/") and name.endswith(".json") for name in inner):
        return "program"
    return "program" if "serialized_exported_program.json" in {*names, *inner} else "other"


def compiled(file: BinaryIO) -> str | None:
    """What an open file is that nothing can be read from, and what to export instead."""
    return _COMPILED.get(format_of(file))


def refuse_compiled(path: str | os.PathLike[str]) -> None:
    """Raises for a file that nothing can be read from; a file that cannot be opened is left.

    Raises:
        ValueError: If it is TorchScript, an AOTInductor package or an ExecuTorch program.
    """
    try:
        with open(path, "rb") as file:
            what = compiled(file)
    except OSError:
        return
    if what is not None:
        raise ValueError(f"The file is {what}. Received: {os.fspath(path)!r}")
