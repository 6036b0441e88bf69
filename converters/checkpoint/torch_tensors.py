"""What a state dict may name in its pickle, and the tensors that come of it.

The names are those that torch.save writes, from PyTorch 0.1 on. May import NumPy.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from converters.checkpoint.content import (
    ContentError,
    LazyTensor,
    UnsupportedTensor,
    is_shape,
    shown,
)
from converters.checkpoint.dtypes import (
    STORAGES,
    TORCH_DTYPES,
    TORCH_DTYPES_WITHOUT_ARRAY,
)
from converters.checkpoint.numpy_globals import NUMPY_CONSTRUCTORS
from converters.checkpoint.unpickler import Global, Object, Unpickler

# An expanded tensor has more elements than its storage: none of a model is larger than this.
_MOST_EXPANDED_BYTES = 1 << 26
# Bytes that describing a tensor takes: its shape and strides and where it is; so many more an axis.
_COST, _AXIS = 700, 90

_Tensor = TypeVar("_Tensor", LazyTensor, UnsupportedTensor)


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of bytes in the file, as the pickle declares it.

    Attributes:
        key: Its name in the file.
        dtype: Of its elements; uint8 for an untyped one.
        count: Elements.
        start: First element in the storage of that key: above 0 for the views of PyTorch < 0.4.
        root_count: Elements of the storage of that key.
        read: Gives the bytes of the storage of that key in this machine's order for a dtype, and
            for one key always the same array.
    """

    key: str
    dtype: np.dtype
    count: int
    start: int
    root_count: int
    read: Callable[["Storage", np.dtype], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Bytes of the storage of that key."""
        return self.root_count * self.dtype.itemsize


def storage_from_id(
    persistent_id: Any, read: Callable[["Storage", np.dtype], np.ndarray]
) -> Storage | Global:
    """Make the storage that a persistent id describes.

    The id is ('storage', class, key, location, count[, view]), view being None or (key, start,
    count) in the stream before 1.6, or ('module', class, source file, source) there.
    """
    match persistent_id:
        case ("module", Global() as module, *_):
            return module
        case ("storage", Global(name=name), str() as key, _, int() as count, *rest) if (
            name in STORAGES and count >= 0 and len(rest) <= 1
        ):
            start, length = 0, count
            if rest and rest[0] is not None:
                _, start, length = rest[0]
                if not (_is_count(start) and _is_count(length) and start + length <= count):
                    raise ContentError(
                        f"a view outside its storage of {count} elements; the file is damaged or "
                        f"malicious. Received: {shown(rest[0])}"
                    )
            return Storage(key, STORAGES[name], length, start, count, read)
    raise ContentError(
        "expected the persistent id of a storage; the file is damaged or malicious. "
        f"Received: {shown(type(persistent_id).__name__)}"
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _tensor(
    unpickler: Unpickler,
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    requires_grad: Any = None,
    hooks: Any = None,
    metadata: Any = None,
    *,
    dtype: np.dtype | None = None,
) -> LazyTensor | UnsupportedTensor:
    """torch._utils._rebuild_tensor, _rebuild_tensor_v2; offset and strides in elements."""
    unpickler.room.take(_COST + _AXIS * (len(shape) if isinstance(shape, tuple) else 0))
    if isinstance(metadata, dict) and any(metadata.get(flag) for flag in ("conj", "neg")):
        return _made(
            unpickler,
            UnsupportedTensor(
                "a lazily conjugated or negated tensor",
                "call resolve_conj().resolve_neg() before saving",
            ),
        )
    return _made(unpickler, strided(storage, offset, shape, strides, dtype))


def _made(unpickler: Unpickler, tensor: _Tensor) -> _Tensor:
    unpickler.made.append(tensor)
    return tensor


def strided(
    storage: Any, offset: Any, shape: Any, strides: Any, dtype: np.dtype | None = None
) -> LazyTensor:
    """A tensor that lies in a storage; nothing that it is given is trusted.

    Args:
        storage: The storage.
        offset: Its first element there.
        shape: Its shape, a tuple.
        strides: Its strides in elements, a tuple.
        dtype: Its dtype; that of the storage by default.

    Raises:
        ContentError: No such tensor lies in that storage.
    """
    if not (
        isinstance(storage, Storage)
        and _is_count(offset)
        and isinstance(shape, tuple)
        and isinstance(strides, tuple)
        and len(shape) == len(strides)
        and is_shape(shape)
        and is_shape(strides)
    ):
        raise ContentError(
            "a tensor without a proper storage, shape or strides; the file is damaged or "
            f"malicious. Received: shape {shown(shape)}, strides {shown(strides)}"
        )
    dtype = dtype or storage.dtype
    count = math.prod(shape)
    first = storage.start * storage.dtype.itemsize + offset * dtype.itemsize
    span = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if count else 0
    held = storage.count * storage.dtype.itemsize
    if count and (offset + span) * dtype.itemsize > held:
        raise ContentError(
            f"a tensor reaches outside its storage of {held} bytes; the file is damaged or "
            f"malicious. Received: shape {shown(shape)}, strides {shown(strides)}, "
            f"offset {shown(offset)}"
        )
    if count * dtype.itemsize > max(held, _MOST_EXPANDED_BYTES):
        raise ContentError(
            f"a tensor expanded to {count * dtype.itemsize} bytes is refused; save it contiguous. "
            f"Received: shape {shown(shape)}, strides {shown(strides)}"
        )
    # A key is a storage's in its own file: of a checkpoint in several each has its own reader.
    place = ((storage.read, storage.key), first, shape, strides, dtype)
    return LazyTensor(shape, dtype, partial(_read, storage, *place[1:]), place)


def _read(
    storage: Storage, first: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    if not math.prod(shape):
        return np.empty(shape, dtype)
    array = np.ndarray(
        shape,
        dtype,
        buffer=storage.read(storage, dtype),
        offset=first,
        # Along an axis of one element a stride means nothing, and may be too large for NumPy.
        strides=tuple(
            (s if n > 1 else 1) * dtype.itemsize for n, s in zip(shape, strides, strict=True)
        ),
    )
    if any(n > 1 and s == 0 for n, s in zip(shape, strides, strict=True)):
        array.flags.writeable = False  # one element of memory stands for many
    return array


def _tensor_with_dtype(
    unpickler: Unpickler,
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    requires_grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> LazyTensor | UnsupportedTensor:
    """torch._utils._rebuild_tensor_v3, for dtypes that never had a storage class."""
    if isinstance(dtype, Global) and dtype.module == "torch":
        if dtype.name in TORCH_DTYPES_WITHOUT_ARRAY:
            return _made(unpickler, UnsupportedTensor(f"a tensor of dtype {dtype}"))
        if dtype.name in TORCH_DTYPES:
            return _tensor(
                unpickler,
                storage,
                offset,
                shape,
                strides,
                dtype=TORCH_DTYPES[dtype.name],
                metadata=metadata,
            )
    raise ContentError("a tensor without a dtype; the file is damaged or malicious")


def _inner_tensor(unpickler: Unpickler, data: Any = None, *_: Any) -> Any:
    """A Parameter, a Variable, a tensor of another device: the tensor inside."""
    if isinstance(data, Object):
        return _made_by(unpickler, data.origin, data)
    if not isinstance(data, LazyTensor | UnsupportedTensor):
        raise ContentError("a parameter without a tensor; the file is damaged or malicious")
    return data


def _with_attributes(
    unpickler: Unpickler, function: Any, kind: Any, arguments: Any, state: Any = None
) -> Any:
    """torch._tensor._rebuild_from_type_v2: a tensor with Python attributes, or a subclass."""
    while isinstance(function, Global) and function.name == _FROM_TYPE:  # itself inside itself
        unpickler.room.take(_COST)
        function, kind, arguments = arguments[:3]
    tensor = unpickler.call(function, arguments)
    if isinstance(tensor, Object):
        return _made_by(unpickler, tensor.origin, tensor)
    if isinstance(kind, Global) and (kind.module, kind.name) not in CONSTRUCTORS:
        return _made_by(unpickler, kind, tensor)
    return tensor


def _made_by(unpickler: Unpickler, origin: Global, *parts: Any) -> UnsupportedTensor:
    return _made(
        unpickler,
        UnsupportedTensor(
            f"a tensor that only {shown(str(origin))} knows how to make",
            "nothing of it was executed; save plain tensors",
            parts,
        ),
    )


def _set(unpickler: Unpickler, items: Any = ()) -> list[Any]:
    if not isinstance(items, list | tuple):
        raise TypeError("a set of what is no list")
    unpickler.room.take(8 * len(items))
    return list(items)


def _size(unpickler: Unpickler, shape: Any = ()) -> tuple[Any, ...]:
    if not isinstance(shape, tuple):
        raise TypeError("torch.Size of what is no tuple")
    return shape


def _dict(unpickler: Unpickler, items: Any = (), *_: Any) -> dict[Any, Any]:
    """OrderedDict and its like; Python 2 passes the items as a list of pairs."""
    if not isinstance(items, dict | list):
        return {}  # defaultdict(factory), AttributeDict()
    unpickler.room.take(130 * len(items))
    if isinstance(items, dict):
        return dict(items)
    return {key: value for key, value in items if type(key) is str}


def _unsupported(kind: str) -> Callable[..., UnsupportedTensor]:
    return lambda unpickler, *parts: _made(unpickler, UnsupportedTensor(kind, parts=parts))


_UTILS, _FROM_TYPE = "torch._utils", "_rebuild_from_type_v2"
_REBUILDING: dict[tuple[str, str], Callable[..., Any] | None] = {
    (_UTILS, "_rebuild_tensor"): _tensor,
    (_UTILS, "_rebuild_tensor_v2"): _tensor,
    (_UTILS, "_rebuild_tensor_v3"): _tensor_with_dtype,
    (_UTILS, "_rebuild_parameter"): _inner_tensor,
    (_UTILS, "_rebuild_parameter_with_state"): _inner_tensor,
    (_UTILS, "_rebuild_device_tensor_from_cpu_tensor"): _inner_tensor,
    (_UTILS, "_rebuild_device_tensor_from_numpy"): _inner_tensor,
    ("torch._tensor", _FROM_TYPE): _with_attributes,
    ("torch.tensor", _FROM_TYPE): _with_attributes,
    **{
        (_UTILS, name): _unsupported(f"a {kind} tensor (torch._utils.{name})")
        for name, kind in {
            "_rebuild_qtensor": "quantized",
            "_rebuild_sparse_tensor": "sparse",
            "_rebuild_nested_tensor": "nested",
            "_rebuild_meta_tensor_no_storage": "meta",
        }.items()
    },
    **dict.fromkeys(
        [
            ("torch.nn.parameter", "Parameter"),
            ("torch.nn.parameter", "Buffer"),
            ("torch.nn", "Parameter"),
            ("torch.autograd.variable", "Variable"),
            ("torch.autograd", "Variable"),
        ],
        _inner_tensor,
    ),
}
_CONTAINERS: dict[tuple[str, str], Callable[..., Any] | None] = {
    ("torch", "Size"): _size,
    ("builtins", "set"): _set,
    ("__builtin__", "set"): _set,
    **dict.fromkeys(
        [
            ("collections", "OrderedDict"),
            ("collections", "defaultdict"),
            ("collections", "Counter"),
            ("builtins", "dict"),
            ("__builtin__", "dict"),
            # The hyperparameters in every checkpoint of Lightning.
            ("pytorch_lightning.utilities.parsing", "AttributeDict"),
            ("lightning.pytorch.utilities.parsing", "AttributeDict"),
            ("lightning_fabric.utilities.data", "AttributeDict"),
            ("lightning.fabric.utilities.data", "AttributeDict"),
        ],
        _dict,
    ),
}
# Harmless bookkeeping of training scripts, none of which is built.
_BOOKKEEPING: dict[tuple[str, str], Callable[..., Any] | None] = dict.fromkeys(
    [
        *[("torch", name) for name in (*TORCH_DTYPES, *TORCH_DTYPES_WITHOUT_ARRAY)],
        *[(module, name) for name in STORAGES for module in ("torch", "torch.cuda")],
        ("torch.storage", "UntypedStorage"),
        ("torch", "Tensor"),
        ("torch", "device"),
        ("torch", "per_tensor_affine"),
        ("torch", "per_channel_affine"),
        ("torch", "per_tensor_symmetric"),
        ("torch", "per_channel_symmetric"),
        ("torch.serialization", "_get_layout"),
        ("argparse", "Namespace"),
        ("types", "SimpleNamespace"),
        ("collections", "deque"),
        *[("pathlib", name) for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath")],
        *[("pathlib._local", name) for name in ("Path", "PosixPath", "WindowsPath")],
        *[("datetime", name) for name in ("datetime", "date", "time", "timedelta", "timezone")],
        *[
            (module, name)
            for module in ("builtins", "__builtin__")
            for name in (
                *("bool", "int", "float", "complex", "str", "list", "tuple"),
                *("frozenset", "slice", "range", "xrange", "object", "long", "unicode"),
            )
        ],
    ]
)

CONSTRUCTORS: dict[tuple[str, str], Callable[..., Any] | None] = {
    **_BOOKKEEPING,
    **_CONTAINERS,
    **_REBUILDING,
    **NUMPY_CONSTRUCTORS,
}
