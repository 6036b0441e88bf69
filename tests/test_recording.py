"""What is recorded of a module is what it answers, or is refused; PyTorch itself is the oracle."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from converters import export_program
from converters.recording import recorded_arrays

SAMPLES = torch.arange(12.0).reshape(4, 3)


class Answer(nn.Module):
    """Answers whatever a function makes of the input."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_a_module_that_writes_to_its_input_writes_to_a_copy():
    x, array = SAMPLES.clone(), SAMPLES.numpy().copy()
    for given in (x, array):
        arrays = recorded_arrays(Answer(lambda v: v.mul_(2) + 1), given)
        np.testing.assert_array_equal(arrays["inputs"], SAMPLES)
        np.testing.assert_array_equal(arrays["outputs"], SAMPLES * 2 + 1)
        np.testing.assert_array_equal(given, SAMPLES)


def test_a_module_that_answers_with_what_it_writes_to_again():
    kept = torch.zeros(2, 3)
    arrays = recorded_arrays(Answer(lambda v: kept.copy_(v)), SAMPLES, batch_size=2)
    np.testing.assert_array_equal(arrays["outputs"], SAMPLES)


class Table(nn.Module):
    """Answers without the samples: a table of two rows, which is a batch's length or is not."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.ones(2, 3))

    def forward(self, x):
        return self.table


class WithTable(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = Table(), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(x + self.table(x).sum(0))


@pytest.mark.parametrize("batch_size", [32, 3])  # of 5 samples: one batch; one of 3 and one of 2
def test_layers_without_the_samples_first_are_left_out(batch_size):
    arrays = recorded_arrays(WithTable(), torch.ones(5, 3), layers=True, batch_size=batch_size)
    assert {key for key in arrays if key.startswith("layers.")} == {"layers.head"}


@dataclass
class Logits:
    logits: torch.Tensor


REFUSED = {
    "scalar": (lambda x: x.mean(), r"'output' of shape \(\) for 4 samples"),
    "one of two": (lambda x: {"y": x * 2, "loss": x.mean()}, "'loss' of shape"),
    "samples second": (lambda x: x.T, r"of shape \(3, 4\)"),
    "dataclass": (Logits, "Received: Logits"),
    "nothing": (lambda x: None, "Received: NoneType"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_answers_that_are_no_reference(name):
    function, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as caught:
        recorded_arrays(Answer(function), SAMPLES)
    assert "\n" not in str(caught.value)


def test_a_program_of_a_scalar_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="first axis of every output"):
        export_program(Answer(lambda x: x.mean()), SAMPLES, tmp_path / "mean.pt2")
    assert not any(tmp_path.iterdir())
