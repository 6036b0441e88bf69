"""The `ulsam-keras` command.

Imports click only; rich, NumPy and TensorFlow are loaded by the subcommands that need them.
Exit status 0: all checks held; 1: done, and a check failed; 2: bad input or usage, nothing written.
"""

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
# The choices of `converters.tflite` and `ulsam_keras`, which are too heavy to import for --help.
PRECISIONS = ("float32", "float16", "dynamic_range", "int8", "int16x8")
ATTENTION_FORMS = ("log_softmax", "softmax", "float")
INFERENCE_TYPES = ("float32", "int8", "uint8")
# The fields of `converters.verification.Tolerances`, which is too heavy to import for --help.
LIMITS = {
    "reference": "1e-4",
    "float32": "1e-4",
    "float16": "5e-3",
    "dynamic_range": "5e-2",
    "gpu_float16": "2e-2",
    "attention_float32": "1e-3",
    "attention_float16": "5e-2",
    "attention_dynamic_range": "2e-1",
    "attention_gpu_float16": "1e-1",
    "int8": "2e-1",
    "int16x8": "1e-1",
    "attention_snr": "10",
    "top1": "0.99",
    "top1_int8": "0.95",
}


def main() -> None:
    """Runs the command; every error is one line on stderr and exit status 2."""
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


@click.group(
    context_settings=CONTEXT,
    epilog="Example: ulsam-keras convert model.pth --output-dir out",
)
@click.version_option(package_name="ulsam-keras")
def cli() -> None:
    """From PyTorch checkpoints with ULSAM to verified LiteRT (.tflite) models."""


class Size(click.ParamType):
    """An image size: `224`, or height and width, `224x192`."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Height and width out of the option's text."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(p.isascii() and p.isdigit() and int(p) > 0 for p in parts):
            self.fail(f"give SIZE or HEIGHTxWIDTH, at least 1. Received: {value}", param, ctx)
        return int(parts[0]), int(parts[-1])


class Precisions(click.ParamType):
    """Names of precisions, separated by commas."""

    name = "precisions"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The precisions, each once, in the order given."""
        names = value if isinstance(value, tuple) else tuple(str(value).split(","))
        unknown = [name for name in names if name not in PRECISIONS]
        if unknown:
            known = ", ".join(PRECISIONS)
            self.fail(f"give one or more of {known}. Received: {', '.join(unknown)}", param, ctx)
        return tuple(dict.fromkeys(names))


class Numbers(click.ParamType):
    """Numbers separated by commas."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers, in the order given."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"give a number, or one per channel, 0.5,0.5,0.5. Received: {value}")


class Limits(click.ParamType):
    """One limit, `NAME=VALUE`."""

    name = "limit"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Name and value of the limit."""
        if isinstance(value, tuple):
            return value
        name, _, text = str(value).partition("=")
        name = name.strip().replace("-", "_")
        try:
            limit = float(text)
        except ValueError:
            limit = -1.0
        if name not in LIMITS or not 0 <= limit < float("inf"):
            self.fail(
                f"give NAME=VALUE, NAME one of {', '.join(LIMITS)}, VALUE at least 0. "
                f"Received: {value}",
                param,
                ctx,
            )
        return name, limit


