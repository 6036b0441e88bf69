"""Bad days: signals, full disks, files that change, processes that are killed or hang.

`scripts/bad_days.py` has the real command killed at random moments and on full file systems; these
are the mechanisms below it, each by itself.
"""

import contextlib
import errno
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from PIL import Image

import litert_models
from converters import export_program, load_checkpoint, load_images, record, runtime, to_tflite
from converters.output_folder import OutputFolder
from converters.runtime import RunResult
from converters.scratch import scratch_folder
from converters.tflite import jobs
from converters.verify import targets
from converters.whole_file import whole_file, write_whole
from scripts.bad_days import damage
from test_output_folder import conversion, names
from test_runtime import GRANDCHILD, ONES, processes_with, runtime_that

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


def python(code, *arguments, **environment):
    """A process of its own that runs some code, which is killed if it does not end."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def soon(holds, seconds=10):
    """Whether something comes to hold."""
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


@contextlib.contextmanager
def files_of_at_most(size):
    """A write fails half way, as on a disk that gets full."""
    resource = pytest.importorskip("resource", reason="POSIX only")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ----------------------------------------------------------------------------------- signals

COMMAND = """
import click, os, signal, sys, time
from converters.cli.guard import run_command
def kill(): os.kill(os.getpid(), getattr(signal, sys.argv[1])); time.sleep(0.01)
class Deaf:
    def __del__(self): kill()
@click.command(context_settings={{"ignore_unknown_options": True}})
@click.argument("_", nargs=-1)
def work(_):
{lines}
run_command(work)
"""
LOST = {
    "in a destructor": ["Deaf()", "time.sleep(60)"],
    "swallowed": ["try: kill()", "except BaseException: pass", "time.sleep(60)"],
    "made into another error": [
        "try: kill()",
        "except BaseException as error: raise RuntimeError('native code failed') from error",
    ],
    "made into bad input": ["try: kill()", "except BaseException: raise ValueError('no')"],
    "again while it is obeyed": [
        "try: time.sleep(0.1); kill(); time.sleep(60)",
        "finally: kill(); time.sleep(0.6); kill(); print('cleared')",
    ],
}


@posix
@pytest.mark.parametrize("how", LOST)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_is_obeyed_once_and_never_lost(how, name):
    code = COMMAND.format(lines="\n".join(f"    {line}" for line in LOST[how]))
    # A background job may have SIGINT ignored, which a process of its own inherits.
    code = "import signal; signal.signal(2, signal.default_int_handler)\n" + code
    result = python(code, name)
    told = {"SIGINT": "interrupted", "SIGTERM": "ended by SIGTERM"}[name]
    assert (result.returncode, result.stderr) == (
        128 + getattr(signal, name),
        f"ulsam-keras: error: {told}\n",
    )
    assert result.stdout == ("cleared\n" if "again" in how else "")


def test_ctrl_c_before_there_is_anything(monkeypatch):
    """While the command's own files are imported."""
    from converters import cli

    class Interrupted:
        def find_spec(self, name, *_):
            if name == "converters.cli.group":
                raise KeyboardInterrupt

    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "converters.cli.group", raising=False)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130


@pytest.mark.parametrize("operation", range(8))
def test_a_commit_that_is_interrupted_is_whole(tmp_path, monkeypatch, operation):
    conversion(tmp_path, "old.tflite", text="old")
    count = operation

    def counted(original):
        def call(*arguments, **options):
            nonlocal count
            count -= 1
            if count == -1:
                raise KeyboardInterrupt
            return original(*arguments, **options)

        return call

    with contextlib.suppress(KeyboardInterrupt), OutputFolder(tmp_path) as output:
        for name in ("model.keras", "new.tflite"):
            output.path(name).write_text("new")
        output.path("report.json").write_text(
            '{"tool": "ulsam-keras", "files": [{"name": "new.tflite"}]}'
        )
        with monkeypatch.context() as patched:
            for name in ("unlink", "rename", "replace", "rmdir"):
                patched.setattr(os, name, counted(getattr(os, name)))
            output.commit()
    text = (tmp_path / "model.keras").read_text()
    assert names(tmp_path) == ["model.keras", f"{text}.tflite", "report.json"]
    assert text == ("old" if operation == 0 else "new")


# ------------------------------------------------------------------------- processes, killed

HELD = """
import os, sys, tempfile, time
from converters.cli.temporary import temporary_folder
with temporary_folder():
    tempfile.mkstemp()
    os.mkdir(tempfile.mkdtemp() + "/deep")
    {end}
"""


