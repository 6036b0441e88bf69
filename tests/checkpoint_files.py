"""Checkpoint files for the tests, written by PyTorch, safetensors and NumPy themselves."""

import io
import pickle
import struct
import zipfile

import numpy as np
import torch
from safetensors.torch import save_file

# What torch.save writes before the state dict in the stream of PyTorch < 1.6.
LEGACY_START = b"".join(
    pickle.dumps(value, protocol=2)
    for value in (
        0x1950A86A20F9469CFC6C,
        1001,
        {"protocol_version": 1001, "little_endian": True, "type_sizes": {"long": 4}},
    )
)


def save_zip(content, path):
    torch.save(content, path)


def save_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_safetensors(content, path):
    save_file(content, path)


def save_npz(content, path):
    np.savez(path, **{name: tensor.numpy() for name, tensor in content.items()})


def save_npz_compressed(content, path):
    np.savez_compressed(path, **{name: tensor.numpy() for name, tensor in content.items()})


TORCH_FORMATS = {"zip": save_zip, "legacy": save_legacy}
ALL_FORMATS = {
    **TORCH_FORMATS,
    "safetensors": save_safetensors,
    "npz": save_npz,
    "npz_compressed": save_npz_compressed,
}


def zip_of(pickled, storages=None, *, byteorder=b"little", compression=zipfile.ZIP_STORED):
    """A zip checkpoint around a pickle of one's own."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", byteorder)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", b"3\n")
    return stream.getvalue()


def legacy_of(pickled, storages=None):
    """A checkpoint in the stream of PyTorch < 1.6 around a pickle of one's own (float32)."""
    storages = storages or {}
    return b"".join(
        [
            LEGACY_START,
            pickled,
            pickle.dumps(list(storages), protocol=2),
            *(struct.pack("<q", len(data) // 4) + data for data in storages.values()),
        ]
    )


class TensorPickler(pickle.Pickler):
    """Pickles `Declared` as torch.save pickles tensors, with whatever it declares."""

    def persistent_id(self, value):
        return value.id if isinstance(value, DeclaredStorage) else None

    def reducer_override(self, value):
        if isinstance(value, Declared):
            return torch._utils._rebuild_tensor_v2, value.arguments
        return NotImplemented


class DeclaredStorage:
    def __init__(self, key, count, kind=torch.FloatStorage, tag="storage", extra=()):
        self.id = (tag, kind, key, "cpu", count, *extra)


class Declared:
    """A tensor that declares what it likes about its storage."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, {})


def pickle_of(content):
    stream = io.BytesIO()
    TensorPickler(stream, protocol=2).dump(content)
    return stream.getvalue()


def bits(array):
    """The bytes of an array's elements in C order, to compare bit by bit."""
    return np.ascontiguousarray(array).tobytes()


def torch_bits(tensor):
    return bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())


def assert_same(loaded, expected):
    """Every array equals PyTorch's tensor: name, shape, dtype and every bit."""
    assert set(loaded) == set(expected)
    for name, tensor in expected.items():
        array = loaded[name]
        assert array.shape == tuple(tensor.shape), name
        assert f"torch.{array.dtype.name}" == str(tensor.dtype), name
        assert bits(array) == torch_bits(tensor), name
