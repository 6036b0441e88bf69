"""The group of subcommands."""

import click

from converters.cli.attention import attention
from converters.cli.convert import convert
from converters.cli.doctor import doctor
from converters.cli.guard import BAD_INPUT, CONTEXT, debug_option
from converters.cli.inspect import inspect
from converters.cli.lint import lint
from converters.cli.verify import verify


@debug_option
@click.group(
    context_settings=CONTEXT,
    invoke_without_command=True,
    epilog="Example: ulsam-keras convert model.pth --output-dir out",
)
@click.version_option(package_name="ulsam-keras")
@click.pass_context
def cli(ctx: click.Context) -> int:
    """From PyTorch programs and checkpoints to verified LiteRT (.tflite) models."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return BAD_INPUT
    return 0


for command in (convert, inspect, verify, lint, attention, doctor):
    # The first paragraph whole: click would cut it at the width of the terminal.
    command.short_help = " ".join((command.help or "").split("\n\n")[0].split())
    cli.add_command(debug_option(command))