@posix
@pytest.mark.parametrize(
    "end", ["pass", "raise ValueError", "os.kill(os.getpid(), 9)", "os.abort()"]
)
def test_what_is_temporary_goes_with_the_process(tmp_path, end):
    python(HELD.format(end=end), TMPDIR=str(tmp_path))
    assert soon(lambda: not list(tmp_path.iterdir()))


def test_no_place_for_what_is_temporary_is_one_line(command, monkeypatch, tmp_path):
    import tempfile

    def nowhere(*_, **__):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "mkdtemp", nowhere)
    status, out, err = command("verify", tmp_path / "a.keras", tmp_path / "b.keras")
    assert (status, out) == (2, "")
    assert err == "ulsam-keras: error: No usable temporary directory found in ['/tmp']\n"


RUN = """
import sys, numpy
from converters import runtime
runtime.run(b"", numpy.ones(1), timeout=100)
"""
# Both kinds of the converter's process, which do nothing for a minute.
STARTED = """
import sys
from converters.tflite import jobs
jobs.worker.__file__ = sys.argv[1]
jobs.run_once(b"")
"""
FORKED = """
import subprocess, sys, time
from converters.tflite import jobs
jobs.worker.serve = lambda *_: (subprocess.Popen(["sleep", "60"]), time.sleep(60))
jobs.fork_worker()
jobs.run_once(b"")
"""


@linux
@pytest.mark.parametrize("code", [RUN, STARTED, FORKED], ids=["run", "started", "forked"])
def test_a_killed_process_leaves_none_behind(tmp_path, code):
    """Though the child is in the middle of something, and has a child of its own."""
    environment = runtime_that(tmp_path, GRANDCHILD, "time.sleep(60)")
    (tmp_path / "worker.py").write_text(
        "import subprocess, time\nsubprocess.Popen(['sleep', '60'])\ntime.sleep(60)"
    )
    mark = environment["MARK"]
    path = os.pathsep.join([environment["PYTHONPATH"], str(Path(__file__).parent.parent)])
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "worker.py")],
        env={**os.environ, "MARK": mark, "PYTHONPATH": path, "TMPDIR": str(tmp_path)},
    )
    assert soon(lambda: len(processes_with(mark)) >= 3, 30)
    process.kill()
    process.wait()
    assert soon(lambda: processes_with(mark) == [])


@linux
def test_a_grandchild_that_keeps_the_converters_pipe_is_not_waited_for(tmp_path, monkeypatch):
    mark = uuid.uuid4().hex
    (tmp_path / "worker.py").write_text(
        "import os, subprocess, sys\n"
        "subprocess.Popen(['sleep', '60'], start_new_session=True)\nos._exit(3)"
    )
    monkeypatch.setenv("MARK", mark)
    monkeypatch.setattr(jobs, "_WORKERS", [])
    monkeypatch.setattr(jobs.worker, "__file__", str(tmp_path / "worker.py"))
    started = time.monotonic()
    with pytest.raises(jobs.WorkerDied, match="exit status 3"):
        jobs.run_once(b"")
    assert time.monotonic() - started < 30
    for path in processes_with(mark):
        if int(path.parent.name) != os.getpid():
            os.kill(int(path.parent.name), signal.SIGKILL)


TRIALS = {
    # what became of an addition on the GPU: what is told
    "crashed": "crashed: ended by SIGSEGV",
    "timed_out": "timed_out: killed after the time limit of 60 s",
    "refused": "refused: no",
}


@pytest.mark.parametrize("outcome", TRIALS)
def test_a_gpu_that_runs_nothing_is_left_out(monkeypatch, outcome):
    message = TRIALS[outcome].partition(": ")[2]
    trial = RunResult(outcome, adapter="Some GPU", message=message)
    monkeypatch.setattr(targets, "gpu_trial", lambda: trial)
    with pytest.warns(UserWarning, match=f"left out.*Received: Some GPU, {TRIALS[outcome]}"):
        assert targets.find_targets() == (targets.CPU, None)
    with pytest.raises(ValueError, match=f"GPU is required.*Received: .*{TRIALS[outcome]}"):
        targets.find_targets(require_gpu=True)


# --------------------------------------------------------------------------------- full disks


