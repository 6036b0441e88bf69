"""What a PyTorch module answers, as the arrays of a reference file.

For those who have PyTorch: it is imported inside the functions. May import `program`'s names of
inputs and outputs, `whole_file`, and NumPy.
"""

import inspect
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.program import ends
from converters.whole_file import whole_file

if TYPE_CHECKING:
    import torch

BATCH = 32


def record(
    module: "torch.nn.Module",
    inputs: Any,
    path: str | os.PathLike[str],
    *,
    labels: Any = None,
    layers: bool = False,
) -> None:
    """Write what a PyTorch module answers, as a reference for `convert` and `verify`.

    The module is asked in inference mode and without gradients, on the device that it is on, and
    given copies; the mode of every module in it is as before afterwards.

    Args:
        module: The module.
        inputs: Tensors or arrays with the samples as first axis, one for each argument: a single
            one, a tuple, or a dictionary by the arguments' names.
        path: The `.npz` file, with the arrays that docs/references.md names.
        labels: The class of every sample. Defaults to `None`.
        layers: Whether what every module inside answers is kept too, so that a difference can be
            traced to the first layer that drifts. Defaults to `False`.

    Raises:
        OSError: If the file cannot be written; an older one is as it was then.
        ValueError: As `recorded_arrays`.
        ImportError: If PyTorch is not installed.

    Example:
    >>> record(model, images[:64], "reference.npz", labels=labels[:64])
    """
    arrays = recorded_arrays(module, inputs, labels, layers)
    target = Path(path)
    # numpy.savez would put the suffix there itself.
    target = target if target.suffix == ".npz" else target.with_name(f"{target.name}.npz")
    # As numpy.savez_compressed, which fails with a clock outside of a zip's dates, 1980 to 2107.
    with whole_file(target) as part, zipfile.ZipFile(part, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)


def recorded_arrays(
    module: "torch.nn.Module",
    inputs: Any,
    labels: Any = None,
    layers: bool = False,
    *,
    batch_size: int = BATCH,
) -> dict[str, np.ndarray]:
    """Ask a module, in inference and without gradients, and keep what it answers.

    Its mode, and that of every module in it, is as before afterwards.

    Args:
        module: The module, on any device; the one inside of DataParallel.
        inputs: Tensors or arrays with the samples as first axis, one for each argument: a single
            one, a tuple, or a dictionary by the arguments' names.
        labels: The class of every sample.
        layers: Whether what every module inside answers is kept, too, where it is one tensor with
            the samples as first axis.
        batch_size: Samples that are given to the module at once.

    Returns:
        The arrays of a reference file: `inputs`, or `inputs.NAME` for each of several; `outputs`
        likewise; `labels`; `layers.MODULE.PATH`, and `layers.MODULE.PATH@1` for what a module
        answered when it was called again. Half precision is kept as float32.

    Raises:
        ValueError: Inputs of different lengths, labels of another, an answer that is not made of
            tensors, or an output that does not have the samples as first axis.
    """
    import torch

    module = unwrapped(module)
    positional, keywords = arguments_of(inputs)
    given = list(named_inputs(module, positional, keywords))
    samples = _samples([tensor for _, tensor in given])
    if labels is not None and len(labels) != samples:
        raise ValueError(
            f"expected one label for each of {samples} samples. Received: {len(labels)} labels"
        )
    place = device(module)
    answers: dict[str, list[np.ndarray]] = {}
    layered: dict[str, list[np.ndarray]] = {}

    with inference(module), torch.no_grad(), _hooks(module if layers else None) as seen:
        for start in range(0, samples, batch_size):
            stop = min(start + batch_size, samples)

            def part(value: Any, start: int = start, stop: int = stop) -> Any:
                tensor = _tensor(value)
                if tensor.ndim and len(tensor) == samples:
                    tensor = tensor[start:stop]
                # A copy: modules write to what they are given.
                return tensor.to(place, copy=True)

            seen.clear()
            answer = module(*mapped(positional, part), **mapped(keywords, part))
            for name, tensor in named_tensors(answer):
                if tensor.shape[:1] != (stop - start,):
                    raise ValueError(
                        "expected the samples as first axis of every output; wrap the module in "
                        f"one that answers with such outputs only. Received: {name!r} of shape "
                        f"{tuple(tensor.shape)} for {stop - start} samples"
                    )
                answers.setdefault(name, []).append(_array(tensor))
            for path, array in seen.items():
                if array.shape[:1] == (stop - start,):
                    layered.setdefault(path, []).append(array)
    arrays = _keyed("inputs", {name: _array(tensor) for name, tensor in given})
    arrays.update(_keyed("outputs", _joined(answers)))
    if labels is not None:
        arrays["labels"] = np.asarray(labels)
    for path, array in _joined(layered).items():
        # A table may be as long as one of the batches.
        if len(array) == samples:
            arrays[f"layers.{path}"] = array
    return arrays


