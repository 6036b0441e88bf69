"""The archive around a program: where PyTorch's versions keep what, checked before it is trusted.

PyTorch 2.8 and later write a folder with the program, one member for every weight, and a table of
what lies where; up to 2.7 the program and three files of `torch.save`. May import `checkpoint`.
"""

import base64
import binascii
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from converters.checkpoint import json_header, npz_file, torch_zip
from converters.checkpoint.archive import Archive
from converters.checkpoint.content import (
    ContentError,
    LazyTensor,
    UnsupportedTensor,
    refused,
    shown,
    size_of,
)
from converters.checkpoint.dtypes import TORCH_DTYPES
from converters.checkpoint.torch_tensors import Storage, strided
from converters.program.arguments import scalar_type

REFERENCE = "reference/"  # among the archive's extra files: one .npy in Base64 for every array
_LARGEST_JSON = 1 << 24  # some times that of the largest networks, which have 4 MB
_PROGRAM, _OLD_PROGRAM = "models/", "serialized_exported_program.json"
_HOW = "export it with torch.export.export(model.eval(), inputs) and torch.export.save"


@dataclass(frozen=True)
class Content:
    """What an archive holds.

    Attributes:
        program: The program, as the JSON says it.
        tensors: Parameters, buffers and constants by key.
        examples: Arguments and keyword arguments that it was exported with, as they are nested;
            read when called.
        reference: Recorded arrays by key; each read when called.
    """

    program: Mapping[str, Any]
    tensors: Mapping[str, LazyTensor]
    examples: Callable[[], Any]
    reference: Mapping[str, Callable[[], np.ndarray]]


def open_content(file: BinaryIO) -> Content:
    """Open a `.pt2`.

    Raises:
        ContentError: It is none, is damaged, or holds what would have to be executed.
    """
    head = file.read(8)
    file.seek(0)
    if head[4:8] in {b"ET12", b"ET11"}:
        raise ContentError(
            f"an ExecuTorch program is compiled and cannot be read; {_HOW}. Received: a .pte file"
        )
    if not head.startswith(b"PK\x03\x04"):
        raise ContentError(
            f"expected a .pt2 archive of torch.export.save; {_HOW}. "
            f"Received: {size_of(file)} bytes that begin {head.hex(' ') or 'with nothing'}"
        )
    archive = Archive(file)
    weakref.finalize(archive, file.close)
    if (total := sum(archive.sizes.values())) > size_of(file):
        raise ContentError(
            "a .pt2 that unpacks to more than its size is refused; PyTorch writes it uncompressed. "
            f"Received: {total} bytes in {size_of(file)}"
        )
    names = list(archive.sizes)
    if _OLD_PROGRAM in archive.sizes:
        return _old(archive)
    folder = names[0].split("/")[0] + "/" if names else ""
    programs = [n for n in names if n.startswith(f"{folder}{_PROGRAM}") and n.endswith(".json")]
    if len(programs) == 1:
        return _new(archive, folder, programs[0])
    if programs:
        raise ContentError(
            "expected one program in the archive; save them apart. Received: "
            f"{shown([name.removeprefix(folder + _PROGRAM) for name in programs])}"
        )
    raise ContentError(f"expected a program of torch.export in the archive; {_other(names)}")


def _other(names: list[str]) -> str:
    """Say what an archive is that holds no program, and what to do."""
    parts = {part for name in names for part in name.split("/")}
    for mark, what in (
        ("constants.pkl", "TorchScript, which keeps the program as code"),
        ("aotinductor", "an AOTInductor package, which is compiled"),
        ("data.pkl", "a checkpoint of torch.save, which holds weights and no program"),
    ):
        if mark in parts:
            return f"{_HOW}. Received: {what}"
    return f"{_HOW}. Received: members {shown(names[:4])}"


def _new(archive: Archive, folder: str, name: str) -> Content:
    model = name.removeprefix(folder + _PROGRAM).removesuffix(".json")
    if archive.sizes.get(f"{folder}byteorder", 0) == 3:  # "big"
        raise ContentError("a big-endian archive; export it on another machine. Received: big")
    tensors: dict[str, LazyTensor] = {}
    read = _shared(archive)
    for kind in ("weights", "constants"):
        data = f"{folder}data/{kind}/"
        config = f"{data}{model}_{kind}_config.json"
        if f"{data}{model}.pt" in archive.sizes:
            tensors.update(_saved_tensors(archive, f"{data}{model}.pt"))
            continue
        for key, entry in _json(archive, config)["config"].items():
            if key in tensors:
                raise ContentError(
                    f"two tensors under one key; the file is damaged. Received: {shown(key)}"
                )
            tensors[key] = _stored(archive, data, key, entry, read)
    examples = f"{folder}data/sample_inputs/{model}.pt"
    return Content(
        _json(archive, name),
        tensors,
        partial(_saved, archive, examples),
        dict(_recorded(archive, f"{folder}extra/{REFERENCE}")),
    )


