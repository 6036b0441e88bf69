"""`ulsam-keras verify`."""

import json
from typing import TYPE_CHECKING

import click

from converters.cli.guard import CONTEXT
from converters.cli.paths import AnyPath, ModelFile
from converters.cli.types import Size
from converters.cli.verification import verification_options

if TYPE_CHECKING:
    from converters.verify.compare import Judge
    from converters.verify.targets import Runner


@click.command(
    context_settings=CONTEXT,
    epilog="Example: ulsam-keras verify out/model_float32.tflite out/model.keras",
)
@click.argument("a", metavar="A", type=ModelFile())
@click.argument("b", metavar="B", type=ModelFile())
@click.option(
    "--input-size", type=Size(), help="Image size where neither model fixes it. Default: 224."
)
@click.option(
    "--inputs",
    type=AnyPath(),
    metavar="NPZ",
    help="What two models are given: the array inputs, or inputs.NAME for each input. Of a "
    "reference with layers the report shows the attention too. Default: random numbers in the "
    "range of the inputs.",
)
@verification_options
def verify(
    a: str,
    b: str,
    input_size: tuple[int, int] | None,
    inputs: str | None,
    judge: "Judge",
    runner: "Runner",
    gpu: bool,
    require_gpu: bool,
    import_files: tuple[str, ...],
    as_json: bool,
    report_path: str | None,
) -> int:
    """Compare A with B: two models, or a model and a reference.

    Each is a .keras or .tflite file, module:function, or an .npz reference with the arrays inputs
    and outputs. A .tflite file runs with and without XNNPACK, and on the GPU, in float32, where
    there is a Vulkan driver. Of two models the attention of every ULSAM is compared too, as the
    residual hides it. The coarser of A and B is judged by the finer, a model by a reference; limits
    that are not given are those of the coarser. Exit status 0: all comparisons passed; 1: one
    failed, or a runtime could not run a file; 2: bad input.
    """
    from rich.console import Console

    from converters.model_source import import_sources
    from converters.report.document import Compared
    from converters.report.file import write_report
    from converters.report.terminal import print_comparison
    from converters.verify.compare import verify as compare
    from converters.verify.targets import find_targets

    import_sources(import_files)
    targets, adapter = find_targets(gpu or require_gpu, require_gpu, float16=False)
    found = compare(
        a,
        b,
        judge=judge,
        input_size=input_size,
        inputs=inputs,
        targets=targets,
        runner=runner,
        require_gpu=require_gpu,
    )
    compared = Compared(found, adapter, runner.threads)
    if report_path is not None:
        write_report(compared, report_path)
    if as_json:
        click.echo(json.dumps(compared.to_dict(), indent=1))
    else:
        print_comparison(found, adapter, Console(emoji=False))
    return 0 if found.passed else 1
