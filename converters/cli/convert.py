"""`ulsam-keras convert`."""

import json
import os

import click

from converters.cli.guard import CONTEXT, progress_bar, quiet_tensorflow, reader_may_leave
from converters.cli.types import (
    ATTENTION_FORMS,
    INFERENCE_TYPES,
    LIMITS,
    PRECISIONS,
    Limits,
    Numbers,
    Precisions,
    Size,
)


@click.command(
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
    quiet_tensorflow()
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
    with progress_bar() as progress:
        report = run_conversion(request, progress)
    from rich.console import Console

    from converters.report.terminal import print_report

    with reader_may_leave():
        console = Console(emoji=False)
        print_report(report, console)
        written = f"Written to {output_dir}: model.keras, report.json and the files above."
        console.print(written, markup=False, highlight=False)
    return 0 if report.holds else 1


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