def _old(archive: Archive) -> Content:
    # PyTorch 2.2 calls what torch.save wrote `.json`.
    tensors = {
        key: tensor
        for name in ("serialized_state_dict", "serialized_constants")
        for ending in (".pt", ".json")
        for key, tensor in _saved_tensors(archive, name + ending).items()
    }
    return Content(
        _json(archive, _OLD_PROGRAM),
        tensors,
        partial(_saved, archive, "serialized_example_inputs.pt"),
        dict(_recorded(archive, f"extra_files/{REFERENCE}")),
    )


def _json(archive: Archive, name: str) -> dict[str, Any]:
    """Read a member that is JSON."""
    size = archive.sizes.get(name)
    if size is None:
        raise ContentError(f"the archive is incomplete; {_HOW}. Received: no member {shown(name)}")
    if size > _LARGEST_JSON:
        raise ContentError(
            f"a program of more than {_LARGEST_JSON} bytes is refused. Received: {size} bytes"
        )
    return json_header.parse(archive.read(name).tobytes(), shown(name))


def _shared(archive: Archive) -> Callable[[Storage, np.dtype], np.ndarray]:
    """Read members so that tensors of one memory get one array, for as long as one is used."""
    held: weakref.WeakValueDictionary[str, np.ndarray] = weakref.WeakValueDictionary()

    def read(storage: Storage, dtype: np.dtype) -> np.ndarray:
        data = held.get(storage.key)
        if data is None:
            data = held[storage.key] = archive.read(storage.key)
        return data

    return read


def _stored(
    archive: Archive,
    folder: str,
    key: str,
    entry: Mapping[str, Any],
    read: Callable[[Storage, np.dtype], np.ndarray],
) -> LazyTensor:
    """Find a tensor that has a member of its own."""
    path, meta = entry["path_name"], entry["tensor_meta"]
    if type(path) is not str or "/" in path or "\\" in path or path in {"", ".", ".."}:
        raise ContentError(
            "a member's name that leaves the archive's folder; the file is malicious. "
            f"Received: {shown(path)} at {shown(key)}"
        )
    if entry.get("use_pickle"):
        raise ContentError(
            "a tensor that is kept as a pickle, as those of subclasses (quantised, distributed) "
            f"and script objects are; export the plain float network. Received: {shown(key)}"
        )
    if folder + path not in archive.sizes:
        raise ContentError(
            f"the archive has no data of {shown(key)}; get the file again. Received: {shown(path)}"
        )
    name = scalar_type(meta["dtype"])
    if name not in TORCH_DTYPES:
        raise ContentError(f"no NumPy array can hold {name}. Received: {shown(key)}")
    dtype, size = TORCH_DTYPES[name], archive.sizes[folder + path]
    storage = Storage(folder + path, dtype, size // dtype.itemsize, 0, size // dtype.itemsize, read)
    shape, strides = (tuple(_fixed(n) for n in meta[side]) for side in ("sizes", "strides"))
    return strided(storage, _fixed(meta["storage_offset"]), shape, strides)


def _fixed(size: Any) -> int:
    match size:
        case {"as_int": int() as number}:
            return number
    raise ContentError(f"expected a fixed size of a stored tensor. Received: {shown(str(size))}")


def _saved(archive: Archive, name: str) -> Any:
    """Read a member that torch.save wrote; None for one that is not there or is empty."""
    if not archive.sizes.get(name):
        return None
    try:
        tree = torch_zip.read_tree(Archive(archive.part(name)))
        if tree.unknown:
            raise refused(tree.unknown, "in what torch.export writes")
        return tree.root
    except ContentError as error:
        raise ContentError(f"{shown(name)} in the archive: {error}") from None


def _saved_tensors(archive: Archive, name: str) -> dict[str, LazyTensor]:
    tree = _saved(archive, name)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ContentError(f"expected named tensors at {shown(name)}. Received: {shown(tree)}")
    for key, value in tree.items():
        if isinstance(value, UnsupportedTensor):
            raise ContentError(
                f"no NumPy array can hold {value.kind}; {value.advice}. Received: {shown(key)}"
            )
    return {key: value for key, value in tree.items() if isinstance(value, LazyTensor)}


def _recorded(archive: Archive, folder: str) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    for name in archive.sizes:
        if name.startswith(folder) and name.endswith(".npy"):
            yield (
                name.removeprefix(folder).removesuffix(".npy"),
                partial(_read_recorded, archive, name),
            )


class _Decoded:
    """A member that is an .npy array in Base64, as an archive of this one array."""

    def __init__(self, archive: Archive, name: str):
        try:
            self._data = base64.b64decode(archive.read(name).data, validate=True)
        except binascii.Error as error:
            raise ContentError(
                f"expected an .npy array in Base64 at {shown(name)}; record it again. "
                f"Received: {shown(str(error))}"
            ) from None
        self.sizes = {name: len(self._data)}

    def head(self, name: str, count: int) -> bytes:
        return self._data[:count]

    def read(self, name: str) -> np.ndarray:
        return np.frombuffer(self._data, np.uint8)


def _read_recorded(archive: Archive, name: str) -> np.ndarray:
    (array,) = npz_file.read_tree(_Decoded(archive, name)).values()
    if isinstance(array, UnsupportedTensor):
        raise ContentError(
            "expected an array of numbers; record it again. "
            f"Received: {array.kind} at {shown(name)}"
        )
    return array.read()
