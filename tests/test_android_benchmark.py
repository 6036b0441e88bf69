"""The script that measures a model on a phone, on recorded outputs and with a phone of paper."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ANDROID = ROOT / "examples" / "android"
RECORDED = ROOT / "tests" / "data" / "benchmark_model"
PARTS = (
    "VERBOSE: Replacing {} out of 366 node(s) with delegate (LITERT_CL) node, yielding {} "
    "partitions for subgraph 0 (main).\n"
)
XNNPACK = (
    "VERBOSE: Replacing 3 out of 3 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 "
    "partitions for subgraph 0 (main).\n"
)
REFUSED = "ERROR: Could not load symbol LiteRtRegisterAcceleratorGpuOpenCl\n"

ROWS = [  # runtime, log, what a row says
    (
        "CPU",
        (RECORDED / "cpu.log").read_text(),
        {"milliseconds": 0.462, "mean_milliseconds": 0.464545, "runs": 2112},
    ),
    (
        "GPU",
        PARTS.format(366, 1) + (RECORDED / "gpu.log").read_text(),
        {
            "milliseconds": None,
            "mean_milliseconds": 7430.2,
            "runs": 10,
            "adapter": "LITERT_CL",
            "fully_accelerated": True,
        },
    ),
    (
        "GPU",
        PARTS.format(363, 2) + XNNPACK + (RECORDED / "gpu.log").read_text(),
        {
            "mean_milliseconds": 7430.2,
            "runs": 10,
            "adapter": "LITERT_CL",
            "fully_accelerated": False,
        },
    ),
    (
        "CPU",
        (RECORDED / "tflite.log").read_text(),
        {"milliseconds": 1239.807, "mean_milliseconds": 1240.27, "runs": 50},
    ),
    ("GPU", "INFO: STARTING!\n" + REFUSED + "INFO: end\n", {"problem": REFUSED.strip()}),
    ("CPU", "", {"problem": "the tool wrote nothing"}),
]


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_outputs_are_read(number, tmp_path):
    runtime, log, said = ROWS[number]
    (tmp_path / "log").write_text(log)
    result = subprocess.run(
        [sys.executable, ANDROID / "benchmark_output.py", "m.tflite", "Phone", f"{runtime}=log"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == int("problem" in said), result.stderr
    told = json.loads(result.stdout)
    (row,) = told["comparisons"]
    unsaid = {"milliseconds": None, "mean_milliseconds": None, "runs": 0, "problem": ""}
    unsaid |= {"adapter": "", "fully_accelerated": None, "subject": "m.tflite", "runtime": runtime}
    assert told["device"] == "Phone"
    assert row == unsaid | said


# Keeps what it is asked, and answers to the tool's calls with recorded outputs.
PHONE = f"""#!/bin/sh
echo "$*" >> calls
case "$*" in
  get-state) [ -e phone ] ;;
  *getprop*) printf 'Paper 1\\r\\n' ;;
  *use_gpu=true*) cat {RECORDED}/gpu.log ;;
  *use_gpu=false*) cat {RECORDED}/cpu.log ;;
esac
"""


def benchmark(folder, *arguments, adb=True):
    (folder / "bin").mkdir(exist_ok=True)
    if adb:
        (folder / "bin" / "adb").write_text(PHONE)
        (folder / "bin" / "adb").chmod(0o755)
    return subprocess.run(
        [ANDROID / "benchmark.sh", *arguments],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder / 'bin'}" + (":/usr/bin:/bin" if adb else "")},
        capture_output=True,
        text=True,
    )


def test_a_phone_is_measured(tmp_path):
    for name in ("phone", "net.tflite", "benchmark_model", "libLiteRtOpenClAccelerator.so"):
        (tmp_path / name).write_text("")
    result = benchmark(tmp_path, "net.tflite")
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["device"] == "Paper 1"
    rows = [(row["subject"], row["runtime"], row["runs"]) for row in told["comparisons"]]
    assert rows == [("net.tflite", "CPU", 2112), ("net.tflite", "GPU", 10)]
    assert (tmp_path / "net.gpu.log").read_text() == (RECORDED / "gpu.log").read_text()
    calls = (tmp_path / "calls").read_text()
    for pushed in ("net.tflite", "./benchmark_model", "./libLiteRtOpenClAccelerator.so"):
        assert f"push {pushed} " in calls
    assert "--use_gpu=true --use_cpu=false --require_full_delegation=true" in calls


def test_what_is_missing_is_told(tmp_path):
    def told(*arguments, adb=True):
        result = benchmark(tmp_path, *arguments, adb=adb)
        assert result.returncode == 2 and not result.stdout
        assert result.stderr.count("\n") == 1
        return result.stderr

    assert "usage" in told()
    assert "no such model. Received: net.tflite" in told("net.tflite")
    (tmp_path / "net.tflite").write_text("")
    assert "Received: ./benchmark_model" in told("net.tflite")
    (tmp_path / "benchmark_model").write_text("")
    assert "no phone" in told("net.tflite")
    (tmp_path / "bin" / "adb").unlink()
    assert "adb is missing" in told("net.tflite", adb=False)
