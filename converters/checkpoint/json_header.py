"""JSON of a file that is not trusted. Imports nothing outside this package."""

import json
from typing import Any

from converters.checkpoint.content import ContentError, shown

OBJECTS = 24  # bytes that a byte of JSON may become: `{},{},{}` does


def parse(data: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object of which every key is there once.

    Args:
        data: The text, for which the caller had room `OBJECTS` times.
        what: What it is, for errors.

    Raises:
        ContentError: It is no such object.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ContentError(
            f"{what} is damaged or incomplete; get it again. Received: {shown(str(error))}"
        ) from None
    if not isinstance(value, dict):
        raise ContentError(f"{what} must be a JSON object; get it again. Received: {shown(value)}")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found
