"""The tensors of a checkpoint that are not handed over: each is named, with why.

Imports nothing outside this package.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from converters.checkpoint.content import LazyTensor, Tree, UnsupportedTensor, alike, listing, shown
from converters.checkpoint.torch_tensors import Storage
from converters.checkpoint.unpickler import Object

EXTRA_STATE = "_extra_state"
# Words that begin the names of bookkeeping; what is below is taken only if `entry` asks for it.
_BOOKKEEPING = (
    *("optim", "sched", "scaler", "rng", "random", "metric", "loss", "meter", "callback"),
    *("config", "cfg", "args", "hparams", "hyper", "history"),
)
_DEPTH = 8  # names that a place is told by
_LONGEST_NAME = 60
_MOST_GROUPS = 60

_Items = Iterator[tuple[Any, Any]]


def is_bookkeeping(path: tuple[str, ...]) -> bool:
    """Say whether a path leads to what a training script keeps beside the model."""
    return any(word.startswith(_BOOKKEEPING) for name in path for word in name.lower().split("_"))


def describe(
    tree: Tree,
    chosen: Any,
    handed: Iterable[LazyTensor | UnsupportedTensor],
    told: Iterable[Any],
) -> str:
    """Name the tensors that were not handed over, those alike together.

    Args:
        tree: The whole checkpoint.
        chosen: The state dict or module that was taken.
        handed: Its tensors that were handed over.
        told: Other state dicts and modules, which were named already.
    """
    accounted = {id(tensor) for tensor in handed}
    passed = {id(node) for node in told}
    groups: Counter[tuple[str, str]] = Counter()
    names: dict[tuple[str, str], str] = {}  # of groups: the one place, or with numbers left open
    seen: set[int] = set()
    # Iterators, each over what is inside of a thing, with its place and why that is not taken.
    entered: list[tuple[_Items, str, str, int]] = [(iter([("", tree.root)]), "", "", 0)]
    while entered:
        items, place, why, depth = entered[-1]
        name, value = next(items, (None, entered))
        if value is entered:
            entered.pop()
            continue
        inner, reason = _enter(place, why, depth, name, value)
        if isinstance(value, LazyTensor | UnsupportedTensor | Storage):
            if id(value) in accounted:
                continue
            accounted.add(id(value))
            if reason != _TOLD:
                group = alike(inner), reason or "no weight of the model"
                groups[group] += 1
                if names.setdefault(group, inner) != inner:
                    names[group] = group[0]
            if isinstance(value, UnsupportedTensor):
                entered.append((_inside(value.parts), inner, _TOLD, depth + 1))
        elif isinstance(value, dict | list | tuple | Object) and id(value) not in seen:
            seen.add(id(value))
            if id(value) in passed:
                reason = _TOLD if isinstance(value, Object) else _TOLD_HERE
            elif value is chosen:
                reason = _ATTRIBUTE if isinstance(value, Object) else ""
            entered.append((_inside(value), inner, reason, depth + 1))
    lost = [tensor for tensor in tree.made if id(tensor) not in accounted]
    if lost:
        groups[_LOST, _first(lost)] += len(lost)
    parts = [
        f"{shown(names.get(group, group[0]))} ({group[1]}{f', {n} tensors' if n > 1 else ''})"
        for group, n in groups.items()
    ]
    return listing(parts, _MOST_GROUPS)


# Told already, with all that is inside; told already but for dicts inside.
_TOLD, _TOLD_HERE = "told", "told here"
_LOST = "keys that are no text, and attributes"
_ATTRIBUTE = "an attribute or buffer that is not in its state dict"


def _enter(place: str, why: str, depth: int, name: Any, value: Any) -> tuple[str, str]:
    """The place of a thing inside another, and why it is not taken."""
    if why == _TOLD_HERE:
        why = _TOLD if isinstance(value, LazyTensor | UnsupportedTensor) else ""
    if why and why != _ATTRIBUTE:
        return place, why  # all of it for one reason
    name = str(name)[:_LONGEST_NAME] if type(name) in (str, int) else ""
    if depth <= _DEPTH and name not in ("_parameters", "_buffers", "_modules", ""):
        place = f"{place}.{name}" if place else name
    if isinstance(value, Object) and value.state is None:
        return place, f"inside {shown(str(value.origin))}"
    if why:
        return place, why
    if isinstance(value, dict) and "param_groups" in value:
        return place, "state of an optimizer"
    if isinstance(value, Storage):
        return place, "a storage"
    if name and is_bookkeeping((name,)):
        return place, "bookkeeping of the training"
    if name.endswith(EXTRA_STATE):
        return place, "extra state"
    if isinstance(value, tuple) and depth:
        return place, "in a tuple, as in quantised layers"
    return place, ""


def _inside(value: Any) -> _Items:
    if isinstance(value, Object):
        inner = value.state if value.state is not None else value.parts
        return _inside(inner)
    if isinstance(value, dict):
        return iter(value.items())
    return enumerate(value)


def _first(tensors: list[LazyTensor | UnsupportedTensor]) -> str:
    first = tensors[0]
    if isinstance(first, UnsupportedTensor):
        return first.kind
    return f"the first {first.dtype.name} {shown(first.shape)}"