@cli.command(
    context_settings=CONTEXT,
    epilog="Example: ulsam-keras convert digits.pth --model model.py:build --output-dir out",
)
@click.argument("checkpoint")
@click.option("--output-dir", "-o", required=True, help="Folder for the files; made if missing.")
@click.option(
    "--precision",
    type=Precisions(),
    default="float32,float16",
    show_default=True,
    help=f"Files to make, separated by commas: {', '.join(PRECISIONS)}.",
)
@click.option(
    "--input-size",
    type=Size(),
    help="Image size, SIZE or HEIGHTxWIDTH. Default: the model's own; where it leaves that open, "
    "224; for a lone ULSAM, 14.",
)
@click.option(
    "--reference",
    metavar="NPZ",
    help="Recording to compare with: arrays inputs, outputs and, if known, labels.",
)
@click.option(
    "--model",
    metavar="FILE.keras|MODULE:FUNCTION",
    help="The architecture, where the keys do not tell it. The function may be in a file, "
    "model.py:build; it takes no arguments and returns a keras.Model.",
)
@click.option(
    "--sites",
    metavar="SITES",
    help="Blocks that the ULSAM modules of a recognised network are after and in place of, where "
    "the keys leave that open: after:3,instead:12.",
)
@click.option("--entry", help="State dict to take from a checkpoint that holds several.")
@click.option("--prefix", default="", help="Module within the checkpoint, d0_ulsam for example.")
@click.option(
    "--name-map",
    metavar="JSON",
    help="File with an object of Keras layer names to PyTorch module paths.",
)
@click.option("--name", help="Stem of the .tflite files. Default: the checkpoint's.")
@click.option("--with-attention", is_flag=True, help="Give each attention as a further output.")
@click.option(
    "--calibration",
    metavar="FOLDER|NPZ",
    help="What the ranges of int8 and int16x8 activations are taken from: a folder of images, or "
    "an .npz file with the array inputs; 100 samples or more.",
)
@click.option(
    "--image-mean",
    type=Numbers(),
    default="0",
    show_default=True,
    help="Taken off the pixels of --calibration images, which are scaled to 0 to 1 before; one "
    "number, or one per channel.",
)
@click.option(
    "--image-std",
    type=Numbers(),
    default="1",
    show_default=True,
    help="What the pixels are then divided by, likewise.",
)
@click.option(
    "--attention",
    type=click.Choice(ATTENTION_FORMS),
    help="How the softmax of ULSAM is computed in int8. Default: log_softmax. See docs/int8.md.",
)
@click.option(
    "--inference-type",
    type=click.Choice(INFERENCE_TYPES),
    default="float32",
    show_default=True,
    help="Type of the inputs and outputs of the int8 file.",
)
@click.option("--require-gpu", is_flag=True, help="Make it an error that no GPU is there.")
@click.option(
    "--tolerance",
    "tolerances",
    type=Limits(),
    multiple=True,
    metavar="NAME=VALUE",
    help="Largest relative difference that holds, or, for top1 and top1_int8, smallest share "
    "of equal top-1 classes on recorded inputs, or, for attention_snr, smallest signal-to-noise "
    "ratio of the attention in int8 and int16x8, in dB; repeatable. Defaults: "
    f"{', '.join(map('='.join, LIMITS.items()))}.",
)
def convert(
    checkpoint: str,
    output_dir: str,
    precision: tuple[str, ...],
    input_size: tuple[int, int] | None,
    reference: str | None,
    model: str | None,
    sites: str | None,
    entry: str | None,
    prefix: str,
    name_map: str | None,
    name: str | None,
    with_attention: bool,
    calibration: str | None,
    image_mean: tuple[float, ...],
    image_std: tuple[float, ...],
    attention: str | None,
    inference_type: str,
    require_gpu: bool,
    tolerances: tuple[tuple[str, float], ...],
) -> int:
    """Convert a PyTorch CHECKPOINT to a Keras model and verified .tflite files.

    Reads CHECKPOINT (.pth, .pt, .tar, .safetensors or .npz) without PyTorch, ports every key,
    writes model.keras, NAME_PRECISION.tflite and report.json, and compares each file, and the
    attention inside it, with Keras and with the recording: run with and without XNNPACK, and on the
    GPU where there is a Vulkan driver. Differences are relative to the largest
    absolute value of the reference. Exit status 0: all comparisons hold; 1: one fails, the files
    are written all the same; 2: bad input, nothing is written.
    """
    _quiet_tensorflow()
    from converters.convert import Request
    from converters.convert import convert as run_conversion
    from converters.verification import Tolerances

    request = Request(
        checkpoint=checkpoint,
        output_dir=output_dir,
        precisions=precision,
        input_size=input_size,
        reference=reference,
        model=model,
        sites=sites,
        prefix=prefix,
        entry=entry,
        name_map=None if name_map is None else _name_map(name_map),
        name=_stem(name),
        with_attention=with_attention,
        calibration=calibration,
        image_mean=image_mean,
        image_std=image_std,
        attention_form=attention,
        inference_type=inference_type,
        require_gpu=require_gpu,
        tolerances=Tolerances(**dict(tolerances)),
    )
    with _progress() as progress:
        report = run_conversion(request, progress)
    from rich.console import Console

    from converters.report.terminal import print_report

    with _reader_may_leave():
        console = Console(emoji=False)
        print_report(report, console)
        written = f"Written to {output_dir}: model.keras, report.json and the files above."
        console.print(written, markup=False, highlight=False)
    return 0 if report.holds else 1


