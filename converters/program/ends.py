"""What a program's inputs and outputs are called: from the nesting that it was called with.

May import this package's errors.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from converters.checkpoint.content import ContentError, shown

Key = str | int
Path = tuple[Key, ...]
_DEEPEST = 64


def leaves(spec: str | None, fields: Mapping[str, Any]) -> list[Path]:
    """List where the values lie in nested tuples, lists and dictionaries.

    Args:
        spec: A serialized TreeSpec of `torch.utils._pytree`.
        fields: The field names of named tuples, by their type.

    Returns:
        For each value, in order, the keys and positions that lead to it.

    Raises:
        ContentError: It is no TreeSpec.
    """
    if spec is None:
        return []
    try:
        version, tree = json.loads(spec)
    except (ValueError, TypeError, RecursionError):
        version, tree = None, None
    if version != 1:
        raise ContentError(
            f"expected how the values are nested, version 1. Received: {shown(spec)}"
        )
    return list(_walk(tree, (), fields))


def _walk(tree: Any, path: Path, fields: Mapping[str, Any]) -> Iterator[Path]:
    if len(path) > _DEEPEST:
        raise ContentError(
            f"inputs or outputs nested more than {_DEEPEST} deep are refused. "
            f"Received: {shown(path)}"
        )
    if tree["type"] is None:
        yield path
        return
    children = tree["children_spec"]
    for key, child in zip(_keys(tree, len(children), fields), children, strict=True):
        yield from _walk(child, (*path, key), fields)


def _keys(tree: Mapping[str, Any], count: int, fields: Mapping[str, Any]) -> Sequence[Key]:
    """Name the children: by the dictionary's keys or the fields, else by position."""
    context = tree["context"]
    if isinstance(context, str):
        try:
            context = json.loads(context)
        except ValueError:
            context = fields.get(context, context)
    if isinstance(context, str):
        context = fields.get(context)
    if isinstance(context, dict):
        context = context.get("dict_context", context.get("field_names"))
    if (
        isinstance(context, list)
        and len(context) == count
        and all(type(key) in {str, int} for key in context)
    ):
        return context
    return range(count)


def output_names(paths: Sequence[Path]) -> list[str]:
    """Name outputs by their keys, nested ones joined; `output` where there is none."""
    return _distinct(
        ["_".join(map(str, p if p and type(p[0]) is str else ("output", *p))) for p in paths]
    )


def input_names(paths: Sequence[Path], arguments: Sequence[str] | None) -> list[str] | None:
    """Name inputs by the arguments of `forward`; None where the program does not say these."""
    names = []
    for side, *rest in paths:
        if side == 0 and not arguments:
            return None
        first = rest[0]
        if side == 0 and arguments and type(first) is int:
            first = arguments[first]
        names.append("_".join(map(str, (first, *rest[1:]))))
    return _distinct(names)


def _distinct(names: list[str]) -> list[str]:
    taken: dict[str, int] = {}
    result = []
    for name in names:
        own = name
        while own in taken:
            taken[name] += 1
            own = f"{name}_{taken[name]}"
        taken[own] = 0
        result.append(own)
    return result


def at(tree: Any, path: Path) -> Any:
    """Give what lies at a path in nested containers; None where nothing does."""
    for key in path:
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            return None
    return tree
