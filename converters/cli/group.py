"""The group of subcommands."""

import click

from converters.cli.convert import convert
from converters.cli.doctor import doctor
from converters.cli.guard import CONTEXT, run_command
from converters.cli.inspect import inspect
from converters.cli.lint import lint
from converters.cli.verify import verify


def main() -> None:
    """Runs the command; every error is one line on stderr and exit status 2."""
    run_command(cli)


@click.group(
    context_settings=CONTEXT,
    epilog="Example: ulsam-keras convert model.pth --output-dir out",
)
@click.version_option(package_name="ulsam-keras")
def cli() -> None:
    """From PyTorch checkpoints with ULSAM to verified LiteRT (.tflite) models."""


for command in (convert, inspect, verify, lint, doctor):
    cli.add_command(command)
