"""`ulsam-keras doctor`."""

import json

import click

from converters.cli.guard import CONTEXT


@click.command(context_settings=CONTEXT, epilog="Example: ulsam-keras doctor")
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
