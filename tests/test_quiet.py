"""The converter's log is held back; what Python writes and what a dying process says is not."""

import io
import os
import signal
import subprocess
import sys
import warnings

import pytest

from converters.tflite.quiet import without_native_logs

LOG = b"I0000 00:00:1795362269.803458    9584 loader.cc:236] Reading the meta graph\n"


OLDER = b"2026-11-27 12:31:18.487788: E xla/cuda_fft.cc:467] Unable to register cuFFT factory\n"


def test_the_log_is_dropped_and_other_text_passed_on(capfd):
    with without_native_logs():
        os.write(2, LOG + OLDER + b"a warning of the converter\n")
        assert capfd.readouterr().err == ""
    assert capfd.readouterr().err == "a warning of the converter\n"
    os.write(2, LOG)
    assert capfd.readouterr().err == LOG.decode()


def test_what_python_writes_is_shown_at_once():
    """In a process of its own: pytest's stderr is not descriptor 2."""
    code = (
        "import os, sys; from converters.tflite.quiet import without_native_logs as w\n"
        "with w(): os.write(2, b'native\\n'); print('3', end='/', file=sys.stderr); "
        "print('9', file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr == "3/9\nnative\n"


def test_standard_error_may_change_while_it_is_prepared(tmp_path):
    """In a thread that outlives its caller, whose standard error it was."""
    code = (
        "import os, subprocess, sys; from converters.tflite.quiet import without_native_logs as w\n"
        "begun = subprocess.Popen\n"
        "def changed(*a, **k): os.dup2(os.open('now', os.O_WRONLY | os.O_CREAT), 2); "
        "return begun(*a, **k)\n"
        "subprocess.Popen = changed\n"
        "with w(): print('3', file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (result.stderr, (tmp_path / "now").read_text()) == ("", "3\n")


def test_nothing_is_shown_of_what_an_exception_carries(capfd):
    before = sys.stderr
    with pytest.raises(ValueError), without_native_logs():
        os.write(2, b"loc: error: no such operator\n")
        raise ValueError("no such operator")
    assert capfd.readouterr().err == "" and sys.stderr is before


DYING = """
import os, tempfile
from converters.tflite.quiet import without_native_logs
with without_native_logs():
    os.write(2, b"F0000 kernel.cc:1] Check failed: 1 == 2\\n")
    os.{end}
"""


@pytest.mark.skipif(os.name != "posix", reason="POSIX only")
@pytest.mark.parametrize(("end", "number"), [("abort()", "SIGABRT"), ("kill(os.getpid(), 9)", 9)])
def test_a_process_that_dies_shows_what_was_held_back(tmp_path, end, number):
    number = getattr(signal, str(number), number)
    result = subprocess.run(
        [sys.executable, "-c", DYING.format(end=end)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == -number
    assert "Check failed: 1 == 2" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="POSIX only")
@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2>/dev/null"])
def test_a_stderr_that_takes_nothing_does_no_harm(stderr):
    code = (
        "import os, sys; from converters.tflite.quiet import without_native_logs as w\n"
        "with w(): os.write(2, b'native\\n') if len(sys.argv) > 1 else 0; print(1, file=sys.stderr)"
    )
    more = "" if "&-" in stderr else " x"
    line = f'"{sys.executable}" -c "$CODE"{more} {stderr}'
    assert subprocess.run(["sh", "-c", line], env={**os.environ, "CODE": code}).returncode == 0


def test_what_another_has_turned_away_since_stays(monkeypatch):
    """As in a thread that outlives the command: it gave up, and standard error is a test's now."""
    other, saved = io.StringIO(), os.dup(2)
    try:
        with open(os.devnull, "wb") as null:
            with without_native_logs():
                monkeypatch.setattr(sys, "stderr", other)
                os.dup2(null.fileno(), 2)
            assert sys.stderr is other
            assert os.path.sameopenfile(2, null.fileno())
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def test_who_took_standard_error_meanwhile_goes_on_writing(capfd):
    """As a command that begins while a thread of the one before still converts."""
    with without_native_logs():
        taken = sys.stderr
    print("late", file=taken, flush=True)
    assert capfd.readouterr().err == "late\n"


def test_nothing_stays_open():
    """Nor is anything warned of: a file that is collected before it is closed is."""
    before = os.listdir("/dev/fd")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            with without_native_logs():
                pass
    assert os.listdir("/dev/fd") == before
    assert not caught
