"""Networks exported by PyTorch, converted, and compared with PyTorch's answers."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import converters
from converters import runtime
from converters.tflite.flatbuffer import read_graphs

# Of PyTorch's largest value: float32 sums in another order.
LIMIT = 1e-5


class Functions(torch.nn.Module):
    """Several functions of the same inputs as one module; modules inside keep their weights."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__()
        self.functions = dict(functions)
        for name, function in functions.items():
            if isinstance(function, torch.nn.Module):
                self.add_module(name, function)

    def forward(self, *inputs: torch.Tensor) -> dict[str, Any]:
        answers: dict[str, Any] = {}
        for name, function in self.functions.items():
            found = function(*inputs)
            if isinstance(found, torch.Tensor):
                answers[name] = found
            else:
                answers |= {f"{name}_{n}": part for n, part in enumerate(found)}
        return answers


def randomized(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """In eval mode, with weights and statistics that no mistake leaves as they are."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif name.endswith(("running_mean", "bias")) or tensor.ndim == 1:
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.3)
            elif tensor.ndim > 1:
                # Deep networks keep the scale of what they are given.
                fan = tensor[0].numel()
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / fan) ** 0.5)
    return module.eval()


def random_inputs(*shapes: Sequence[int], seed: int = 1) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(tuple(shape), generator=generator) for shape in shapes)


def export(
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    path: Path,
    *,
    decomposed: bool = False,
    **how: Any,
) -> Path:
    program = torch.export.export(module, tuple(inputs), **how)
    torch.export.save(program.run_decompositions() if decomposed else program, path)
    return path


def convert(module: torch.nn.Module, inputs: Sequence[torch.Tensor], tmp: Path, **how: Any) -> Any:
    """The model and report of a module exported with these inputs."""
    return converters.to_keras(export(module, inputs, tmp / "network.pt2", **how))


def answers(model: Any, report: Any, inputs: Sequence[torch.Tensor]) -> dict[str, np.ndarray]:
    """What a Keras model gives, by output name, in PyTorch's order."""
    arrays = {
        end.name: given.numpy().transpose(end.order)
        for end, given in zip(report.inputs, inputs, strict=True)
    }
    found = model(arrays if len(arrays) > 1 else next(iter(arrays.values())), training=False)
    found = found if isinstance(found, dict) else {report.outputs[0].name: found}
    return {
        end.name: np.transpose(found[end.name], np.argsort(end.order)) for end in report.outputs
    }


def by_name(found: Any) -> dict[str, np.ndarray]:
    """PyTorch's answers, by the names that the Keras model has for them."""
    if isinstance(found, torch.Tensor):
        found = {"output": found}
    elif not isinstance(found, dict):
        found = {f"output_{number}": part for number, part in enumerate(found)}
    return {name: part.detach().numpy() for name, part in found.items()}


def compare(
    module: torch.nn.Module,
    shapes: Sequence[Sequence[int]],
    tmp: Path,
    *,
    samples: int = 2,
    limit: float = LIMIT,
    **how: Any,
) -> tuple[Any, Any]:
    """Converts a module and compares it with PyTorch on other inputs and another batch."""
    randomized(module)
    model, report = convert(module, random_inputs(*shapes), tmp, **how)
    others = random_inputs(*((samples, *shape[1:]) for shape in shapes), seed=2)
    with torch.no_grad():
        wanted = by_name(module(*others))
    found = answers(model, report, others)
    assert found.keys() == wanted.keys()
    wrong = {}
    for name, expected in wanted.items():
        assert found[name].shape == expected.shape, name
        assert (found[name].dtype.kind == "f") == (expected.dtype.kind == "f"), name
        expected = expected.astype("float32")
        largest = np.abs(expected).max()
        if expected.ndim > 1 and expected.shape[0] == samples:
            assert np.abs(expected[0] - expected[1]).max() > 1e-3 * largest, f"{name} is constant"
        difference = np.abs(found[name] - expected).max() / largest
        if not difference <= limit:
            wrong[name] = difference
    assert not wrong, wrong
    return model, report


def compare_file(
    module: torch.nn.Module, model: Any, report: Any, shape: Sequence[int], rank: int = 4
) -> None:
    """Compares the file of a model with PyTorch; no tensor has more dimensions than the rank."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = converters.to_tflite(model)
    graph = read_graphs(content)[0]
    assert max(len(t.shape) for op in graph.operators for t in op.outputs) <= rank
    x = random_inputs(shape, seed=5)
    array = np.ascontiguousarray(x[0].numpy().transpose(report.inputs[0].order))
    result = runtime.run(content, {next(iter(graph.named_inputs)): array})
    assert result.outcome == "ok", result.message
    with torch.no_grad():
        wanted = by_name(module(*x))
    wrong = {}
    for end in report.outputs:
        found = np.transpose(result.outputs[end.name], np.argsort(end.order))
        expected = wanted[end.name].astype("float32")
        difference = np.abs(found - expected).max() / np.abs(expected).max()
        if not difference <= LIMIT:
            wrong[end.name] = difference
    assert not wrong, wrong
