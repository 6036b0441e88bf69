"""Whatever happens: exit statuses, errors as one line, printing that cannot fail."""

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from converters.cli import words
from converters.cli.group import cli
from converters.cli.guard import Ended

CHECKPOINT = Path(__file__).parent.parent / "examples" / "digits" / "digits_ulsam.pth"
COMMAND = [sys.executable, "-c", "from converters.cli import main; main()"]


def shell(line, **environment):
    """A line of sh in which `u` is the command."""
    script = f'u() {{ "$PYTHON" -c "$MAIN" "$@"; }}\n{line}'
    environment = {**os.environ, "PYTHON": sys.executable, "MAIN": COMMAND[2], **environment}
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=environment, errors="replace"
    )


PRINTING = {
    "a reader that leaves": "u inspect $C | true; exit ${PIPESTATUS[0]}",
    "a full disk": "u inspect $C > /dev/full",
    "a closed stdout": "u inspect $C >&-",
    "a closed stderr": "u inspect $C 2>&-",
    "nothing open": "u inspect $C <&- >&- 2>&-",
    "no locale": "LC_ALL=C PYTHONUTF8=0 u inspect $C",
    "a table into a closed stdout": '$PYTHON -c "$TABLE" >&-',
    "a table into a full disk": '$PYTHON -c "$TABLE" > /dev/full',
    "a table for a reader that leaves": '$PYTHON -c "$TABLE" | true; exit ${PIPESTATUS[0]}',
}