@pytest.mark.parametrize("size", [0, 300, 5000])
def test_an_older_file_outlives_a_full_disk(tmp_path, size):
    """A picture's; what `record` and `export_program` write."""
    net, path = torch.nn.Linear(40, 300), tmp_path / "net.pt2"
    writers = {
        "a.png": lambda to: write_whole(to, bytes(20000)),
        "a.npz": lambda to: record(net, torch.randn(20, 40), to),
        "a.pt2": lambda to: export_program(net, torch.zeros(2, 40), to),
    }
    for name, write in writers.items():
        path = tmp_path / name
        path.write_text("an older one")
        with (
            files_of_at_most(size),
            pytest.raises(OSError, match=f"File too large: .*{name}"),
        ):
            write(path)
        assert path.read_text() == "an older one"
        assert names(tmp_path) == [name]
        write(path)
        assert path.stat().st_size > 5000
        path.unlink()


@posix
def test_where_a_file_is_written(tmp_path):
    real, link = tmp_path / "real.png", tmp_path / "link.png"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    write_whole(link, b"new")
    assert link.is_symlink() and real.read_bytes() == b"new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    write_whole(os.devnull, b"new")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    with pytest.raises(ValueError, match="^no$"), whole_file(real) as part:
        part.write_bytes(b"half")
        raise ValueError("no")
    assert real.read_bytes() == b"new"
    assert names(tmp_path) == ["link.png", "real.png"]
    with pytest.raises(OSError, match="No such file or directory: .*nowhere/a.png"):
        write_whole(tmp_path / "nowhere" / "a.png", b"new")


def test_a_full_output_folder_is_named(tmp_path):
    conversion(tmp_path, "old.tflite", text="old")
    with (
        files_of_at_most(10),
        pytest.raises(OSError, match=r"output folder cannot be written to \(File too large\)") as e,
        OutputFolder(tmp_path) as output,
        output.writing("model.keras") as path,
    ):
        path.write_bytes(bytes(99))
    assert str(tmp_path) in str(e.value) and "\n" not in str(e.value)
    assert names(tmp_path) == ["model.keras", "old.tflite", "report.json"]


def test_an_output_folder_that_vanishes_is_named(tmp_path):
    import shutil

    with (
        pytest.raises(OSError, match="output folder cannot be written to .* Received: "),
        OutputFolder(tmp_path / "out") as output,
    ):
        shutil.rmtree(tmp_path / "out")
        with output.writing("model.keras") as path:
            path.write_bytes(b"new")
    assert names(tmp_path) == []


FULL = r"Temporary files cannot be written \(.*\); make room, .* TMPDIR\. Received: '/"


@posix
def test_only_its_own_errors_are_those_of_a_scratch_folder(tmp_path):
    with pytest.raises(OSError, match=FULL), scratch_folder("x-") as folder:
        (folder / "nowhere" / "x").write_text("")
    with pytest.raises(FileNotFoundError, match="theirs"), scratch_folder("x-"):
        (tmp_path / "theirs").read_text()
    with pytest.raises(BlockingIOError), scratch_folder("x-"):
        raise BlockingIOError(errno.EAGAIN, "no more processes")
    with pytest.raises(OSError, match=FULL), scratch_folder("x-") as folder, files_of_at_most(1):
        (folder / "x").write_text("more")
    told = OSError(f"Another place is full ({os.strerror(errno.ENOSPC)})")
    with pytest.raises(OSError, match="Another place"), scratch_folder("x-"):
        raise told from OSError(errno.ENOSPC, "")
    with pytest.raises(OSError, match=FULL), scratch_folder("x-"):
        raise OSError(f"HDF5: errno = 28, {os.strerror(errno.ENOSPC)}")


@pytest.fixture(scope="module")
def widening():
    """A file of little input and large output."""
    import tensorflow as tf

    return litert_models.from_function(lambda x: tf.tile(x, (1, 64, 64)), x=(1, 2, 3))


@posix
@pytest.mark.parametrize("size", [100, 3000])
def test_a_full_disk_is_no_crash_of_the_runtime(widening, tmp_path, size):
    """In this process at 100 bytes, at 3000 in the one that runs."""
    (tmp_path / "model.tflite").write_bytes(widening)
    with files_of_at_most(size), pytest.raises(OSError, match=FULL):
        runtime.run(tmp_path / "model.tflite", ONES, repeats=0)


@linux
def test_a_full_disk_is_no_refusal_of_the_converter():
    """In this process, which writes a SavedModel, and in the converter's."""
    import resource

    inputs = keras.Input((4, 4, 8))
    model = keras.Model(inputs, keras.layers.Conv2D(64, 3)(inputs))
    to_tflite(model)  # the process is there
    with files_of_at_most(100), pytest.raises(OSError, match=FULL):
        to_tflite(model)
    pid = jobs._WORKERS[0]._process._process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match=FULL):
            to_tflite(model)
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
    to_tflite(model)


