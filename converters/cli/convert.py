"""`ulsam-keras convert`."""

import json
import os
from dataclasses import fields
from typing import Any

import click

from converters.cli.guard import CONTEXT
from converters.cli.paths import AnyPath, Folder, ModelFile
from converters.cli.printing import progress_bar
from converters.cli.shared import image_mean_option, image_std_option
from converters.cli.types import (
    ATTENTION_FORMS,
    INFERENCE_TYPES,
    PRECISIONS,
    Precisions,
    Size,
)
from converters.cli.verification import verification_options


@click.command(
    context_settings=CONTEXT,
    epilog="Example: ulsam-keras convert digits.pth --model model.py:build --output-dir out",
)
@click.argument("source", type=ModelFile())
@click.option(
    "--output-dir",
    "-o",
    type=Folder(),
    required=True,
    help="Folder for the files; made if missing.",
)
@click.option(
    "--precision",
    type=Precisions(),
    multiple=True,
    default=["float32,float16"],
    callback=lambda ctx, param, lists: tuple(dict.fromkeys(p for some in lists for p in some)),
    help=f"Files to make, separated by commas: {', '.join(PRECISIONS)}. Default: float32,float16.",
)
@click.option(
    "--input-size",
    type=Size(),
    help="Image size, SIZE or HEIGHTxWIDTH. Default: the model's own; where it leaves that open, "
    "that of --reference, or 224; for a lone ULSAM, 14.",
)
@click.option(
    "--reference",
    type=AnyPath(),
    metavar="NPZ",
    help="What PyTorch answers, as converters.record writes it: the arrays inputs and outputs, or "
    "inputs.NAME and outputs.NAME, and, if known, labels.",
)
@click.option(
    "--model",
    type=AnyPath(),
    metavar="FILE.keras|MODULE:FUNCTION",
    help="The architecture, where the keys do not tell it. The function may be in a file, "
    "model.py:build; it takes no arguments and returns a keras.Model.",
)
@click.option(
    "--sites",
    metavar="SITES",
    help="Blocks that the ULSAM modules of a recognised network are after and in place of, where "
    "it has both: after:3,instead:12.",
)
@click.option("--entry", help="State dict to take from a checkpoint that holds several.")
@click.option("--prefix", default="", help="Module within the checkpoint, d0_ulsam for example.")
@click.option(
    "--name-map",
    type=AnyPath(),
    metavar="JSON",
    help="File with an object of Keras layer names to PyTorch module paths; null for a path leaves "
    "the layer as it is.",
)
@click.option(
    "--ignore-keys",
    metavar="PATTERN,…",
    callback=lambda ctx, param, text: tuple(text.split(",")) if text else (),
    help="Shell patterns of keys to leave out, separated by commas: 'aux.*,*.total_ops'.",
)
@click.option("--name", help="Stem of the .tflite files. Default: the source's.")
@click.option(
    "--check-with-torch",
    is_flag=True,
    help="Run a program (.pt2) in PyTorch, which must be installed, and compare with its answers.",
)
@click.option("--with-attention", is_flag=True, help="Give each attention as a further output.")
@click.option(
    "--calibration",
    type=AnyPath(),
    metavar="FOLDER|NPZ",
    help="What the ranges of int8 and int16x8 activations are taken from: a folder of images, "
    "scaled by --image-mean and --image-std, or an .npz file with the array inputs; 100 samples "
    "or more.",
)
@click.option(
    "--calibration-samples",
    type=click.IntRange(min=1),
    metavar="N",
    help="The most samples of --calibration to take, evenly over all. Default: 500 images of a "
    "folder, all of an .npz file.",
)
@image_mean_option
@image_std_option
@click.option(
    "--confirm-calibration",
    is_flag=True,
    help="Take calibration data though it looks wrong: its scale, or its range beside that of the "
    "reference.",
)
@click.option(
    "--labels",
    type=AnyPath(),
    metavar="FILE",
    help="A text file with the name of each class, one a line. It goes into the metadata of the "
    "files, where MediaPipe finds it, with --image-mean and --image-std.",
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
    help="Type of the inputs and outputs of files of integers.",
)
@verification_options
def convert(
    name_map: str | None,
    name: str | None,
    calibration: str | None,
    calibration_samples: int | None,
    image_mean: tuple[float, ...] | None,
    image_std: tuple[float, ...] | None,
    confirm_calibration: bool,
    as_json: bool,
    report_path: str | None,
    **options: Any,
) -> int:
    """Convert SOURCE, a PyTorch program, checkpoint or Keras model, to verified .tflite files.

    Reads a program (.pt2 of torch.export), which says all that is computed, or a checkpoint (.pth,
    .pt, .tar, .safetensors or .npz), whose every key is ported, without PyTorch; or takes a .keras
    file; writes model.keras, NAME_PRECISION.tflite, report.html, report.json and model_card.md, and
    compares each file, and the attention inside it, with Keras and with what PyTorch answered: run
    with and without XNNPACK, and on the GPU where there is a Vulkan driver. Exit status 0: all
    comparisons passed; 1: one failed, the files are written all the same; 2: bad input, nothing is
    written.
    """
    from converters.convert import Request
    from converters.convert import convert as run_conversion
    from converters.data.calibration import Source
    from converters.source import Porting

    if calibration is None and calibration_samples is not None:
        raise ValueError(
            "--calibration-samples counts the samples of --calibration; leave it out, or give "
            f"such data. Received: no --calibration, {calibration_samples}"
        )
    # The numbers of an .npz file are scaled already: there they are for the app alone.
    for_app = options["labels"] is not None and calibration and not os.path.isdir(calibration)
    scale = (None, None) if for_app else (image_mean, image_std)
    # The other options have the names of the fields.
    of_porting = {f.name: options.pop(f.name) for f in fields(Porting) if f.name in options}
    request = Request(
        porting=Porting(name_map=None if name_map is None else _name_map(name_map), **of_porting),
        name=_stem(name),
        calibration=None
        if calibration is None
        else Source(calibration, *scale, confirm_calibration, calibration_samples),
        image_mean=image_mean,
        image_std=image_std,
        **options,
    )
    with progress_bar() as progress:
        report = run_conversion(request, progress)
    from rich.console import Console

    from converters.report.file import write_report
    from converters.report.terminal import print_report

    if report_path is not None:
        write_report(report, report_path)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=1))
    else:
        console = Console(emoji=False)
        print_report(report, console)
        files = "model.keras, report.html, report.json, model_card.md and the files above"
        told = f"Written to {request.output_dir}: {files}."
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    return 0 if report.passed else 1


def _name_map(path: str) -> dict[str, str | None]:
    with open(path, encoding="utf-8") as file:
        try:
            names = json.load(file)
        except ValueError as error:
            raise ValueError(
                f"--name-map must be a JSON object. Received: {path!r}, {error}"
            ) from error
    if not isinstance(names, dict) or not all(
        value is None or isinstance(value, str) for value in names.values()
    ):
        raise ValueError(
            "--name-map must be a JSON object of Keras layer names to PyTorch paths, or null. "
            f"Received: {path!r}"
        )
    return names


def _stem(name: str | None) -> str | None:
    if name is not None and (not name or name != os.path.basename(name) or name in (".", "..")):
        raise ValueError(f"--name is the stem of a file name. Received: {name!r}")
    return name
