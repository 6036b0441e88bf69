"""PyTorch's stream before 1.6: five pickles, then the storages, each behind its length.

May import NumPy.
"""

import os
from typing import Any, BinaryIO

import numpy as np

from converters.checkpoint.content import ContentError, Room, Tree, read_into, refused, shown
from converters.checkpoint.numpy_globals import set_state
from converters.checkpoint.torch_tensors import CONSTRUCTORS, Storage, storage_from_id
from converters.checkpoint.unpickler import Unpickler

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_LENGTH = 8  # bytes, little-endian on every machine, as are the storages


def read_tree(file: BinaryIO, room: Room) -> Tree:
    """Interpret the pickles and find the storages, seeking past their data.

    Raises:
        ContentError: A pickle asks for more than a state dict, or does not fit the storages.
    """
    size = os.fstat(file.fileno()).st_size
    storages = _Storages(file)
    unpickler = Unpickler(
        file, size, CONSTRUCTORS, room, persistent_load=storages.declare, set_state=set_state
    )
    if unpickler.load() != _MAGIC:
        if unpickler.unknown:
            raise refused(unpickler.unknown, "a plain pickle")
        raise ContentError(
            "expected the mark of torch.save at the start; save with torch.save, .safetensors or "
            "numpy.savez. Received: a plain pickle"
        )
    if (protocol := unpickler.load()) != _PROTOCOL:
        raise ContentError(f"expected protocol {_PROTOCOL}. Received: {shown(protocol)}")
    unpickler.load()  # byte order and sizes of C types where it was saved: PyTorch ignores them too
    tree = unpickler.load()
    storages.locate(unpickler.load())
    return Tree(tree, room, unpickler.made, unpickler.unknown)


class _Storages:
    """The storages behind the pickles: declared there, then located, read when wanted."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._declared: dict[str, Storage] = {}
        self._places: dict[str, int] = {}
        self._read: dict[str, np.ndarray] = {}

    def declare(self, persistent_id: Any) -> Any:
        storage = storage_from_id(persistent_id, self.read)
        if isinstance(storage, Storage):
            first = self._declared.setdefault(storage.key, storage)
            if first.nbytes != storage.nbytes:
                raise ContentError(
                    f"storage {shown(storage.key)} has two sizes; the file is damaged or "
                    f"malicious. Received: {first.nbytes} and {storage.nbytes} bytes"
                )
        return storage

    def locate(self, keys: Any) -> None:
        """Find every storage, in the order of the keys, and check its length."""
        size = os.fstat(self._file.fileno()).st_size
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ContentError("expected a list of storage keys; the file is damaged")
        for key in keys:
            length = self._file.read(_LENGTH)
            storage = self._declared.get(key)
            place = self._file.tell()
            if storage is None or len(length) != _LENGTH or place + storage.nbytes > size:
                raise ContentError(
                    f"the file is incomplete or damaged at storage {shown(key)}; get it again. "
                    f"Received: {size} bytes"
                )
            count = int.from_bytes(length, "little", signed=True)
            if count != storage.root_count:
                raise ContentError(
                    f"expected {storage.root_count} elements of storage {shown(key)}; the file is "
                    f"damaged. Received: {count}"
                )
            self._places[key] = place
            self._file.seek(place + storage.nbytes)
        missing = self._declared.keys() - self._places.keys()
        if missing:
            raise ContentError(
                f"the file has no storage {shown(min(missing))}; it is incomplete or damaged, get "
                f"it again. Received: {len(self._places)} storages"
            )

    def read(self, storage: Storage, dtype: np.dtype) -> np.ndarray:
        if storage.key not in self._read:
            self._file.seek(self._places[storage.key])
            self._read[storage.key] = read_into(self._file, storage.nbytes)
        return self._read[storage.key]
