"""Every operator, converted and compared with PyTorch; a family is one program."""

from pathlib import Path

import pytest
import torch

from graph_cases import FAMILIES, SHAPE
from graph_tools import Functions, compare, compare_file, convert, random_inputs, randomized


@pytest.mark.parametrize("family", FAMILIES)
def test_operators(family: str, tmp_path: Path) -> None:
    model, report = compare(Functions(FAMILIES[family]), [SHAPE], tmp_path)
    # Nothing is lost on the way to the account.
    statuses = {record.status for record in report.nodes}
    assert statuses <= {"converted", "folded", "constant", "unused"}
    assert not {r.key for r in report.weights if r.status == "unused"}


# Beside it the exact GELU is none to TensorFlow's converter, which then lacks an operator: they
# share a factor.
_APART = {"gelu_tanh"}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_operators_in_a_file(family: str, tmp_path: Path) -> None:
    module = randomized(Functions({n: c for n, c in FAMILIES[family].items() if n not in _APART}))
    model, report = convert(module, random_inputs(SHAPE), tmp_path)
    compare_file(module, model, report, SHAPE, rank=6)


@pytest.mark.parametrize("family", ["convolutions", "pools", "normalizations", "products"])
def test_operators_decomposed_as_older_versions_write_them(family: str, tmp_path: Path) -> None:
    # Its running statistics are written once for every sample of the batch.
    cases = {name: c for name, c in FAMILIES[family].items() if name != "instance_running"}
    compare(
        Functions(cases),
        [(2, *SHAPE[1:])],
        tmp_path,
        samples=3,
        decomposed=True,
        dynamic_shapes={"inputs": ({0: torch.export.Dim("batch")},)},
    )
