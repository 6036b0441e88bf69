"""PyTorch's zip format (1.6 and later): `data.pkl`, and one member for every storage.

May import NumPy.
"""

from typing import Any

import numpy as np

from converters.checkpoint.archive import Archive
from converters.checkpoint.content import ContentError, Tree, shown
from converters.checkpoint.numpy_globals import set_state
from converters.checkpoint.torch_tensors import CONSTRUCTORS, Storage, storage_from_id
from converters.checkpoint.unpickler import Unpickler

_ENCODINGS = {b"little", b"big"}


def read_tree(archive: Archive) -> Tree:
    """Interpret the pickle of a zip checkpoint; its storages are read when asked for.

    Raises:
        ContentError: The pickle asks for more than a state dict, or does not fit the storages.
    """
    pickles = [n for n in archive.sizes if n == "data.pkl" or n.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ContentError(f"expected one data.pkl in the archive. Received: {shown(pickles)}")
    folder, size = pickles[0].removesuffix("data.pkl"), archive.sizes[pickles[0]]
    order = f"{folder}byteorder"
    byteorder = archive.head(order, 8) if order in archive.sizes else b"little"
    if byteorder not in _ENCODINGS:
        raise ContentError(
            f"expected byteorder little or big; the file is damaged. Received: "
            f"{shown(byteorder.decode('latin-1'))}"
        )
    storages = _Storages(archive, folder, swap=byteorder == b"big")
    unpickler = Unpickler(
        archive.stream(pickles[0]),
        size,
        CONSTRUCTORS,
        archive.room,
        persistent_load=storages.declare,
        set_state=set_state,
    )
    return Tree(unpickler.load(), archive.room, unpickler.made, unpickler.unknown)


class _Storages:
    """The storages of an archive: checked against its directory at once, read when wanted."""

    def __init__(self, archive: Archive, folder: str, swap: bool):
        self._archive = archive
        self._folder = folder
        self._swap = swap
        self._read: dict[str, tuple[np.ndarray, int]] = {}

    def declare(self, persistent_id: Any) -> Any:
        storage = storage_from_id(persistent_id, self.read)
        if isinstance(storage, Storage) and storage.nbytes:
            size = self._archive.sizes.get(f"{self._folder}data/{storage.key}", 0)
            if size != storage.nbytes:
                raise ContentError(
                    f"expected {storage.nbytes} bytes of storage {shown(storage.key)}; the file is "
                    f"damaged or malicious. Received: {size} bytes"
                )
        return storage

    def read(self, storage: Storage, dtype: np.dtype) -> np.ndarray:
        # A complex number is two numbers to swap.
        unit = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
        if storage.key not in self._read:
            data = self._archive.read(f"{self._folder}data/{storage.key}")
            if self._swap:
                data.view(f"u{unit}").byteswap(inplace=True)
            self._read[storage.key] = data, unit
        data, swapped = self._read[storage.key]
        if self._swap and swapped != unit:
            raise ContentError(
                "a big-endian storage under two dtypes; save the tensors cloned. "
                f"Received: storage {shown(storage.key)}"
            )
        return data
