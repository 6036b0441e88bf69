"""Checkpoints in several files: an index that says which of them has which tensor.

`model.safetensors.index.json` and `pytorch_model.bin.index.json`, as transformers writes them.
Imports nothing outside this package.
"""

import os
import re
from collections.abc import Callable
from typing import Any, BinaryIO

from converters.checkpoint import json_header
from converters.checkpoint.content import (
    ContentError,
    Room,
    Tree,
    alike,
    listing,
    shown,
    size_of,
)

_TEXT = re.compile(rb'"([^"]*)"')
_SHARD = re.compile(r"(?P<name>.+)-\d{5}-of-(?P<count>\d{5})(?P<ending>\.\w+)")
_MOST_UNLISTED = 60


def read_tree(file: BinaryIO, room: Room, read_shard: Callable[[str], Tree]) -> Tree:
    """Gather the tensors of all shards.

    Args:
        file: The index.
        room: What reading all of them may take; it grows by the shards.
        read_shard: Reads the file of a path.

    Raises:
        ContentError: It is no such index, or shards do not hold what it says.
    """
    what = "the index of a sharded checkpoint"
    folder = os.path.dirname(os.fsdecode(file.name)) or "."
    there = os.listdir(folder)
    room.take(size_of(file))
    text, names = file.read(), set(map(os.fsencode, there))
    # Before the objects are made: the index of a thousand experts is large, and so are its shards.
    for name in {match[1] for match in _TEXT.finditer(text) if match[1] in names}:
        room.grow(os.path.getsize(os.path.join(folder, os.fsdecode(name))))
    room.take(json_header.OBJECTS * len(text))
    places = json_header.parse(text, what).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ContentError(f"{what} must have a weight_map. Received: {shown(places)}")
    wanted: dict[str, list[str]] = {}
    for key, shard in places.items():
        if type(shard) is not str or os.path.basename(shard) != shard or "\\" in shard or not shard:
            raise ContentError(
                f"{what} names a file that is not in its folder; the file is malicious. "
                f"Received: {shown(shard)} at {shown(key)}"
            )
        wanted.setdefault(shard, []).append(key)
    if missing := sorted(wanted.keys() - set(there)):
        raise ContentError(
            f"{len(missing)} of {len(wanted)} shards are missing in the index's folder; get them. "
            f"Received: no {listing([shown(name) for name in missing], 8)}"
        )
    tree = Tree({}, room)
    unlisted: dict[str, None] = {}
    for shard, keys in wanted.items():
        content = read_shard(os.path.join(folder, shard))
        tensors: dict[Any, Any] = content.root if isinstance(content.root, dict) else {}
        left = [key for key in tensors if places.get(key) != shard]
        absent = [key for key in keys if key not in tensors]
        if absent:
            raise ContentError(
                f"{what} does not fit its shards; get all of them from one place. "
                f"Received: no {listing([shown(key) for key in absent], 3)} in {shown(shard)}"
            )
        tree.root.update((key, tensors[key]) for key in keys)
        unlisted |= {f"{shown(alike(str(key)))} in {shown(shard)}": None for key in left}
        told = {id(tensors[key]) for key in left}
        tree.made += [tensor for tensor in content.made if id(tensor) not in told]
        tree.unknown += content.unknown
    if unlisted:
        tree.notes.append(
            f"does not list {listing([*unlisted], _MOST_UNLISTED)}: tensors that were left"
        )
    if extra := sorted(shown(n) for n in there if n not in wanted and _alike(n, wanted)):
        tree.notes.append(
            f"names no {listing(extra, 8)}, which lie beside its shards and were left"
        )
    return tree


def _alike(name: str, shards: dict[str, list[str]]) -> bool:
    match = _SHARD.fullmatch(name)
    return match is not None and any(
        (other := _SHARD.fullmatch(shard)) and other["name"] == match["name"] for shard in shards
    )


def single(path: str) -> str | None:
    """What is to be known of a file that is one of several shards."""
    match = _SHARD.fullmatch(os.path.basename(path))
    if match is None or int(match["count"]) < 2:
        return None
    index = f"{match['name']}{match['ending']}.index.json"
    return f"is one of {int(match['count'])} shards; {index} beside them names all"
