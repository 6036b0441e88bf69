"""What LiteRT's `benchmark_model` wrote, as rows of a report's `comparisons` (docs/report.md).

python benchmark_output.py MODEL PHONE RUNTIME=LOG...

Exit status 1 if a log holds no times. Standard library only.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

# Of the runs after the warm-up, in microseconds: "count=50 first=… avg=… median=…". TensorFlow
# Lite's tool says it too, and LiteRT's says the mean in milliseconds as well.
_RUNS = re.compile(r"^(?:[A-Z]+: )?count=\d+ .*$", re.MULTILINE)
_FIELD = re.compile(r"(\w+)=([\d.e+]+)")
_MEAN = re.compile(r"Inference \(avg\): +([\d.]+) ms \((\d+) runs\)")
_DELEGATED = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate \((\w+)\)")
_ON_CPU = "TfLiteXNNPackDelegate"


def row(subject: str, runtime: str, log: str) -> dict[str, Any]:
    """One row: fields as in a report, and the mean and the number of the runs.

    Args:
        subject: The model's file name.
        runtime: `"CPU"` or `"GPU"`.
        log: What the tool wrote.
    """
    runs = [dict(_FIELD.findall(line)) for line in _RUNS.findall(log)]
    timed = runs[-1] if len(runs) > 1 else {}  # the first are those of the warm-up
    mean = _MEAN.search(log)
    milliseconds = {
        key: round(float(timed[key]) / 1000, 6) for key in ("median", "avg") if key in timed
    }
    if mean:
        milliseconds.setdefault("avg", float(mean[1]))
        timed = {"count": mean[2], **timed}
    delegated = [found for found in _DELEGATED.findall(log) if found[2] != _ON_CPU]
    on_gpu = runtime == "GPU"
    whole = all(taken == all_ for taken, all_, _ in delegated) if on_gpu and delegated else None
    return {
        "subject": subject,
        "runtime": runtime,
        "milliseconds": milliseconds.get("median"),
        "mean_milliseconds": milliseconds.get("avg"),
        "runs": int(timed["count"]) if "count" in timed else 0,
        "adapter": delegated[0][2] if on_gpu and delegated else "",
        "fully_accelerated": whole,
        "problem": "" if milliseconds else _problem(log),
    }


def _problem(log: str) -> str:
    """The last error, or the last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line or "error" in line]
    return (errors or lines or ["the tool wrote nothing"])[-1]


def main(arguments: list[str]) -> int:
    """Prints the rows of all logs; gives the exit status."""
    subject, phone, *logs = arguments
    rows = []
    for log in logs:
        runtime, _, path = log.partition("=")
        rows.append(row(subject, runtime, Path(path).read_text(errors="replace")))
    print(json.dumps({"device": phone, "comparisons": rows}, indent=2))
    return int(any(found["problem"] for found in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
