"""Weights that a checkpoint has in parts, as PyTorch computes them in inference.

torch.nn.utils keeps a weight apart for weight norm (direction and length), spectral norm (the
weight, and vectors of a power iteration) and pruning (weight and mask): as `weight_g`, `weight_v`
and so on beside each other, or as `parametrizations.weight.…`. May import NumPy.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache, partial

import numpy as np

from converters.checkpoint.content import ContentError, LazyTensor, Room, listing, shown

_BLOCK = 1 << 18  # elements that are looked at in double precision at once
_LONGEST_ROW = 1 << 20
_SURER = 10  # times nearer to 1 is the cosine of a power iteration along the right axis
_MOST_NAMES = 8
_PARAMETRIZED = re.compile(r"(.*?)parametrizations\.([^.]+)\.(.+)")

_Parts = Mapping[str, LazyTensor]
_Compute = Callable[[np.ndarray, dict[str, np.ndarray]], None]


def fold(tensors: dict[str, LazyTensor], room: Room) -> tuple[dict[str, LazyTensor], list[str]]:
    """Put weights in place of their parts.

    Args:
        tensors: A state dict.
        room: What copies of parts may take whose memory is not theirs alone.

    Returns:
        The state dict with whole weights where their first part was; and what was done, or could
        not be, as predicates of the file.
    """
    weights: dict[str, dict[str, str]] = {}  # by the weight's name the keys of its parts, by role
    for key in tensors:
        name, role = _role(key)
        if role:
            weights.setdefault(name, {})[role] = key
    held = Counter(map(_memory, tensors.values()))
    replaced: dict[str, tuple[str, LazyTensor]] = {}
    dropped: set[str] = set()
    done: Counter[str] = Counter()
    unknown: list[str] = []
    for name, keys in weights.items():
        parts = {role: tensors[key] for role, key in keys.items()}
        found = _known(parts) if name not in tensors else None
        if found is None:
            if any(_PARAMETRIZED.fullmatch(key) for key in keys.values()):
                unknown.append(shown(name))
            continue
        what, whole, compute = found
        own = held[_memory(parts[whole])] == 1 and not _is_expanded(parts[whole])
        if not own:
            room.take(math.prod(parts[whole].shape) * parts[whole].dtype.itemsize)
        tensor = LazyTensor(
            parts[whole].shape,
            parts[whole].dtype,
            cache(partial(_computed, name, parts, whole, compute, own)),
        )
        replaced[next(iter(keys.values()))] = name, tensor
        dropped.update(keys.values())
        done[what] += 1
    result = {}
    for key, tensor in tensors.items():
        if key in replaced:
            name, tensor = replaced[key]
            result[name] = tensor
        elif key not in dropped:
            result[key] = tensor
    notes = []
    if done:
        folded = " and ".join(f"{what} of {n} weight{'s' * (n > 1)}" for what, n in done.items())
        notes.append(f"has {folded} apart, which was folded into the weight as in inference")
    if unknown:
        notes.append(
            "has weights under a parametrization that keys do not tell, left in their parts: "
            f"{listing(unknown, _MOST_NAMES)}; before saving, call "
            "torch.nn.utils.parametrize.remove_parametrizations"
        )
    return result, notes


def _memory(tensor: LazyTensor) -> Hashable:
    """What is the same for tensors that may share their memory."""
    return tensor.place[0] if isinstance(tensor.place, tuple) else id(tensor)


def _is_expanded(tensor: LazyTensor) -> bool:
    """Say whether one element of memory stands for many."""
    return isinstance(tensor.place, tuple) and 0 in tuple(tensor.place[3])


def _role(key: str) -> tuple[str, str]:
    """The weight that a key is a part of, and which; an empty role for a key of its own."""
    if match := _PARAMETRIZED.fullmatch(key):
        prefix, name, role = match.groups()
        return prefix + name, role
    name, _, role = key.rpartition("_")
    return name, role if role in ("g", "v", "u", "orig", "mask") else ""


def _known(parts: _Parts) -> tuple[str, str, _Compute] | None:
    """What parts of a weight are for: a name, the part that has the weight's shape, and how."""
    match sorted(parts):
        case ["g", "v"] if _fits(parts["g"], parts["v"]):
            return "weight norm", "v", partial(_scale, "g")
        case ["original0", "original1"] if _fits(parts["original0"], parts["original1"]):
            return "weight norm", "original1", partial(_scale, "original0")
        case ["mask", "orig"] if parts["mask"].shape == parts["orig"].shape:
            return "pruning", "orig", _mask
        case ["orig", "u", "v"] if axes := _axes(parts["orig"], parts["u"], parts["v"]):
            return "spectral norm", "orig", partial(_normalise, "u", "v", axes)
        case ["0._u", "0._v", "original"] if axes := _axes(
            parts["original"], parts["0._u"], parts["0._v"]
        ):
            return "spectral norm", "original", partial(_normalise, "0._u", "0._v", axes)
    return None


