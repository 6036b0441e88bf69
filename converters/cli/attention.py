"""`ulsam-keras attention`."""

from typing import Any

import click

from converters.cli.guard import CONTEXT, quiet_tensorflow
from converters.cli.paths import AnyPath, ModelFile
from converters.cli.shared import image_mean_option, image_std_option, import_option
from converters.cli.types import Size


@click.command(
    context_settings=CONTEXT,
    epilog="Example: ulsam-keras attention out/model.keras images/ -o attention.pdf --width 3.4",
)
@click.argument("model", type=ModelFile())
@click.argument("images", type=AnyPath(), nargs=-1, required=True)
@click.option(
    "--output",
    "-o",
    type=AnyPath(),
    required=True,
    help="File of the picture, .png, .svg or .pdf.",
)
@image_mean_option
@image_std_option
@click.option(
    "--sites",
    metavar="NAME,…",
    callback=lambda ctx, param, text: tuple(text.split(",")) if text else None,
    help="Sites to draw, separated by commas. Default: all.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    help="Images to draw. Default: all that are named, and the first 4 of a folder or .npz file.",
)
@click.option(
    "--input-size", type=Size(), help="Image size where the model leaves it open. Default: 224."
)
@click.option(
    "--width",
    type=click.FloatRange(min=2, max=40),
    default=7.0,
    show_default=True,
    help="Largest width in inches: 7 for a page, 3.4 for a column of two.",
)
@click.option(
    "--scale",
    type=click.Choice(["site", "all"]),
    default="site",
    show_default=True,
    help="Whether the colours span the values of each site, or of all.",
)
@import_option
def attention(import_files: tuple[str, ...], **options: Any) -> int:
    """Draw the attention of every ULSAM in MODEL over IMAGES.

    MODEL is a .keras or .tflite file, in which the attention is read as it is, or module:function;
    IMAGES are files, a folder of them, or an .npz file with the array inputs, as the model takes
    them. The colours tell a * H * W, the attention in units of the uniform one. Needs Matplotlib,
    the extra viz.
    """
    quiet_tensorflow()
    from converters.model_source import import_sources
    from converters.pictures import Picture, draw_attention

    import_sources(import_files)
    for name, maps in draw_attention(Picture(**options)).items():
        _, height, width, groups = maps.shape
        largest = height * width * maps.max(axis=(0, 1, 2))
        told = ", ".join(f"{value:.3g}" for value in largest)
        click.echo(
            f"{name}  {height} x {width}, {groups} group{'s' * (groups > 1)}: "
            f"at most {told} times uniform"
        )
    click.echo(f"Written to {options['output']}.")
    return 0
