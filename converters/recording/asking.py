"""What PyTorch itself answers to a program's inputs. PyTorch is imported inside.

Unlike everything else that reads a `.pt2` this runs it, with PyTorch's own reader.
"""

import os
from collections.abc import Mapping

import numpy as np

from converters.program import Program
from converters.recording.answers import named_tensors


def ask_program(
    path: str | os.PathLike[str], program: Program, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Runs a `.pt2` in PyTorch.

    Args:
        path: The file.
        program: The same, read.
        inputs: Arrays by the names of the program's inputs, in PyTorch's layout.

    Returns:
        Arrays by the names of its outputs, in float32 where they are of half precision.

    Raises:
        ValueError: If PyTorch is not installed, or cannot run it.
    """
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            "`check_with_torch` needs PyTorch; install it, or leave that out. "
            f"Received: {type(error).__name__}"
        ) from error
    ends = [end for end in program.inputs if end.name in inputs]
    if len(ends) != len(program.inputs):
        raise ValueError(
            "Every input of the program needs an array. Received: "
            f"{sorted(inputs)} for {[end.name for end in program.inputs]}"
        )
    metas = [program.values[str(end.value)] for end in ends]
    count = len(inputs[ends[0].name])
    first = metas[0].shape[0] if metas[0].shape else count
    batch = first if isinstance(first, int) else count
    parts: dict[str, list[np.ndarray]] = {}
    try:
        module = torch.export.load(os.fspath(path)).module()
        with torch.no_grad():
            for start in range(0, count, batch):
                given = [
                    torch.from_numpy(np.array(inputs[end.name][start : start + batch])).to(
                        getattr(torch, meta.dtype)
                    )
                    for end, meta in zip(ends, metas, strict=True)
                ]
                for name, tensor in named_tensors(module(*given)):
                    value = torch.atleast_1d(tensor.detach())
                    parts.setdefault(name, []).append(
                        (value.float() if value.is_floating_point() else value).numpy()
                    )
    except Exception as error:  # whatever PyTorch makes of a program of another version
        raise ValueError(
            f"PyTorch {torch.__version__} cannot run the program, which PyTorch "
            f"{program.torch_version} wrote. Received: {type(error).__name__}: "
            f"{' '.join(str(error).split()).replace('Received: ', 'received ')[:200]}"
        ) from error
    return {name: np.concatenate(values) for name, values in parts.items()}
