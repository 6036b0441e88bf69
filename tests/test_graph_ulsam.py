"""ULSAM found in programs by what is computed, against PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import ulsam_keras
from converters.program import read_program
from converters.pytorch.graph.ulsam import find_ulsam_calls
from ulsam_variants import DSC, GROUPS, OTHER, SAME, C, H, N, W, by_view, randomised

# Sums of a few dozen float32 numbers.
TOLERANCE = 1e-5
SAMPLES = torch.randn(N, C, H, W, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def exported(tmp_path):
    """Writes a module's program and reads it: the program."""

    def export(module, x=SAMPLES, edit=lambda program: program, **options):
        program = edit(torch.export.export(module, (x,), **options))
        torch.export.save(program, tmp_path / "net.pt2")
        return read_program(tmp_path / "net.pt2")

    return export


def difference(program, module, calls, x=SAMPLES):
    """How far a chain of the calls' layers is from the module, relative to its largest output."""
    y = x.numpy().transpose(0, 2, 3, 1)
    for call in calls:
        layer = ulsam_keras.ULSAM(
            call.num_splits,
            momentum=call.momentum,
            epsilon=call.epsilon,
            data_format="channels_last",
        )
        layer.build(y.shape)
        layer.set_weights(call.values(layer, program.tensors))
        y = np.asarray(layer(y))
    expected = module(x).detach().numpy()
    return np.abs(y.transpose(0, 3, 1, 2) - expected).max() / np.abs(expected).max()


def rows(table):
    return [pytest.param({s: how}, id=f"{s}-{n}") for s in table for n, how in table[s].items()]


MODULES = {
    "published": lambda: DSC(),
    "one group": lambda: DSC(1),
    "a group per channel": lambda: DSC(8),
    "without bias": lambda: DSC(bias=False),
    "eps and momentum": lambda: DSC(eps=(1e-3, 1e-3), momentum=(0.1, 0.1)),
    "sum at the end": lambda: DSC(
        steps={"sum": lambda x, a: x * a, "join": lambda parts, x: torch.cat(parts, 1) + x}
    ),
    "many spellings": lambda: DSC(
        steps={step: list(ways.values())[-1] for step, ways in SAME.items()}
    ),
}


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_found(exported, make):
    module = randomised(make())
    program = exported(module)
    calls, near = find_ulsam_calls(program)
    assert not near and len(calls) == 1
    (call,) = calls
    assert (call.num_splits, call.channels) == (len(module.parts), C)
    norm = module.parts[0].first
    assert (call.momentum, call.epsilon) == (pytest.approx(1 - norm.momentum), norm.eps)
    assert call.nodes == {node.name for node in program.nodes}
    assert (call.source, call.result) == ("x", program.outputs[0].value)
    assert difference(program, module, calls) < TOLERANCE


@pytest.mark.parametrize("steps", rows(SAME))
def test_spellings(exported, steps):
    module = randomised(DSC(steps=steps))
    program = exported(module)
    calls, near = find_ulsam_calls(program)
    assert not near and len(calls) == 1
    assert calls[0].num_splits == GROUPS
    kept = {node.name for node in program.nodes} - calls[0].nodes
    assert not kept or steps is None
    assert difference(program, module, calls) < TOLERANCE


@pytest.mark.parametrize("steps", rows(OTHER))
def test_near_misses(exported, steps):
    (step, (how, text)) = next(iter(steps.items()))
    program = exported(randomised(DSC(steps={step: how})))
    calls, near = find_ulsam_calls(program)
    assert not calls
    if text:
        assert [miss.difference for miss in near] == [text]
        assert near[0].source == "x"
