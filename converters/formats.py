"""What kind of model file a file is, told by its content. May import `zip_directory`."""

import os
import struct
import zipfile
from itertools import islice
from typing import BinaryIO, Literal

from converters import zip_directory

# "program": torch.export; "other": checkpoints, and whatever else their readers name.
Format = Literal["tflite", "keras", "program", "torchscript", "aotinductor", "executorch", "other"]

# What is compiled, or is code, and what to do: its weights cannot be taken out without running it.
_EXPORT = "export the module itself with torch.export (converters.export_program)"
COMPILED = {
    "torchscript": "TorchScript, a program as code; load it with torch.jit.load and save its "
    f"state_dict() with torch.save, or {_EXPORT}",
    "aotinductor": f"an AOTInductor package, compiled machine code; {_EXPORT}, or save its "
    "state_dict() with torch.save",
    "executorch": f"an ExecuTorch program (.pte), compiled for its runtime; {_EXPORT}, or save its "
    "state_dict() with torch.save",
}
# Names of files that a folder may be asked for, in this order.
_MODELS = (
    *(".safetensors.index.json", ".bin.index.json", ".safetensors", ".pt2", ".keras"),
    *(".pth", ".pt", ".ckpt", ".tar", ".bin", ".npz"),
)
# So many members of an archive tell what it is.
_ENOUGH = 10_000


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
        names = [member.name for member in islice(zip_directory.members(file), _ENOUGH)]
    except (zipfile.BadZipFile, struct.error, UnicodeDecodeError):
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


def special_folder(path: str | os.PathLike[str]) -> str | None:
    """What a folder is that is known, and which file of it or made of it to name instead."""
    names = sorted(os.listdir(path))
    if any(name.endswith(".distcp") for name in names):
        return (
            "a distributed checkpoint, a folder of torch.distributed.checkpoint; make one file of "
            "it with dcp_to_torch_save (python -m torch.distributed.checkpoint.format_utils "
            "dcp_to_torch FOLDER model.pth)"
        )
    if "saved_model.pb" in names:
        return "a SavedModel of TensorFlow; save the Keras model as .keras"
    for ending in _MODELS:
        found = [name for name in names if name.endswith(ending)]
        if found:
            more = " or another" if len(found) > 1 else ""
            return f"a folder; name the file inside it: {found[0]!r}{more}"
    return None


def refuse_unreadable(path: str | os.PathLike[str]) -> None:
    """Raises for what nothing can be read from; a file that cannot be opened is left.

    Raises:
        ValueError: If it is a folder, TorchScript, an AOTInductor package or an ExecuTorch program.
    """
    if os.path.isdir(path):
        folder = special_folder(path) or "a folder; name the file inside it"
        raise ValueError(f"Expected a file. Received: {os.fspath(path)!r}, {folder}")
    try:
        with open(path, "rb") as file:
            what = COMPILED.get(format_of(file))
    except OSError:
        return
    if what is not None:
        raise ValueError(f"The file is {what}. Received: {os.fspath(path)!r}")
