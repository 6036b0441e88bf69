"""TensorFlow's converter and its calibration, in a process of their own.

What is given to them can end the process (SIGSEGV, SIGABRT) or never come back. Here that is a
`ValueError`. One process serves all conversions of this one; a forked one has TensorFlow loaded
already. Imports NumPy, `lifeline` and `scratch`.
"""

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

import numpy as np

from converters.lifeline import Lifeline
from converters.scratch import scratch_folder, unwritable
from converters.tflite import worker

# Seconds without a word after which a job is taken to hang. The largest networks take minutes
# between the last batch and the result.
PATIENCE = 1800.0
# Seconds after which it is looked whether the process still runs.
_GLANCE = 1.0
# Exit status after SIGKILL, which not every system names.
_KILLED = -9
# Bytes of what the process prints that are looked at when it dies.
_LAST_LOG = 1 << 16

Batches = Sequence[Mapping[str, np.ndarray]]
Progress = Callable[[int, int], None]


class WorkerDied(Exception):
    """The process of a job ended, or was ended as it hung; the text says how."""


class WorkerKilled(WorkerDied):
    """It was killed, as a system does that has no memory left."""


class JobFailed(Exception):
    """A job raised; the text is what it said, of many lines."""


def convert(
    saved_model: str,
    *,
    precision: str,
    inference_type: str = "float32",
    floats: Sequence[str] = (),
    batches: Batches | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Converts a SavedModel whose signature is `serving_default`.

    Args:
        saved_model: Its folder.
        precision: As in `to_tflite`.
        inference_type: As in `to_tflite`.
        floats: Names of the tensors whose operators are left in float, for `"int8"`.
        batches: What the ranges of activations are taken from; `None` where the model has them.
        progress: Called with how many batches have run and how many there are.

    Raises:
        JobFailed: If the converter refuses it.
        WorkerDied: If the converter ended the process, or hung.
    """
    request = {
        "job": "convert",
        "saved_model": saved_model,
        "precision": precision,
        "inference_type": inference_type,
        "floats": list(floats),
    }
    with _job(request, batches, progress) as folder:
        return (folder / "result.tflite").read_bytes()


def measure(content: bytes, batches: Batches) -> dict[str, tuple[float, float]]:
    """The smallest and largest value of every output of a file over data.

    Raises:
        JobFailed: If the interpreter refuses the file.
        WorkerDied: If it ended the process, or hung.
    """
    with _job({"job": "measure"}, batches, None, content) as folder:
        return json.loads((folder / "ranges.json").read_text(encoding="utf-8"))


def run_once(content: bytes) -> None:
    """Loads a file on the interpreter that applications have, and runs it on zeros.

    Raises:
        JobFailed: If the interpreter refuses the file.
        WorkerDied: If it ended the process, or hung.
    """
    with _job({"job": "run"}, None, None, content):
        pass


def fork_worker() -> None:
    """Forks the process now, so that it need not load TensorFlow again.

    To be called once TensorFlow is imported and before anything of it has run: from then on it has
    threads, which a fork does not copy. Where forking is not safe, nothing is done, and the first
    job starts a process.
    """
    with _LOCK:
        if _WORKERS or sys.platform != "linux":
            return
        _WORKERS.append(_Worker(_Forked))


@contextlib.contextmanager
def _job(
    request: dict[str, Any],
    batches: Batches | None,
    progress: Progress | None,
    content: bytes | None = None,
) -> Any:
    """The folder of a job that is done."""
    with scratch_folder("ulsam-job-") as folder:
        names = None if batches is None else list(batches[0])
        for number, key in enumerate(names or ()):
            np.save(folder / f"{number}.npy", np.stack([batch[key] for batch in batches or ()]))
        if content is not None:
            (folder / "model.tflite").write_bytes(content)
        text = json.dumps({**request, "inputs": names})
        (folder / "request.json").write_text(text, encoding="utf-8")
        count = len(batches or ())
        with _LOCK:
            # To the end before anything is raised: an answer that nobody takes costs the process.
            reply: dict[str, Any] = {}
            for reply in _asked(folder):
                if progress and "batch" in reply:
                    progress(reply["batch"], count)
        if "no_room" in reply:
            raise unwritable(reply["no_room"])
        if "error" in reply:
            raise JobFailed(reply["error"])
        yield folder


def _asked(folder: Path) -> Any:
    """The replies to a job, from a process that lives."""
    while True:
        if _WORKERS and _WORKERS[0].owner != os.getpid():
            _WORKERS.clear()  # This process is a fork, and the worker its parent's.
        fresh = not _WORKERS
        if fresh:
            _WORKERS.append(_Worker(_Started))
        try:
            yield from _WORKERS[0].ask(folder)
            return
        except WorkerDied as error:
            _WORKERS.pop().close()
            # One that had nothing to do for long has left.
            if fresh or error.__cause__ is None:
                raise
        except BaseException:
            # Interrupted: its next reply would be to this job.
            _WORKERS.pop().close(kill=True)
            raise


class _Process(Protocol):
    """A process with the worker's two pipes."""

    requests: IO[bytes]
    replies: IO[bytes]

    def wait(self, kill: bool) -> int:
        """Its exit status once it has ended, negative for a signal."""

    def code(self) -> int | None:
        """Its exit status, `None` while it runs."""


class _Started:
    """A new interpreter."""

    def __init__(self, log: BinaryIO, lifeline: Lifeline) -> None:
        self._process = subprocess.Popen(
            # -P: the worker's folder stays out of its module path.
            [sys.executable, "-P", worker.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            pass_fds=[lifeline.end] if os.name == "posix" else [],
            start_new_session=True,  # Ctrl-C is not meant for it.
        )
        lifeline.hold(self._process.pid)
        assert self._process.stdin and self._process.stdout
        self.requests: IO[bytes] = self._process.stdin
        self.replies: IO[bytes] = self._process.stdout

    def wait(self, kill: bool) -> int:
        if kill:
            self._process.kill()
        return self._process.wait()

    def code(self) -> int | None:
        return self._process.poll()


class _Forked:
    """A copy of this process."""

    def __init__(self, log: BinaryIO, lifeline: Lifeline) -> None:
        theirs, ours = os.pipe()
        mine, answers = os.pipe()
        self._code: int | None = None
        self._pid = os.fork()
        if self._pid == 0:
            _become_worker(theirs, answers, log.fileno(), lifeline.end)
        os.close(theirs)
        os.close(answers)
        lifeline.hold(self._pid)
        self.requests: IO[bytes] = os.fdopen(ours, "wb")
        self.replies: IO[bytes] = os.fdopen(mine, "rb")

    def wait(self, kill: bool) -> int:
        if kill and self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        return self._ended(0)

    def code(self) -> int | None:
        return self._ended(os.WNOHANG)

    def _ended(self, options: int) -> Any:
        if self._code is None:
            try:
                pid, status = os.waitpid(self._pid, options)
            except ChildProcessError:  # where nobody wants to know: SIGCHLD is ignored
                pid, status = self._pid, 0
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code


def _become_worker(requests: int, replies: int, log: int, lifeline: int) -> None:
    """What a forked process does; it never returns."""
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(lifeline, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout = sys.stderr = os.fdopen(os.dup(2), "w")
        # Nothing of the parent's stays open here: no lock, no pipe whose end somebody awaits.
        keep = sorted((requests, replies))
        for low, high in zip([2, *keep], [*keep, os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(low + 1, high)
        worker.serve(os.fdopen(requests, "rb"), os.fdopen(replies, "wb"))
    finally:
        os._exit(0)


class _Worker:
    """The process, its log, and a thread that reads what it answers."""

    def __init__(self, kind: Callable[[BinaryIO, Lifeline], _Process]) -> None:
        self.owner = os.getpid()
        self._log = tempfile.TemporaryFile(prefix="ulsam-worker-")  # noqa: SIM115 - close() does
        self._lifeline = Lifeline()
        self._process = kind(self._log, self._lifeline)
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.replies:
            self._lines.put(line)
        self._lines.put(b"")

    def ask(self, folder: Path) -> Any:
        """Yields the replies, the last of which has no batch.

        Raises:
            WorkerDied: If it ended or hung; with a cause, if it had ended before.
        """
        try:
            self._process.requests.write(os.fsencode(folder) + b"\n")
            self._process.requests.flush()
        except OSError as error:
            raise WorkerDied("ended before it was asked") from error
        heard = False
        while True:
            try:
                line = self._next()
            except queue.Empty:
                self._process.wait(kill=True)
                raise WorkerDied(f"hung, and was ended after {PATIENCE:g} s") from None
            if not line:
                code = self._process.wait(kill=False)
                if code == 0 and not heard:
                    raise WorkerDied("left") from EOFError()
                raise (WorkerKilled if code == _KILLED else WorkerDied)(self._how(code))
            heard = True
            reply = json.loads(line)
            yield reply
            if "batch" not in reply:
                return

    def _next(self) -> bytes:
        """The next reply; empty if it has ended, though somebody else may hold its pipe open.

        Raises:
            queue.Empty: If there is none for long.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            ended = self._process.code() is not None
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=min(_GLANCE, PATIENCE))
            if ended:
                return b""
            if time.monotonic() > deadline:
                raise queue.Empty

    def _how(self, code: int) -> str:
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LAST_LOG))
        lines = self._log.read().decode(errors="replace").splitlines()
        said = [line for line in lines if "Check failed" in line or "Fatal" in line]
        return f"{how}: {said[-1].split('] ')[-1].strip()}" if said else how

    def close(self, kill: bool = False) -> None:
        """Ends it; a worker that has nothing to do ends by itself once it is told so."""
        with contextlib.suppress(OSError):
            self._process.requests.close()
        with contextlib.suppress(ChildProcessError):
            self._process.wait(kill)
        self._lifeline.close()
        self._log.close()


_LOCK = threading.RLock()
_WORKERS: list[_Worker] = []


@atexit.register
def _close_all() -> None:
    while _WORKERS:
        _WORKERS.pop().close(kill=True)
