"""`.npz` files of data: arrays under `inputs`, `outputs`, `labels`, `layers`.

Imports NumPy and `checkpoint`, whose reader of `.npz` files is bounded by the file.
"""

import os
import warnings
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
    named = {key[len(head) :]: value for key, value in arrays.items() if key.startswith(head)}
    if group not in arrays:
        # `numpy.savez` writes keywords in any order; numbers have one.
        numbered = all(name.isdigit() for name in named)
        return dict(sorted(named.items(), key=lambda item: int(item[0]))) if numbered else named
    if named:
        raise ValueError(
            f"An .npz file has either {group} or {group}.NAME for each. "
            f"Received: {group}, {', '.join(head + name for name in named)}"
        )
    return {"": arrays[group]}


def stored_inputs(
    arrays: Mapping[str, np.ndarray], names: Sequence[str], source: str
) -> dict[str, np.ndarray]:
    """The inputs that arrays of a file hold, by the names that a model has for them, in its order.

    Raises:
        ValueError: If there are more or fewer than the model has.
    """
    given = of_group(arrays, "inputs")
    if not given:
        raise ValueError(
            "The file must have the array inputs, or inputs.NAME for each of the model's inputs. "
            f"Received: {source!r} with {', '.join(sorted(arrays)) or 'no arrays'}"
        )
    found, pairs = matched(given, names, "inputs", source)
    if pairs:
        told = ", ".join(f"{theirs} as {ours}" for theirs, ours in pairs)
        warnings.warn(
            f"The names in {source} are not the model's; its arrays were taken in order: {told}",
            stacklevel=2,
        )
    return found


def matched(
    given: Mapping[str, np.ndarray],
    names: Sequence[str],
    group: str,
    source: str,
    ordered: bool = True,
) -> tuple[dict[str, np.ndarray], tuple[tuple[str, str], ...]]:
    """Arrays under the names that a model has for them.

    Args:
        given: What `of_group` gives.
        names: The model's names, in its order.
        group: `"inputs"` or `"outputs"`, for messages.
        source: What the arrays came from, for messages.
        ordered: Whether the names are in an order that the user knows; that of a file's signature
            is alphabetical.

    Returns:
        The arrays in the model's order; and, if there are several whose names are others, which
        of them was taken for which.

    Raises:
        ValueError: If there are more or fewer than the model has, or only some are called so.
    """
    if set(given) == set(names):
        return {name: given[name] for name in names}, ()
    known = set(given) & set(names)
    if len(given) != len(names) or (len(names) > 1 and (known or not ordered)):
        what = ", ".join(f"{group}.{name}" for name in names)
        alone = f"{group} or " if len(names) == 1 else ""
        raise ValueError(
            f"The file must have the model's {group}: {alone}{what}. Received: {source!r} with "
            f"{', '.join(f'{group}.{name}' if name else group for name in given) or 'none'}"
        )
    pairs = tuple(zip(given, names, strict=True)) if len(names) > 1 else ()
    return dict(zip(names, given.values(), strict=True)), pairs


def source_name(path: str | os.PathLike[str]) -> str:
    """What a file is called in messages and reports."""
    return Path(path).name or os.fspath(path)
