"""A whole pickled module as data: the state dict that it would give.

Imports nothing outside this package.
"""

from typing import Any

from converters.checkpoint.content import (
    ContentError,
    LazyTensor,
    Room,
    UnsupportedTensor,
    shown,
)
from converters.checkpoint.unpickler import Object

_DEEPEST = 200
_MOST_MODULES = 100_000
_LONGEST_KEY = 4096
_COST = 200  # bytes that a key or a module takes, beside its length


def state_dict(module: Object, room: Room) -> dict[str, Any]:
    """Collect the tensors of a module under the keys of `module.state_dict()`.

    Parameters and buffers of a module come before those of the modules in it, in the order in which
    they were made; buffers that are not persistent are left out. A module that is reached twice
    gives its tensors under both names, as PyTorch does.

    Args:
        module: The module.
        room: What the keys may take.

    Raises:
        ContentError: A module inside itself, nesting that no network has, or a key for two tensors.
    """
    tensors: dict[str, Any] = {}
    # An iterator over the modules inside for each one that is entered: no recursion, and no list
    # of all of them, which modules that share their parts would make endless.
    entered = [(module, iter([("", module)]))]
    count = 0
    while entered:
        _, below = entered[-1]
        prefix, inner = next(below, (None, None))
        if prefix is None:
            entered.pop()
            continue
        if not isinstance(inner, Object) or inner.state is None:
            continue
        count += 1
        if (
            any(inner is outer for outer, _ in entered[1:])
            or len(entered) > _DEEPEST
            or len(prefix) > _LONGEST_KEY
            or count > _MOST_MODULES
        ):
            raise ContentError(
                "modules inside themselves, or nested as in no network; the file is damaged or "
                f"malicious. Received: {shown(str(inner.origin))}"
            )
        dicts = (v for v in inner.state.values() if isinstance(v, dict | list))
        room.take(_COST + 8 * sum(map(len, dicts)))  # looked at in each place that it has
        listed = inner.state.get("_non_persistent_buffers_set")
        left_out = set(filter(_is_text, listed)) if isinstance(listed, list) else set()
        for kind in ("_parameters", "_buffers"):
            for name, tensor in _items(inner, kind):
                if not isinstance(tensor, LazyTensor | UnsupportedTensor):
                    continue  # None, where a module has no bias, say
                if kind == "_buffers" and name in left_out:
                    continue
                if prefix + name in tensors:
                    raise ContentError(
                        "two tensors of a module under one key; the file is damaged or malicious. "
                        f"Received: {shown(prefix + name)}"
                    )
                room.take(_COST + len(prefix))
                tensors[prefix + name] = tensor
        children = [(f"{prefix}{name}.", child) for name, child in _items(inner, "_modules")]
        entered.append((inner, iter(children)))
    return tensors


def _is_text(value: Any) -> bool:
    return type(value) is str


def _items(module: Object, kind: str) -> list[tuple[str, Any]]:
    items = (module.state or {}).get(kind)
    return [(k, v) for k, v in items.items() if _is_text(k)] if isinstance(items, dict) else []