@cli.command(context_settings=CONTEXT, epilog="Example: ulsam-keras inspect model.pth")
@click.argument("checkpoint")
@click.option("--entry", help="State dict to list of a checkpoint that holds several.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(checkpoint: str, entry: str | None, as_json: bool) -> int:
    """List the tensors of a CHECKPOINT, without reading them, and what network they are of."""
    from converters.checkpoint import list_tensors
    from converters.pytorch import find_ulsam
    from converters.pytorch.layouts import recognise

    with _warnings_as_lines():
        tensors = list_tensors(checkpoint, entry=entry)
    sites = find_ulsam(tensors)
    try:
        found = recognise(tensors)
        network = found.description if found else None
    except ValueError as error:
        # What does not fit is what the reader of the list wants to know.
        network = " ".join(str(error).split())
    total = sum(_size(t.shape) for t in tensors)
    if as_json:
        document = {
            "tensors": [
                {"name": t.name, "shape": list(t.shape), "dtype": str(t.dtype)} for t in tensors
            ],
            "ulsam": [
                {"prefix": s.prefix, "channels": s.channels, "num_splits": s.num_splits}
                for s in sites
            ],
            "values": total,
            "network": network,
        }
        click.echo(json.dumps(document, indent=1))
        return 0
    width = max((len(t.name) for t in tensors), default=0)
    for t in tensors:
        click.echo(f"{t.name:{width}}  {t.dtype!s:9} {'x'.join(map(str, t.shape)) or 'scalar'}")
    click.echo(f"{len(tensors)} tensors, {total:,} values")
    for s in sites:
        place = repr(s.prefix) if s.prefix else "the root"
        click.echo(f"ULSAM at {place}: {s.channels} channels, {s.num_splits} splits")
    if not sites:
        click.echo("no ULSAM module")
    if network:
        click.echo(f"network: {network}")
    return 0


@cli.command(
    context_settings=CONTEXT,
    epilog="Example: ulsam-keras verify out/model_float32.tflite out/model.keras",
)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--input-size",
    type=Size(),
    default="224",
    show_default=True,
    help="Image size where neither model fixes it.",
)
@click.option(
    "--inputs",
    metavar="NPZ",
    help="What two models are given: the array inputs, or one for each input by its name. "
    "Default: random numbers in the range of the inputs.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    metavar="NUMBER",
    help="Largest difference of an output, relative to B's largest absolute value. Default: that "
    "of the coarser of A and B: "
    f"{', '.join(f'{LIMITS[name]} for {name}' for name in PRECISIONS)}.",
)
@click.option(
    "--attention-tolerance",
    type=click.FloatRange(min=0),
    metavar="NUMBER",
    help="Largest difference of an attention, likewise. Default: "
    f"{', '.join(LIMITS['attention_' + name] + ' for ' + name for name in PRECISIONS[:3])}.",
)
@click.option(
    "--attention-snr",
    type=click.FloatRange(min=0),
    metavar="NUMBER",
    default=float(LIMITS["attention_snr"]),
    show_default=True,
    help="Smallest signal-to-noise ratio of an attention in int8 or int16x8, in dB.",
)
@click.option(
    "--min-top1",
    type=click.FloatRange(0, 1),
    metavar="NUMBER",
    help="Smallest share of equal top-1 classes on recorded inputs. Default: "
    f"{LIMITS['top1']}, {LIMITS['top1_int8']} for int8.",
)
@click.option("--require-gpu", is_flag=True, help="Make it an error that no GPU can run it.")
def verify(
    a: str,
    b: str,
    input_size: tuple[int, int],
    inputs: str | None,
    tolerance: float | None,
    attention_tolerance: float | None,
    attention_snr: float,
    min_top1: float | None,
    require_gpu: bool,
) -> int:
    """Compare A with B: two models, or a model and recorded inputs and outputs.

    Each is a .keras or .tflite file, module:function, or an .npz recording with the arrays inputs
    and outputs. A .tflite file runs with and without XNNPACK, and on the GPU, in float32, where
    there is a Vulkan driver. Of two models the attention of every ULSAM is compared too, as the
    residual hides it. Exit status 0: all comparisons hold; 1: one fails; 2: bad input.
    """
    _quiet_tensorflow()
    from rich.console import Console

    from converters.report.terminal import print_verification
    from converters.verification import find_gpu
    from converters.verify import verify as compare

    with _warnings_as_lines():
        adapter = find_gpu(require_gpu)
        found = compare(
            a,
            b,
            tolerance=tolerance,
            attention_tolerance=attention_tolerance,
            attention_snr=attention_snr,
            top1=min_top1,
            input_size=input_size,
            inputs=inputs,
            gpu=bool(adapter),
            require_gpu=require_gpu,
        )
    with _reader_may_leave():
        files = any(path.lower().endswith(".tflite") for path in (a, b))
        print_verification(found, Console(emoji=False), adapter, files)
    return 0 if found.holds else 1


