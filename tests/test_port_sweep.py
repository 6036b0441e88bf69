"""Every layer pair that the port knows, with its arguments, PyTorch against Keras: the verdicts."""

import warnings

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn

import torch_reference
from converters.pytorch import port_weights
from port_cases import CASES
from port_tools import (
    TOLERANCE,
    inputs_of,
    randomise,
    state_of,
    to_last,
    unchanged,
    values,
)
from ulsam_keras import ULSAM


class Permute(nn.Module):
    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(self.axes)


THEIRS = {**vars(nn), "Permute": Permute, "ULSAM": torch_reference.ULSAM}
OURS = {**vars(layers), "ops": ops, "ULSAM": ULSAM}


def built(case):
    """The PyTorch module, the Keras model, and the name map that pairs their layers."""
    module = nn.Sequential(*(eval(code, THEIRS) for code in case.theirs.split(" → ")))
    shape = (*case.shape[1:], case.shape[0])
    x = inputs = keras.Input(shape, dtype="int32" if "Embedding" in case.ours else "float32")
    made = [eval(code, OURS) for code in case.ours.split(" → ")]
    for layer in made:
        x = layer(x)
    model = keras.Model(inputs, x)
    paths = [str(i) for i, part in enumerate(module) if part.state_dict()]
    names = [layer.name for layer in made if getattr(layer, "weights", None)]
    return randomise(module), model, dict(zip(names, paths, strict=False))


def outcome(case):
    """What becomes of a case: the verdict without its word, the warnings, the port report."""
    module, model, name_map = built(case)
    before = values(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            report = port_weights(state_of(module), model, name_map=name_map)
        except ValueError:
            assert unchanged(model, before)
            return "refused", "", ""
    told = " ".join(str(w.message) for w in caught if w.category is UserWarning)
    assert told == " ".join(report.warnings)
    x = inputs_of(2, *case.shape)
    x = abs(x * 4).astype("int32") if "Embedding" in case.ours else x
    with torch.no_grad():
        expected = to_last(module(torch.from_numpy(x)).numpy())
    actual = ops.convert_to_numpy(model(to_last(x)))
    equal = expected.shape == actual.shape
    equal = equal and np.abs(actual - expected).max() <= TOLERANCE * np.abs(expected).max()
    if told:
        return "warned though equal" if equal else "warned", told, report
    return "equal" if equal else "beyond", "", report


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case.theirs} into {case.ours} {case.shape}")
        for cases in CASES.values()
        for case in cases
    ],
)
def test_the_verdict_of_every_pair(case):
    found, told, report = outcome(case)
    expected, _, word = case.verdict.partition(": ")
    assert found == expected, told
    if expected.startswith("warned"):
        assert word in told
        assert len(report.warnings) == 1
    if expected == "beyond" and word[0] != "(":
        assert word in {name for record in report.settings for name in record.settings}
        assert f"{word} " in str(report)
