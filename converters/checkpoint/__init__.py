"""Checkpoints as NumPy arrays, without PyTorch and without executing anything from the file.

PyTorch's zip format (1.6 and later) and its older stream, ``.safetensors`` and ``.npz``, told apart
by content. May import NumPy and ml_dtypes; never PyTorch, TensorFlow or Keras.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from converters.checkpoint import entries, files, npz_file
from converters.checkpoint.archive import Archive
from converters.checkpoint.content import (
    ContentError,
    LazyTensor,
    Room,
    UnsupportedTensor,
    naming,
    size_of,
)

__all__ = ["TensorInfo", "list_tensors", "load_checkpoint", "read_npz"]

# What an .npz of recorded data may unpack to: so many bytes, or times its size.
_RECORDED, _RATIO = 1 << 30, 20


@dataclass(frozen=True)
class TensorInfo:
    """Name, shape and dtype of one tensor of a checkpoint.

    Attributes:
        name: Key, as ``load_checkpoint`` gives it.
        shape: Shape; empty for a scalar.
        dtype: NumPy dtype. bfloat16 and the float8 types are those of ml_dtypes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype


def load_checkpoint(
    path: str | os.PathLike[str], *, entry: str | None = None, checksums: bool = False
) -> dict[str, np.ndarray]:
    """Read the state dict of a checkpoint.

    Nothing in the file is executed and PyTorch is not needed. Of a training checkpoint only the
    model's tensors are read. What is left, optimizer state and averages for example, is named in a
    warning, every tensor of it, and so are classes and functions that the file names: they are
    passed over. A whole module (`torch.save(model)`), whatever its class, is read as its state
    dict: what it computes is not in such a file. Weights that PyTorch keeps in parts (weight norm,
    spectral norm, pruning) are folded as it computes them in inference, with a warning.

    Args:
        path: A ``.pth``, ``.pt`` or ``.tar`` file of ``torch.save`` (zip format, or the stream that
            PyTorch wrote before 1.6), a ``.safetensors`` or an ``.npz`` file, or the index of such
            files (``model.safetensors.index.json``). The content decides, not the extension.
        entry: Which state dict to take where the checkpoint holds several, ``"ema"`` for example;
            a dotted path (``"ema.shadow"``) reaches one that is nested, and ``"."`` the tensors at
            the top. Default: the model's, with a warning that names the others.
        checksums: Whether tensors in a zip archive are checked against its checksums, which takes
            longer than reading them. PyTorch does not.

    Returns:
        One array per tensor, in the file's order. Arrays are writable, in memory and independent of
        the file; tensors that shared a storage share memory, and views keep their strides (a tensor
        saved expanded is read-only). bfloat16 and float8 are the dtypes of ml_dtypes. The prefixes
        of DataParallel (``module.``), torch.compile (``_orig_mod.``), FSDP
        (``_fsdp_wrapped_module.``) and activation checkpoints (``_checkpoint_wrapped_module.``) are
        stripped from the keys.

    Raises:
        OSError: There is no such file, it is a directory or it may not be read.
        ValueError: The content is not such a checkpoint, is damaged, has what only a class or
            function of its own could make a weight of (the name is given), would need more memory
            than its size covers, holds no tensors or no entry of that name, or holds several state
            dicts of which none is known to be the model's.
    """
    with _state_dict(path, entry, checksums) as tensors:
        return {name: tensor.read() for name, tensor in tensors.items()}


def list_tensors(path: str | os.PathLike[str], *, entry: str | None = None) -> list[TensorInfo]:
    """List the tensors that ``load_checkpoint`` would read, without reading their data.

    Args:
        path: As for ``load_checkpoint``.
        entry: As for ``load_checkpoint``.

    Returns:
        One ``TensorInfo`` per tensor, in the file's order.

    Raises:
        OSError: As for ``load_checkpoint``.
        ValueError: As for ``load_checkpoint``.
    """
    with _state_dict(path, entry) as tensors:
        return [TensorInfo(name, tensor.shape, tensor.dtype) for name, tensor in tensors.items()]


@contextmanager
def _state_dict(
    path: str | os.PathLike[str], entry: str | None, checksums: bool = False
) -> Iterator[dict[str, LazyTensor]]:
    """Open a checkpoint, choose its state dict and give every content error the file's name."""
    with naming(path), files.open_tree(path, checksums=checksums) as tree:
        tensors, notes = entries.select(tree, entry)
        for note in notes:
            # The caller of load_checkpoint, past this and its context manager.
            warnings.warn(f"{os.fspath(path)!r} {note}", stacklevel=4)
        yield tensors


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the arrays of an ``.npz`` file, by name as they stand there.

    Raises:
        OSError: As for ``load_checkpoint``.
        ValueError: It is no ``.npz`` file, is damaged, or holds anything but numbers.
    """
    wanted = "expected an .npz file of arrays of numbers, written with numpy.savez"
    with files.open_binary(path, wanted) as file, naming(path):
        if file.read(2) != b"PK":
            raise ContentError(f"{wanted}. Received: {files.describe(file)}")
        # Recorded data may compress well, as weights do not.
        room = Room(size_of(file), max(_RECORDED, _RATIO * size_of(file)))
        arrays = {}
        for name, tensor in npz_file.read_tree(Archive(file, room)).items():
            if isinstance(tensor, UnsupportedTensor):
                raise ContentError(f"{wanted}; {tensor.advice}. Received: {tensor.kind}")
            arrays[name] = tensor.read()
        return arrays
