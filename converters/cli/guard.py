"""What guards a run: exit statuses, signals, and errors as one line.

Imports click, and `extras`, which needs the standard library only.
"""

import gc
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import click

from converters.cli.printing import careful_streams, stderr_line
from converters.cli.signals import Ended, signals_end_the_run
from converters.cli.words import in_options
from converters.extras import EXTRAS, require, told

AnyCommand = TypeVar("AnyCommand", bound=click.Command)
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
CHECK_FAILED, BAD_INPUT, UNEXPECTED = 1, 2, 3


@dataclass
class Settings:
    """What holds for the whole run: `obj` of click's context.

    Attributes:
        debug: Whether an error's traceback is printed.
    """

    debug: bool = False


def run_command(cli: click.Command) -> None:
    """Runs the command and ends the process, with the exit status that `converters.cli` names."""
    came: Sequence[int] = ()
    with careful_streams():
        try:
            with signals_end_the_run() as came, _warnings_as_lines():
                status = _status(cli, came)
        except Ended as end:  # came after all was done and told
            came, status = (end.number,), 128 + end.number
    if came:
        # Native code that was interrupted in its import, TensorFlow's for one, aborts at the end.
        os._exit(status)
    gc.freeze()  # or all that frameworks hold is searched for garbage before it is given back
    sys.exit(status)


def _status(cli: click.Command, came: Sequence[int]) -> int:
    """Runs it; `came` has the signals that have come meanwhile."""
    settings = Settings()
    try:
        # An exit that click itself asks for, as after --help, is returned.
        return int(cli.main(standalone_mode=False, prog_name="ulsam-keras", obj=settings) or 0)
    except (Exception, KeyboardInterrupt, Ended) as error:
        # A signal that comes up in the code of others may be made into anything.
        return _end_with(Ended(came[0]) if came else error, settings)


def _end_with(error: BaseException, settings: Settings) -> int:
    """Prints an error as a line; gives the exit status."""
    match error:
        case Ended(number=signal.SIGINT) | KeyboardInterrupt() | click.exceptions.Abort():
            return _complain("interrupted", 128 + signal.SIGINT)
        case Ended():
            return _complain(f"ended by {signal.Signals(error.number).name}", 128 + error.number)
        case click.ClickException():
            return _complain(error.format_message(), BAD_INPUT)
        case OSError():
            return _complain(_os_error(error), BAD_INPUT, settings)
        case ValueError():
            return _complain(in_options(str(error)), BAD_INPUT, settings)
        case ImportError():
            if (message := told(error)) is not None:
                return _complain(message, BAD_INPUT, settings)
            return _complain(
                f"{error}. `ulsam-keras doctor` says what is missing", UNEXPECTED, settings
            )
    words = f"{type(error).__name__}: {error}".rstrip(": ")
    return _complain(
        f"unexpected, {words[:500]}; --debug shows where it comes from", UNEXPECTED, settings
    )


def debug_option(command: AnyCommand) -> AnyCommand:
    """Adds `--debug`, which is taken before and after the name of the subcommand."""

    def debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.ensure_object(Settings).debug |= value

    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=debug,
        help="Print the traceback of an error.",
    )(command)


def quiet_tensorflow() -> None:
    """This process's own settings: the back end that converts, and no start-up chatter.

    What is temporary goes into a folder of its own until the command is done.

    Raises:
        ImportError: If the extra is not installed that converts.
        OSError: If there is no folder for what is temporary.
    """
    from converters.cli.temporary import temporary_folder

    context = click.get_current_context()
    require(f"`{context.command_path}`", *EXTRAS["convert"].packages)
    context.with_resource(temporary_folder())
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Prints what the user is warned of as lines on stderr, not what frameworks deprecate."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        stderr_line(f"warning: {in_options(str(message))}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def _os_error(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    if not error.filename:
        return error.strerror
    told = ", " if "Received: " in error.strerror else ". Received: "
    return f"{error.strerror}{told}{error.filename!r}"


def _complain(message: str, status: int, settings: Settings | None = None) -> int:
    if settings is not None and settings.debug:
        with suppress(Exception):  # printing it may need what has run out
            stderr_line(traceback.format_exc().rstrip(), fold=False)
    stderr_line(f"ulsam-keras: error: {message}")
    return status
