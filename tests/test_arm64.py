"""Converted files give on arm64, under QEMU, what they give on x86-64."""

import pytest

from clients import need
from converters.tflite.options import PRECISIONS
from scripts import arm64

# Of an output's largest value: sums in another order.
ROUNDING = 1e-5
# Rounding turns a value of dynamic range's int8 activations over now and then, which moves an
# output by as much as a step does; the file must be as near to the float one all the same.
SNR_LOST = 0.5  # dB


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ranges of the activations")
def test_arm64_gives_what_x86_gives(tmp_path):
    need((arm64.HOME / ".installed").exists(), "arm64.sh")
    arm64.write_files(tmp_path)
    rows = arm64.rows(tmp_path)
    assert len(rows) == 3 * len(PRECISIONS) * len(arm64.CPUS)
    for row in rows:
        if row.steps is not None:
            assert row.differing == 0, row
        elif row.precision == "dynamic_range":
            here, there = row.snr
            assert here > there - SNR_LOST, row
        else:
            assert row.difference < ROUNDING, row
    assert "| digits | int8 | 6184 | 0 differ | 0 differ | 0 differ |  |" in arm64.table(rows)
