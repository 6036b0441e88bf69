"""What guards a run: exit statuses, signals, printing, progress and warnings.

Imports click only.
"""

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def run_command(cli: click.Command) -> None:
    """Runs the command and ends the process: every error is one line on stderr and status 2."""
    # So that what is half-written is cleared away, as on Ctrl-C.
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _terminate)
    try:
        status = cli.main(standalone_mode=False, prog_name="ulsam-keras")
    except click.exceptions.Abort:
        status = _complain("interrupted", 130)
    except click.ClickException as error:
        status = _complain(error.format_message())
    except OSError as error:
        status = _complain(_os_error(error))
    except ValueError as error:
        status = _complain(str(error))
    sys.exit(status)


def _terminate(number: int, _: object) -> None:
    sys.exit(128 + number)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Prints as far as the reader of a pipe wants; the exit status stays what it is."""
    try:
        yield
        sys.stdout.flush()
    # rich turns a closed pipe into an exit.
    except (BrokenPipeError, SystemExit):
        # What is left in the buffer would raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def quiet_tensorflow() -> None:
    """This process's own settings: the back end that converts, and no start-up chatter."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar with the stage on stderr; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda name, number, count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    # A descriptor of its own: TensorFlow's logs are held back by turning stderr away for a while.
    console = Console(file=os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8"))
    columns = (
        TextColumn("{task.description:24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("start", total=None)

        def update(name: str, number: int, count: int) -> None:
            bar.update(task, description=name, completed=number, total=count)

        yield update


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Prints what the user is warned of as lines on stderr, not what frameworks deprecate."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        click.echo(f"warning: {' '.join(str(message).split())}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def _os_error(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return f"{error.strerror}. Received: {error.filename!r}" if error.filename else error.strerror


def _complain(message: str, status: int = 2) -> int:
    click.echo(f"ulsam-keras: error: {' '.join(message.split())}", err=True)
    return status