@cli.command(context_settings=CONTEXT, epilog="Example: ulsam-keras lint model.tflite")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def lint(file: str, as_json: bool) -> int:
    """Check a .tflite FILE for what phones refuse or compute wrongly, without running it.

    Exit status 0: nothing found; 1: something found; 2: bad input. The reason codes are listed in
    docs/lint.md. That a file passes does not mean that a GPU runs it: run it with verify.
    """
    from dataclasses import asdict

    from converters.tflite import lint as check

    findings = check(file)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            click.echo(f"{finding.code} ({finding.severity}) at {finding.where}")
            click.echo(f"  {finding.symptom} {finding.meaning} {finding.advice}")
        plural = "s" if len(findings) > 1 else ""
        click.echo(f"{len(findings)} finding{plural}" if findings else "nothing found")
    return 1 if findings else 0


@cli.command(context_settings=CONTEXT, epilog="Example: ulsam-keras doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> int:
    """Say what this machine has, and the command that installs what is missing."""
    from dataclasses import asdict

    from converters.doctor import examine

    parts = examine()
    if as_json:
        click.echo(json.dumps([asdict(part) for part in parts], indent=1))
        return 0
    width = max(len(part.name) for part in parts)
    for part in parts:
        state = part.found or f"missing; {part.use}: {part.install}"
        click.echo(f"{part.name:{width}}  {state}")
    return 0


def _terminate(number: int, _: object) -> None:
    sys.exit(128 + number)


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Prints as far as the reader of a pipe wants; the exit status stays what it is."""
    try:
        yield
        sys.stdout.flush()
    # rich turns a closed pipe into an exit.
    except (BrokenPipeError, SystemExit):
        # What is left in the buffer would raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _quiet_tensorflow() -> None:
    """This process's own settings: the back end that converts, and no start-up chatter."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
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
def _warnings_as_lines() -> Iterator[None]:
    def show(message: Warning | str, *_: object, **__: object) -> None:
        click.echo(f"warning: {' '.join(str(message).split())}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def _name_map(path: str) -> dict[str, str]:
    with open(path, encoding="utf-8") as file:
        try:
            names = json.load(file)
        except ValueError as error:
            raise ValueError(
                f"--name-map must be a JSON object. Received: {path!r}, {error}"
            ) from error
    if not isinstance(names, dict) or not all(isinstance(v, str) for v in names.values()):
        raise ValueError(
            "--name-map must be a JSON object of Keras layer names to PyTorch module paths. "
            f"Received: {path!r}"
        )
    return names


def _stem(name: str | None) -> str | None:
    if name is not None and (not name or name != os.path.basename(name) or name in (".", "..")):
        raise ValueError(f"--name is the stem of a file name. Received: {name!r}")
    return name


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for dimension in shape:
        size *= dimension
    return size


def _os_error(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return f"{error.strerror}. Received: {error.filename!r}" if error.filename else error.strerror


def _complain(message: str, status: int = 2) -> int:
    click.echo(f"ulsam-keras: error: {' '.join(message.split())}", err=True)
    return status
