"""`ulsam-keras doctor`."""

import json

import click

from converters.cli.guard import CHECK_FAILED, CONTEXT


@click.command(context_settings=CONTEXT, epilog="Example: ulsam-keras doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> int:
    """Say what this machine has, and the command that installs what is missing.

    Exit status 1: a package is missing that every use needs, which installing without an extra
    brings; what single uses need, a back end of Keras, an extra or a GPU, makes no difference.
    """
    from dataclasses import asdict

    from converters.doctor import examine

    parts = examine()
    if as_json:
        click.echo(json.dumps([asdict(part) for part in parts], indent=1))
    else:
        width = max(len(part.name) for part in parts)
        for part in parts:
            why = f" ({part.problem})" if part.problem else ""
            missing = "" if part.found else f"; {part.use}: {part.install}"
            click.echo(f"{part.name:{width}}  {part.found or 'missing'}{why}{missing}")
    return CHECK_FAILED if any(part.needed and not part.found for part in parts) else 0