# ----------------------------------------------------------------------- files that change


@contextlib.contextmanager
def changing(path, content):
    """Cuts a file, replaces it and removes it, ever again."""
    rng, over = random.Random(0), threading.Event()

    def change():
        while not over.is_set():
            damage(path, content, rng)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("kind", ["zip", "legacy", "npz", "image"])
def test_a_file_that_changes_while_it_is_read(tmp_path, kind):
    path = tmp_path / {"npz": "m.npz", "image": "m.png"}.get(kind, "m.pth")
    values = np.random.default_rng(0).normal(size=(64, 64, 3))
    if kind == "npz":
        np.savez(path, a=values)
    elif kind == "image":
        Image.fromarray((values * 40 + 128).astype("uint8")).save(path)
    else:
        state = {"a": torch.from_numpy(values)}
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    read = (lambda: load_images(path, (8, 8))) if kind == "image" else lambda: load_checkpoint(path)
    expected = read()
    errors = []
    with changing(path, path.read_bytes()):
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            try:
                found = read()
            except (OSError, ValueError) as error:
                errors.append(str(error))
            else:
                assert found.keys() == expected.keys() if kind != "image" else len(found) == 1
    assert errors and not [error for error in errors if "\n" in error]


def test_a_folder_of_images_that_changes_while_it_is_read(tmp_path):
    for number in range(40):
        pixels = np.full((32, 32, 3), number, "uint8")
        Image.fromarray(pixels).save(tmp_path / f"{number:02}.png")

    def remove(done, count):
        (tmp_path / f"{done + 5:02}.png").unlink(missing_ok=True)
        (tmp_path / f"{done + 8:02}.png").write_bytes(b"half of it")

    with pytest.warns(UserWarning, match="of 40 images cannot be read and are left out: "):
        images = load_images(tmp_path, (8, 8), progress=remove)
    assert 5 <= len(images) < 40


# ---------------------------------------------------------------------------------- surroundings


def test_a_clock_that_jumps_does_not_end_a_run_or_make_it_hang(tmp_path, widening):
    """The wall clock, in the worker and here."""
    (tmp_path / "sitecustomize.py").write_text(
        "import random, time\nreal = time.time\n"
        "time.time = lambda: real() + random.choice((-1e6, 0, 1e6))\n"
    )
    code = (
        "import sys, numpy; from converters import runtime\n"
        "result = runtime.run(sys.argv[1], numpy.ones((1, 2, 3), 'float32'), timeout=50)\n"
        "print(result.outcome, result.milliseconds >= 0)"
    )
    (tmp_path / "model.tflite").write_bytes(widening)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parent.parent)])
    assert python(code, tmp_path / "model.tflite", PYTHONPATH=path).stdout == "ok True\n"


YEARS = pytest.mark.parametrize("years", [-60, 102], ids=["before 1980", "in 2128"])


def set_clock(monkeypatch, years):
    """So far off that a zip archive, whose dates are of 1980 to 2107, has none for it."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + years * 365.25 * 86400)


@pytest.mark.slow
@YEARS
def test_a_model_is_saved_whatever_the_clock_says(command, tmp_path, monkeypatch, years):
    image = keras.Input((8, 8, 4))
    model = keras.Model(image, keras.layers.Conv2D(2, 3)(image))
    model.save(tmp_path / "net.keras")
    set_clock(monkeypatch, years)
    options = ("--precision", "float32", "--no-gpu", "-o", tmp_path / "out")
    status, _, error = command("convert", tmp_path / "net.keras", *options)
    assert (status, error) == (0, "")
    saved = keras.models.load_model(tmp_path / "out" / "model.keras")
    for mine, theirs in zip(saved.weights, model.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


@YEARS
def test_a_reference_is_recorded_whatever_the_clock_says(tmp_path, monkeypatch, years):
    set_clock(monkeypatch, years)
    record(torch.nn.Linear(3, 2), torch.ones(4, 3), tmp_path / "reference.npz")
    with np.load(tmp_path / "reference.npz") as arrays:
        assert {array.shape for array in arrays.values()} == {(4, 3), (4, 2)}


@YEARS
def test_a_file_is_run_whatever_the_clock_says(widening, monkeypatch, years):
    set_clock(monkeypatch, years)
    assert runtime.run(widening, ONES).ok
