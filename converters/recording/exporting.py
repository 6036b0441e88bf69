"""From a PyTorch module to a `.pt2` with what the module answers inside.

Needs PyTorch, imported inside. May import `recording`.
"""

import base64
import io
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.program.container import REFERENCE
from converters.recording.answers import (
    BATCH,
    arguments_of,
    device,
    inference,
    mapped,
    recorded_arrays,
    unwrapped,
)
from converters.whole_file import write_whole

if TYPE_CHECKING:
    import torch


def export_program(
    module: "torch.nn.Module",
    example_inputs: Any,
    path: str | os.PathLike[str],
    *,
    reference: Any = None,
    labels: Any = None,
    layers: bool = False,
    dynamic_batch: bool = True,
) -> None:
    """Write a module's program, its weights and what it answers into one file.

    The module is exported in inference and without gradients, and is as before afterwards. The
    batch is a dynamic dimension, so that the converted model takes any number of samples; where
    the module computes with the number of samples it was exported with, the batch is fixed, with
    a warning.

    Args:
        module: The module, on any device; the one inside of DataParallel.
        example_inputs: What it is called with: a tensor, a tuple of arguments, or a dictionary of
            them by name. One sample is enough.
        path: The file to write, a `.pt2`.
        reference: Inputs to answer, in the form of `example_inputs`, with any number of samples;
            what the module answers is kept in the file, and a conversion is compared with it.
            Default: the example inputs.
        labels: The class of every sample of `reference`.
        layers: Whether what every module inside answers is kept, too, by which a difference is
            traced to where it begins.
        dynamic_batch: Whether the batch is left free.

    Raises:
        ValueError: Inputs or labels do not fit, or the path does not end in `.pt2`.
        OSError: The file cannot be written; an older one is as it was then.
    """
    import torch

    if not os.fspath(path).endswith(".pt2"):
        raise ValueError(f"expected a path that ends in .pt2. Received: {os.fspath(path)!r}")
    module = unwrapped(module)
    positional, keywords = arguments_of(example_inputs)
    place = device(module)
    positional, keywords = mapped((positional, keywords), lambda v: torch.as_tensor(v).to(place))
    with inference(module), torch.no_grad():
        program = _dynamic(module, positional, keywords) if dynamic_batch else None
        batch_size = BATCH
        if program is None:
            program = torch.export.export(module, positional, keywords)
            batch_size = _batch(positional, keywords) or BATCH
    arrays = recorded_arrays(
        module,
        (keywords or positional) if reference is None else reference,
        labels,
        layers,
        batch_size=batch_size,
    )
    for inner in program.graph_module.modules():
        for node in getattr(getattr(inner, "graph", None), "nodes", ()):
            # Paths and lines of the code on the machine that exports are nobody's business.
            node.meta.pop("stack_trace", None)
    # PyTorch's own writer of files aborts the process where the disk is full.
    content = io.BytesIO()
    torch.export.save(
        program,
        content,
        extra_files=_Texts(arrays),  # type: ignore[arg-type]  # any mapping will do
    )
    write_whole(path, content.getbuffer())


def _dynamic(
    module: "torch.nn.Module", positional: tuple[Any, ...], keywords: dict[str, Any]
) -> "torch.export.ExportedProgram | None":
    """Export with a free batch; None, with a warning, where the module fixes it."""
    import torch

    batch = _batch(positional, keywords)
    if batch is None:
        return None

    def batched(tensor: "torch.Tensor") -> bool:
        return tensor.ndim > 1 and len(tensor) == batch

    def widen(tensor: "torch.Tensor") -> "torch.Tensor":
        # PyTorch takes a size of 1 for a constant.
        return torch.cat([tensor, tensor]) if batch == 1 and batched(tensor) else tensor

    def shape(tensor: "torch.Tensor") -> dict[int, Any] | None:
        return {0: torch.export.Dim.AUTO} if batched(tensor) else None

    try:
        program = torch.export.export(
            module,
            mapped(positional, widen),
            mapped(keywords, widen),
            dynamic_shapes=_shapes(module, positional, keywords, shape),
        )
    except Exception as error:  # whatever the module does with a size that is no number
        reason = f"{type(error).__name__} {str(error).strip().splitlines()[:1]}"
    else:
        if _is_free(program):
            return program
        reason = "its program holds for this number of samples only"
    warnings.warn(
        f"the batch is fixed to {batch}, for the module computes with it ({reason}); use "
        "x.flatten(1) or x.shape[0] in place of a number",
        stacklevel=3,
    )
    return None


def _is_free(program: "torch.export.ExportedProgram") -> bool:
    given = program.graph_signature.user_inputs
    values = [node.meta["val"] for node in program.graph.nodes if node.name in given]
    # A SymInt that turned out to be a number is still a SymInt, and prints as the number.
    return any(not str(n).isdecimal() for value in values for n in getattr(value, "shape", ())[:1])


def _shapes(
    module: "torch.nn.Module", positional: tuple[Any, ...], keywords: dict[str, Any], shape: Any
) -> Any:
    """Say which sizes are free, nested as the arguments are: by name, as torch.export wants it."""
    import inspect

    bound = inspect.signature(module.forward).bind(*positional, **keywords)
    return mapped(dict(bound.arguments), shape)


def _batch(positional: tuple[Any, ...], keywords: dict[str, Any]) -> int | None:
    """Find the number of samples: the first axis of the first tensor that has two or more."""
    found: list[int] = []

    def look(tensor: "torch.Tensor") -> None:
        if tensor.ndim > 1:
            found.append(len(tensor))

    mapped((positional, keywords), look)
    return found[0] if found else None


class _Texts(Mapping[str, str]):
    """A reference as text, which is all that torch.export.save takes; an array at a time."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = {f"{REFERENCE}{key}.npy": array for key, array in arrays.items()}

    def __getitem__(self, name: str) -> str:
        stream = io.BytesIO()
        np.save(stream, self._arrays[name], allow_pickle=False)
        return base64.b64encode(stream.getbuffer()).decode("ascii")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)
