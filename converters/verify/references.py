"""References: inputs, and what PyTorch or another framework answers to them.

Imports `data` and NumPy.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from converters.data.layout import Layout, Shape, as_dtype, finite_numbers, fitted, layout_of
from converters.data.npz import load_arrays, matched, of_group, source_name


@dataclass(frozen=True)
class Reference:
    """What a model was given and what it answered.

    Attributes:
        inputs: Arrays by input name, `""` where there is one without a name; the samples first.
        outputs: Arrays by output name, likewise.
        labels: Integer array of shape `(N,)`, the true classes; `None` if not recorded.
        layers: What modules answered, by the path of each; empty if not recorded.
        name: What it is called in messages.
        taken_as: Its names of inputs and outputs and the model's for each, where these are others
            and the arrays were taken in order.
        arranged: Whether the arrays are known to be in the model's layout.
    """

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    labels: np.ndarray | None = None
    layers: Mapping[str, np.ndarray] = field(default_factory=dict)
    name: str = "reference"
    taken_as: tuple[tuple[str, str], ...] = ()
    arranged: bool = False

    def image_size(self, channels: int | None = None) -> tuple[int, int] | None:
        """Height and width of the one input, if it is of maps; of the likelier of its layouts.

        Args:
            channels: The channels that the model takes; `None` if they are not known.
        """
        shapes = [value.shape for value in self.inputs.values()]
        if len(shapes) != 1 or len(shapes[0]) != 4:
            return None
        _, first, second, third = shapes[0]
        if (first == channels) != (third == channels):
            return (first, second) if third == channels else (second, third)
        # Maps are square more often than not, and PyTorch's layout comes first.
        last = first == second != third or (second != third and third in (1, 3, 4))
        return (first, second) if last else (second, third)

    def fitted(
        self,
        inputs: Mapping[str, Shape],
        dtypes: Mapping[str, str],
        outputs: Mapping[str, Shape],
        ordered: bool = True,
    ) -> "Reference":
        """The reference under the names, and in the layout and the dtypes, of a model.

        Args:
            inputs: Shapes by name, the batch first, `None` for any size.
            dtypes: The dtype of each input.
            outputs: Shapes by name, likewise.
            ordered: Whether the names are in an order that the user knows.

        Raises:
            ValueError: If it does not fit the model, or a label is none of its classes.
        """
        named = self.under(list(inputs), list(outputs), ordered)
        ends = [(named.inputs[name], shape) for name, shape in inputs.items()]
        ends += [(named.outputs[name], shape) for name, shape in outputs.items()]
        # What fits in one layout only decides for the rest.
        told = {found for array, shape in ends if (found := layout_of(array, shape))}
        layout: Layout | None = "model" if self.arranged else None
        if layout is None and len(told) == 1:
            [layout] = told

        def placed(array: np.ndarray, shape: Shape, key: str) -> np.ndarray:
            # The layout is one of maps; what else there is finds its own.
            return fitted(array, shape, key, self.name, layout if array.ndim == 4 else None)

        given = {
            name: as_dtype(
                placed(named.inputs[name], shape, f"inputs.{name}"), dtypes[name], self.name
            )
            for name, shape in inputs.items()
        }
        answered = {
            name: placed(named.outputs[name], shape, f"outputs.{name}")
            for name, shape in outputs.items()
        }
        self._check_labels(answered)
        return replace(named, inputs=given, outputs=answered)

    def under(
        self, inputs: Sequence[str], outputs: Sequence[str], ordered: bool = True
    ) -> "Reference":
        """The reference under other names; `taken_as` tells of those that were taken in order.

        Raises:
            ValueError: If it has more or fewer, or only some of the names.
        """
        given, of_inputs = matched(self.inputs, inputs, "inputs", self.name, ordered)
        answered, of_outputs = matched(self.outputs, outputs, "outputs", self.name, ordered)
        pairs = of_inputs + of_outputs
        before = {name: theirs for theirs, name in self.taken_as}
        again = {theirs for theirs, _ in pairs}
        taken_as = (
            *(pair for pair in self.taken_as if pair[1] not in again),
            *((before.get(theirs, theirs), name) for theirs, name in pairs),
        )
        return replace(self, inputs=given, outputs=answered, taken_as=taken_as)

    def _check_labels(self, outputs: Mapping[str, np.ndarray]) -> None:
        if self.labels is None:
            return
        classes = max(class_count(value) for value in outputs.values())
        if not classes:
            shapes = {name: value.shape for name, value in outputs.items()}
            raise ValueError(
                "`labels` are for classifiers, which have an output (N, classes), or (N, 1) for "
                f"two; leave them out. Received: {self.name!r} with labels for {shapes}"
            )
        if self.labels.min() < 0 or self.labels.max() >= classes:
            raise ValueError(
                f"`labels` must be classes of the model, 0 to {classes - 1}. Received: "
                f"{self.name!r} with labels from {self.labels.min()} to {self.labels.max()}"
            )


def class_count(output: np.ndarray) -> int:
    """The classes that an output can tell apart: of `(N, k)` k, of one value two; of others 0."""
    return max(output.shape[1], 2) if output.ndim == 2 else 0


def classes_of(output: np.ndarray) -> np.ndarray:
    """The class of every sample by an output with a `class_count`.

    Of `(N, k)` the place of the largest value. Of `(N, 1)` 1 where the value is above 0.5 if all
    are shares, 0 to 1, as a sigmoid gives them; else where it is above 0.
    """
    if output.shape[1] > 1:
        return np.where(np.isnan(output), -np.inf, output).argmax(axis=1)  # NaN is no largest value
    shares = ((output >= 0) & (output <= 1)).all()
    return (output[:, 0] > (0.5 if shares else 0)).astype(int)


def load_reference(path: str | os.PathLike[str]) -> Reference:
    """Reads a reference.

    Args:
        path: An `.npz` file with `inputs` or `inputs.NAME`, `outputs` or `outputs.NAME`, and, if
            known, `labels` and `layers.MODULE.PATH`.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no such file, or its arrays do not belong together.
    """
    return as_reference(load_arrays(path), source_name(path))


def as_reference(arrays: Mapping[str, np.ndarray], name: str) -> Reference:
    """The reference that arrays are, by the keys of such a file.

    Raises:
        ValueError: If they do not belong together.
    """
    inputs, outputs = of_group(arrays, "inputs"), of_group(arrays, "outputs")
    if not inputs or not outputs:
        raise ValueError(
            "A reference needs the arrays inputs and outputs, or inputs.NAME and outputs.NAME for "
            f"each. Received: {name!r} with {', '.join(sorted(arrays)) or 'none'}"
        )
    for key, value in inputs.items():
        finite_numbers(value, f"inputs.{key}" if key else "inputs", name)
    for key, value in outputs.items():
        # A masked logit is an infinity, and equals one.
        if value.dtype.kind not in "fiub" or value.ndim == 0:
            finite_numbers(value, f"outputs.{key}" if key else "outputs", name)
    labels = arrays.get("labels")
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iu"):
        raise ValueError(
            "`labels` must be integers of shape (N,), the true classes. "
            f"Received: {name!r} with labels of shape {labels.shape}, dtype {labels.dtype}"
        )
    groups = {"inputs": inputs, "outputs": outputs, "layers": of_group(arrays, "layers")}
    counts = {
        f"{group}.{key}" if key else group: len(value)
        for group, members in groups.items()
        for key, value in members.items()
        if value.ndim
    }
    if labels is not None:
        counts["labels"] = len(labels)
    if len(set(counts.values())) != 1:
        told = dict(list(counts.items())[:6])
        raise ValueError(
            f"All arrays of a reference must have the same number of samples. "
            f"Received: {name!r} with {told}"
        )
    return Reference(
        {key: numbers(value) for key, value in inputs.items()},
        {key: numbers(value) for key, value in outputs.items()},
        labels,
        {key: value.astype("float32") for key, value in groups["layers"].items()},
        name,
    )


def numbers(array: np.ndarray) -> np.ndarray:
    """Floats as files take and give them; whole numbers stay what they are."""
    return array if array.dtype.kind in "iub" else array.astype("float32")
