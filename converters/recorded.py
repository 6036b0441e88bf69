"""Inputs and outputs recorded from another framework, in an `.npz` file. Imports NumPy only.

`inputs` (N, C, H, W) or (N, H, W, C) and `outputs`, as many samples, and, for a classifier,
`labels` (N,) of integers.
"""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Recorded:
    """A recording: what a model was given and what it answered.

    Attributes:
        inputs: Float array, the samples first.
        outputs: Float array, as many samples.
        labels: Integer array of shape `(N,)`, the true classes; `None` if not recorded.
        name: What the recording is called in messages.
    """

    inputs: np.ndarray
    outputs: np.ndarray
    labels: np.ndarray | None = None
    name: str = "recording"

    @property
    def correct(self) -> int | None:
        """How many samples the recorded outputs classify right; `None` without labels."""
        if self.labels is None or self.outputs.ndim != 2:
            return None
        return int((self.outputs.argmax(1) == self.labels).sum())

    def fitted(
        self, input_shape: tuple[int | None, ...], output_shape: tuple[int | None, ...]
    ) -> "Recorded":
        """The recording in the layout of a model.

        Images are recorded in PyTorch's layout or in the model's own. Channels are moved last
        where only that makes the shape fit; where both fit, as with 8x8x8 features, the recording
        is taken to be in PyTorch's.

        Args:
            input_shape: The model's input shape, the batch first.
            output_shape: The model's output shape, the batch first.

        Raises:
            ValueError: If the recording fits the model in neither layout.
        """
        return Recorded(
            channels_last(self.inputs, input_shape, "inputs", self.name),
            channels_last(self.outputs, output_shape, "outputs", self.name),
            self.labels,
            self.name,
        )


def load_recorded(path: str | os.PathLike[str]) -> Recorded:
    """Reads a recording.

    Args:
        path: An `.npz` file with `inputs`, `outputs` and, if known, `labels`.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no such file, or its arrays do not belong together.
    """
    name = Path(path).name
    arrays = load_arrays(path)
    missing = {"inputs", "outputs"} - set(arrays)
    if missing:
        raise ValueError(
            f"A recording needs the arrays 'inputs' and 'outputs'. "
            f"Received: {name!r} with {sorted(arrays)}"
        )
    inputs, outputs, labels = arrays["inputs"], arrays["outputs"], arrays.get("labels")
    for key, array in (("inputs", inputs), ("outputs", outputs)):
        if array.dtype.kind not in "fiu" or array.ndim < 2 or not np.isfinite(array).all():
            raise ValueError(
                f"`{key}` must hold finite numbers, the samples first. "
                f"Received: {name!r} with {key} of shape {array.shape}, dtype {array.dtype}"
            )
    counts = {key: len(a) for key, a in arrays.items() if key in ("inputs", "outputs", "labels")}
    if len(set(counts.values())) != 1 or len(inputs) == 0:
        raise ValueError(
            f"`inputs`, `outputs` and `labels` must have the same number of samples, at least 1. "
            f"Received: {name!r} with {counts}"
        )
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iu"):
        raise ValueError(
            f"`labels` must be integers of shape (N,). "
            f"Received: {name!r} with labels of shape {labels.shape}, dtype {labels.dtype}"
        )
    return Recorded(inputs.astype("float32"), outputs.astype("float32"), labels, name)


def load_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file, by name.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no such file, or holds objects.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(
            f"A recording is an .npz file. Received: {os.fspath(path)!r}, which is a folder"
        )
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise FileNotFoundError(f"No such file. Received: {os.fspath(path)!r}") from None
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ValueError(
            f"A recording is an .npz file of arrays, written with numpy.savez. "
            f"Received: {Path(path).name!r}, {_line(error)}"
        ) from error


def channels_last(
    array: np.ndarray, shape: tuple[int | None, ...], key: str, name: str
) -> np.ndarray:
    """An array in the layout of a model, its channels moved last where they are second.

    Args:
        array: The samples first.
        shape: The model's shape, the batch first; `None` for any size.
        key: What the array is called in messages.
        name: What it came from, in messages.

    Raises:
        ValueError: If it fits in neither layout.
    """
    moved = array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
    for candidate in (moved, array):
        fits = candidate.ndim == len(shape) and all(
            want is None or have == want
            for have, want in zip(candidate.shape[1:], shape[1:], strict=True)
        )
        if fits:
            return np.ascontiguousarray(candidate)
    raise ValueError(
        f"The recorded {key} must have the model's shape, {shape}, or that with the channels "
        f"second. Received: {name!r} with {key} of shape {array.shape}"
    )


def as_dtype(array: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """Numbers in the dtype of an input.

    Args:
        array: The numbers.
        dtype: The input's dtype, `"float32"` or an integer one.
        name: What they came from, in messages.

    Raises:
        ValueError: If they are none of the dtype's.
    """
    if "float" in dtype or dtype == "bool":
        return array.astype(dtype)
    limits = np.iinfo(dtype)
    whole = array.dtype.kind in "iub" or (array == np.round(array)).all()
    if not whole or array.min() < limits.min or array.max() > limits.max:
        raise ValueError(
            f"An input of {dtype} takes whole numbers from {limits.min} to {limits.max}; record "
            f"them as the model takes them. Received: {name!r} with numbers from {array.min():g} "
            f"to {array.max():g}, {'whole' if whole else 'not whole'}"
        )
    return array.astype(dtype)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
