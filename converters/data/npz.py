"""`.npz` files of data: arrays under `inputs`, `outputs`, `labels`, `layers`.

Imports NumPy and `checkpoint`, whose reader of `.npz` files is bounded by the file.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from converters.checkpoint import read_npz


def load_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file, by name.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no such file, is damaged, or holds anything but numbers.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(
            f"The arrays must be in an .npz file. Received: {os.fspath(path)!r}, a folder"
        )
    try:
        return read_npz(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"No such file. Received: {os.fspath(path)!r}") from None


def of_group(arrays: Mapping[str, np.ndarray], group: str) -> dict[str, np.ndarray]:
    """The arrays of one group: `{"": …}` for the key `group`, `{NAME: …}` for `group.NAME`."""
    head = f"{group}."
    if group in arrays:
        return {"": arrays[group]}
    return {key[len(head) :]: value for key, value in arrays.items() if key.startswith(head)}


def matched(
    given: Mapping[str, np.ndarray], names: Sequence[str], group: str, source: str
) -> tuple[dict[str, np.ndarray], str]:
    """Arrays under the names that a model has for them.

    Args:
        given: What `of_group` gives.
        names: The model's names, in its order.
        group: `"inputs"` or `"outputs"`, for messages.
        source: What the arrays came from, for messages.

    Returns:
        The arrays in the model's order, and how they were matched: `"name"` or `"order"`.

    Raises:
        ValueError: If there are more or fewer than the model has.
    """
    if set(given) == set(names):
        return {name: given[name] for name in names}, "name"
    if len(given) != len(names):
        what = ", ".join(f"{group}.{name}" for name in names)
        alone = f"{group} or " if len(names) == 1 else ""
        raise ValueError(
            f"The file must have the model's {group}: {alone}{what}. Received: {source!r} with "
            f"{', '.join(f'{group}.{name}' if name else group for name in given) or 'none'}"
        )
    return dict(zip(names, given.values(), strict=True)), "order"


def source_name(path: str | os.PathLike[str]) -> str:
    """What a file is called in messages and reports."""
    return Path(path).name or os.fspath(path)
