"""What a shell completes: paths, choices and lists of precisions."""

import pytest
from click.shell_completion import BashComplete

from converters.cli.group import cli


def completed(line):
    """What bash is offered for the last word of a line: (kind, value) of each."""
    *words, incomplete = line.split(" ")
    shell = BashComplete(cli, {}, "ulsam-keras", "_ULSAM_KERAS_COMPLETE")
    return [(item.type, item.value) for item in shell.get_completions(words, incomplete)]


PATHS = ("reference", "model", "name-map", "calibration", "import")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("inspect mo", [("file", "mo")]),
        ("lint mo", [("file", "mo")]),
        ("convert mo", [("file", "mo")]),
        ("convert x -o o", [("dir", "o")]),
        *((f"convert x --{name} p", [("file", "p")]) for name in PATHS),
        ("verify a ", [("file", "")]),
        ("verify a b --inputs in", [("file", "in")]),
        ("lint x --fail-on ", [("plain", "error"), ("plain", "warning")]),
        ("convert x --precision fl", [("plain", "float32"), ("plain", "float16")]),
        (
            "convert x --precision float32,int",
            [("plain", "float32,int8"), ("plain", "float32,int16x8")],
        ),
        ("convert x --precision float32,float", [("plain", "float32,float16")]),
        ("con", [("plain", "convert")]),
    ],
)
def test_completion(line, expected):
    assert completed(line) == expected