def _fits(length: LazyTensor, weight: LazyTensor) -> bool:
    """Say whether these are the lengths of a weight along one of its axes, or of all of it.

    Which axis weight norm left out is what the shape tells: where every size is 1, it is all one.
    """
    shape = length.shape
    rows = max(shape, default=1)
    return _is_whole(weight, rows if rows > 1 else (weight.shape or (0,))[0]) and (
        shape == ()
        or len(shape) == len(weight.shape)
        and all(n in (1, whole) for n, whole in zip(shape, weight.shape, strict=True))
        and sum(n > 1 for n in shape) <= 1
    )


def _is_whole(weight: LazyTensor, rows: int) -> bool:
    """Say whether a tensor can be the weight of a layer, with rows that fit into some memory."""
    count = math.prod(weight.shape)
    return len(weight.shape) > 1 and 0 < count <= _LONGEST_ROW * rows


def _axes(weight: LazyTensor, u: LazyTensor, v: LazyTensor) -> list[int]:
    """The axes that a spectral norm with these vectors can have been taken along."""
    count = math.prod(weight.shape)
    if len(u.shape) != 1 or len(v.shape) != 1 or u.shape[0] * v.shape[0] != count:
        return []
    if not _is_whole(weight, u.shape[0]):
        return []
    return [axis for axis, n in enumerate(weight.shape) if n == u.shape[0]]


def _computed(name: str, parts: _Parts, whole: str, compute: _Compute, own: bool) -> np.ndarray:
    weight = parts[whole].read()
    if not own:
        weight = weight.copy(order="K")
    try:
        compute(weight, {role: part.read() for role, part in parts.items() if role != whole})
    except ContentError as error:
        raise ContentError(f"{error}. Received: {shown(name)}") from None
    return weight


def _rows(weight: np.ndarray, axis: int) -> Sequence[np.ndarray]:
    """Pieces of a weight in double precision, (some of the axis, all of the rest)."""
    moved = np.moveaxis(weight, axis, 0)
    step = max(1, _BLOCK * len(moved) // max(1, weight.size))
    return [moved[at : at + step] for at in range(0, len(moved), step)]


def _flat(piece: np.ndarray) -> np.ndarray:
    return piece.astype(np.float64).reshape(len(piece), -1)


def _scale(length: str, weight: np.ndarray, parts: dict[str, np.ndarray]) -> None:
    """For weight norm: v * (g / |v|)."""
    g = parts[length].astype(np.float64)
    axis = int(np.argmax(g.shape)) if g.ndim else 0
    squares = np.concatenate([np.square(_flat(p)).sum(axis=1) for p in _rows(weight, axis)])
    if g.size == 1:
        squares = squares.sum(keepdims=True)
    norm = np.sqrt(squares).reshape(g.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        np.multiply(weight, (g / norm).astype(weight.dtype), out=weight)


def _mask(weight: np.ndarray, parts: dict[str, np.ndarray]) -> None:
    """For pruning: orig * mask."""
    np.multiply(weight, parts["mask"].astype(weight.dtype, copy=False), out=weight)


def _normalise(
    left: str, right: str, axes: list[int], weight: np.ndarray, parts: dict[str, np.ndarray]
) -> None:
    """For spectral norm: orig / (u @ orig @ v), orig as a matrix that has its axis first."""
    u, v = parts[left].astype(np.float64), parts[right].astype(np.float64)
    products = [np.concatenate([_flat(p) @ v for p in _rows(weight, axis)]) for axis in axes]
    product = products[0]
    if len(products) > 1:
        # The power iteration left u along W v; along another axis the two have nothing to do
        # with each other. Square weights need this; a Linear's is never normalised along 1.
        cosines = [abs(u @ p) / (np.linalg.norm(u) * np.linalg.norm(p) or 1) for p in products]
        best, *others = sorted(range(len(axes)), key=lambda i: -cosines[i])
        if _SURER * (1 - cosines[best]) > 1 - cosines[others[0]]:
            raise ContentError(
                "the axis of a spectral norm cannot be told from square weights and these vectors; "
                "before saving, call torch.nn.utils.remove_spectral_norm or "
                "torch.nn.utils.parametrize.remove_parametrizations"
            )
        product = products[best]
    np.divide(weight, np.asarray(u @ product).astype(weight.dtype), out=weight)
