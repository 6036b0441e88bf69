"""`ulsam-keras verify`."""

import click

from converters.cli.guard import CONTEXT, quiet_tensorflow, reader_may_leave, warnings_as_lines
from converters.cli.types import LIMITS, PRECISIONS, Size


@click.command(
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
    quiet_tensorflow()
    from rich.console import Console

    from converters.report.terminal import print_verification
    from converters.verification import find_gpu
    from converters.verify import verify as compare

    with warnings_as_lines():
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
    with reader_may_leave():
        files = any(path.lower().endswith(".tflite") for path in (a, b))
        print_verification(found, Console(emoji=False), adapter, files)
    return 0 if found.holds else 1