def unwrapped(module: "torch.nn.Module") -> "torch.nn.Module":
    """Give the module inside of DataParallel and DistributedDataParallel."""
    import torch

    parallel = torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel
    while isinstance(module, parallel):
        module = module.module
    return module


@contextmanager
def inference(module: "torch.nn.Module") -> Iterator[None]:
    """Set a module to inference, and every module in it back to its mode at the end."""
    modes = [(inner, inner.training) for inner in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for inner, training in modes:
            inner.training = training


def arguments_of(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Split inputs into positional and keyword arguments."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)), {}


def device(module: "torch.nn.Module") -> "torch.device | None":
    """Say where a module's tensors are; None for one without any."""
    return next((t.device for t in (*module.parameters(), *module.buffers())), None)


def mapped(tree: Any, change: Any) -> Any:
    """Apply a function to every tensor or array in nested containers."""
    if isinstance(tree, Mapping):
        return {key: mapped(value, change) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(mapped(value, change) for value in tree)
    return change(tree) if _is_array(tree) else tree


def named_inputs(
    module: "torch.nn.Module", positional: tuple[Any, ...], keywords: Mapping[str, Any]
) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Name the tensors among a module's arguments, as the program will."""
    parameters = inspect.signature(module.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    many = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "input")
    names += [f"{many}_{i}" for i in range(len(positional) - len(names))]
    found = list(_leaves((positional, dict(keywords))))
    for name, (_, leaf) in zip(
        ends.input_names([path for path, _ in found], names) or (), found, strict=True
    ):
        if _is_array(leaf):
            yield name, _tensor(leaf)


def named_tensors(answer: Any) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Name the tensors in an answer, as the program reader does.

    Raises:
        ValueError: If it is made of anything but tensors, or of none.
    """
    found = list(_leaves(answer))
    other = [x for _, x in found if not (_is_array(x) or x is None or isinstance(x, int | float))]
    if other or not any(_is_array(leaf) for _, leaf in found):
        raise ValueError(
            "expected a tensor, or tensors in tuples, lists or dictionaries, as a module's answer. "
            f"Received: {type(other[0] if other else answer).__name__}"
        )
    names = ends.output_names([path for path, _ in found])
    for name, (_, leaf) in zip(names, found, strict=True):
        if _is_array(leaf):
            yield name, _tensor(leaf)


def _leaves(tree: Any, path: ends.Path = ()) -> Iterator[tuple[ends.Path, Any]]:
    if isinstance(tree, Mapping):
        children = list(tree.items())
    elif isinstance(tree, tuple | list):
        children = list(zip(getattr(tree, "_fields", range(len(tree))), tree, strict=True))
    else:
        yield path, tree
        return
    for key, child in children:
        yield from _leaves(child, (*path, key))


@contextmanager
def _hooks(module: "torch.nn.Module | None") -> Iterator[dict[str, np.ndarray]]:
    """Collect what the modules inside a module answer, as it is before anything writes to it."""
    seen: dict[str, np.ndarray] = {}

    def hook(path: str) -> Any:
        def keep(_module: Any, _inputs: Any, answer: Any) -> None:
            if _is_array(answer):
                count = sum(1 for name in seen if name.partition("@")[0] == path)
                seen[f"{path}@{count}" if count else path] = _array(_tensor(answer))

        return keep

    handles = [
        inner.register_forward_hook(hook(path))
        for path, inner in (module.named_modules() if module is not None else ())
        if path
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _samples(tensors: list["torch.Tensor"]) -> int:
    lengths = {len(tensor) for tensor in tensors if tensor.ndim > 1} or {
        len(tensor) for tensor in tensors if tensor.ndim
    }
    if len(lengths) != 1:
        raise ValueError(
            "expected the samples as first axis of every input, as many in each. Received: shapes "
            f"{[tuple(tensor.shape) for tensor in tensors]}"
        )
    return lengths.pop()


def _joined(parts: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: p[0] if len(p) == 1 else np.concatenate(p) for name, p in parts.items()}


def _keyed(side: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if len(arrays) == 1:
        return {side: next(iter(arrays.values()))}
    return {f"{side}.{name}": array for name, array in arrays.items()}


def _is_array(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor | np.ndarray)


def _tensor(value: Any) -> "torch.Tensor":
    import torch

    return torch.as_tensor(value)


def _array(tensor: Any) -> np.ndarray:
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype in {torch.float16, torch.bfloat16}:
        tensor = tensor.float()
    # A copy: a module may answer with what the next call writes to.
    array: np.ndarray = tensor.numpy().copy()
    return array
