"""Options that several commands have. Imports click."""

import click

from converters.cli.paths import AnyPath
from converters.cli.types import Numbers

import_option = click.option(
    "--import",
    "import_files",
    type=AnyPath(),
    multiple=True,
    metavar="FILE",
    help="A Python file, or a module, to be run first: custom layers of a .keras file, "
    "registered with keras.saving.register_keras_serializable. Repeatable.",
)
image_mean_option = click.option(
    "--image-mean",
    type=Numbers(),
    help="Taken off the pixels of images, which are scaled to 0 to 1 before; one number, or one "
    "per channel. Default: 0.",
)
image_std_option = click.option(
    "--image-std",
    type=Numbers(),
    help="What the pixels are then divided by, likewise. Default: 1.",
)
