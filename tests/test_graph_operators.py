"""Every operator, converted and compared with PyTorch; a family is one program."""

from pathlib import Path

import pytest

from graph_cases import FAMILIES, SHAPE
from graph_tools import Functions, compare


@pytest.mark.parametrize("family", FAMILIES)
def test_operators(family: str, tmp_path: Path) -> None:
    model, report = compare(Functions(FAMILIES[family]), [SHAPE], tmp_path)
    # Nothing is lost on the way to the account.
    statuses = {record.status for record in report.nodes}
    assert statuses <= {"converted", "folded", "constant", "unused"}
    assert not {r.key for r in report.weights if r.status == "unused"}