# As convert and verify print, without what they do before.
TABLE = """
import click
from rich.console import Console
from converters.cli.guard import run_command
run_command(click.command()(lambda: Console().print('x\\n' * 99)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
@pytest.mark.parametrize("name", PRINTING)
def test_printing_does_not_change_the_status(name):
    result = shell(PRINTING[name], C=str(CHECKPOINT), TABLE=TABLE)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr and "Exception" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
@pytest.mark.parametrize("redirection", ["2>&-", "2> /dev/full", ">&- 2>&-"])
def test_an_error_that_cannot_be_printed_keeps_its_status(redirection):
    assert shell(f"u inspect nothing.pth {redirection}").returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/full")
def test_output_that_is_lost_is_told():
    assert "incomplete: No space left" in shell("u inspect $C > /dev/full", C=CHECKPOINT).stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize("printer", ["click.echo('[≈ – 中]')", "Console().print('\\\\[≈ – 中]')"])
def test_what_an_encoding_lacks_is_replaced(encoding, printer):
    code = (
        "import click; from rich.console import Console; from converters.cli.guard import *\n"
        f"@click.command()\ndef show(): {printer}\n"
        "run_command(show)"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.startswith(b"[") and result.stdout.rstrip().endswith(b"]")


def failing(error):
    def raise_it(*_, **__):
        raise error

    return raise_it


def deep():
    return deep()


def recursion(*_, **__):
    return deep()  # a function of any arguments that calls itself is without limit in Python 3.13.0


ERRORS = {
    # what is raised: status, words
    "zlib": (failing(__import__("zlib").error("Error -3")), 3, "error: Error -3"),
    "recursion": (recursion, 3, "RecursionError"),
    "memory": (failing(MemoryError()), 3, "MemoryError"),
    "a bug": (failing(AssertionError("x\ny")), 3, "AssertionError: x y"),
    "no package": (
        failing(__import__("importlib.metadata").metadata.PackageNotFoundError("keras")),
        3,
        "keras. `ulsam-keras doctor`",
    ),
    "no TensorFlow": (
        failing(ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow.lite")),
        2,
        'This needs tensorflow, which is not installed; install it with pip install "ulsam-keras[c',
    ),
    "content": (failing(ValueError("bad `name_map`. Received: entry=None")), 2, "no --entry"),
    "a file": (failing(FileNotFoundError(2, "No such file", "x.pth")), 2, "'x.pth'"),
    "Ctrl-C": (failing(KeyboardInterrupt()), 130, "interrupted"),
    "SIGTERM": (failing(Ended(signal.SIGTERM)), 143, "ended by SIGTERM"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_any_error_is_one_line_and_a_status_of_its_own(command, monkeypatch, name):
    raising, expected, text = ERRORS[name]
    monkeypatch.setattr("converters.checkpoint.list_tensors", raising)
    status, out, err = command("inspect", CHECKPOINT)
    assert (status, out) == (expected, "")
    line = err.lstrip("\n")  # click's, after ^C
    assert line.startswith("ulsam-keras: error: ") and line.count("\n") == 1
    assert text in line


def test_warnings_are_lines_of_their_own_though_the_command_fails(command, monkeypatch):
    def warn(*_, **__):
        warnings.warn("took `entry`\n'model'", stacklevel=2)
        warnings.warn("no matter of the model", DeprecationWarning, stacklevel=2)
        raise ValueError("bad content")

    monkeypatch.setattr("converters.checkpoint.list_tensors", warn)
    status, _, err = command("inspect", CHECKPOINT)
    told = ["warning: took --entry 'model'", "ulsam-keras: error: bad content"]
    assert (status, err.splitlines()) == (2, told)


@pytest.mark.parametrize(
    "arguments", [("--debug", "inspect", CHECKPOINT), ("inspect", CHECKPOINT, "--debug")]
)
def test_debug_prints_the_traceback(command, monkeypatch, arguments):
    monkeypatch.setattr("converters.checkpoint.list_tensors", recursion)
    status, _, err = command(*arguments)
    assert status == 3
    assert "Traceback (most recent call last)" in err and "in recursion" in err
    assert err.splitlines()[-1].startswith("ulsam-keras: error: unexpected, RecursionError")


def test_every_subcommand_takes_debug():
    for command in cli.commands.values():
        assert any("--debug" in parameter.opts for parameter in command.params), command.name


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="POSIX only")
@pytest.mark.parametrize(("before", "expected"), [("SIG_IGN", 0), ("SIG_DFL", 129)])
def test_an_ignored_signal_stays_ignored(before, expected):
    """As under nohup; Ctrl-C in a script's background job likewise."""
    code = (
        "import click, os, signal, sys; from converters.cli.guard import *\n"
        f"signal.signal(signal.SIGHUP, signal.{before})\n"
        "@click.command()\ndef hang_up(): os.kill(os.getpid(), signal.SIGHUP)\n"
        "run_command(hang_up)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == expected, result.stderr
    assert "Traceback" not in result.stderr


def test_without_the_signals_of_posix(command, monkeypatch):
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    assert command("inspect", CHECKPOINT)[0] == 0


def test_without_arguments_the_help_is_shown(command):
    status, out, err = command()
    assert (status, out) == (2, "")
    assert err.startswith("Usage: ulsam-keras") and "\n  convert  " in err


def test_summaries_are_whole(command):
    _, text, _ = command("--help")
    assert "..." not in text.replace("[ARGS]...", "")
    told = " ".join(text.split())
    for name, subcommand in cli.commands.items():
        summary = " ".join(subcommand.help.split("\n\n")[0].split())
        assert f"{name} {summary}" in told


IN_OPTIONS = {
    "say with `name_map` which": "say with --name-map which",
    "leave out with `ignore_keys`.": "leave out with --ignore-keys.",
    "need `representative_data` for": "need --calibration for",
    "Received: precision='int8', entry=None": "Received: --precision int8, no --entry",
    "Received: prefix='', input_shape=(1, 2)": "Received: no --prefix, --input-size (1, 2)",
    "with `attention='float'` (or": "with --attention float (or",
    "Received: input_size=224.": "Received: --input-size 224.",
    "its inputs, the precision and a `state`": "its inputs, the precision and a `state`",
    "my_entry=3, `entryway`, `entry": "my_entry=3, `entryway`, `entry",
}


@pytest.mark.parametrize("message", IN_OPTIONS)
def test_arguments_are_told_as_options(message):
    assert words.in_options(message) == IN_OPTIONS[message]


def test_the_options_told_are_options():
    known = {name for c in cli.commands.values() for p in c.params for name in p.opts}
    assert set(words.OPTIONS.values()) <= known


def test_progress_is_a_line_each_where_there_is_no_terminal(capsys):
    from converters.cli.printing import progress_bar

    with progress_bar() as progress:
        progress("read the checkpoint", 0, 2)
        assert capsys.readouterr().err == "[1/2] read the checkpoint\n"
        progress("trace the model", 1, 2)
        progress("done", 2, 2)
    assert capsys.readouterr().err == "[2/2] trace the model\n"
