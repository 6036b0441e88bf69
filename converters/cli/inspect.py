"""`ulsam-keras inspect`."""

import json
import math

import click

from converters.cli.guard import CONTEXT, warnings_as_lines


@click.command(context_settings=CONTEXT, epilog="Example: ulsam-keras inspect model.pth")
@click.argument("checkpoint")
@click.option("--entry", help="State dict to list of a checkpoint that holds several.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(checkpoint: str, entry: str | None, as_json: bool) -> int:
    """List the tensors of a CHECKPOINT, without reading them, and what network they are of."""
    from converters.checkpoint import list_tensors
    from converters.pytorch import find_ulsam
    from converters.pytorch.layouts import recognise

    with warnings_as_lines():
        tensors = list_tensors(checkpoint, entry=entry)
    sites = find_ulsam(tensors)
    try:
        found = recognise(tensors)
        network = found.description if found else None
    except ValueError as error:
        # What does not fit is what the reader of the list wants to know.
        network = " ".join(str(error).split())
    total = sum(math.prod(t.shape) for t in tensors)
    if as_json:
        document = {
            "tensors": [
                {"name": t.name, "shape": list(t.shape), "dtype": str(t.dtype)} for t in tensors
            ],
            "ulsam": [
                {"prefix": s.prefix, "channels": s.channels, "num_splits": s.num_splits}
                for s in sites
            ],
            "values": total,
            "network": network,
        }
        click.echo(json.dumps(document, indent=1))
        return 0
    width = max((len(t.name) for t in tensors), default=0)
    for t in tensors:
        click.echo(f"{t.name:{width}}  {t.dtype!s:9} {'x'.join(map(str, t.shape)) or 'scalar'}")
    click.echo(f"{len(tensors)} tensors, {total:,} values")
    for s in sites:
        place = repr(s.prefix) if s.prefix else "the root"
        click.echo(f"ULSAM at {place}: {s.channels} channels, {s.num_splits} splits")
    if not sites:
        click.echo("no ULSAM module")
    if network:
        click.echo(f"network: {network}")
    return 0
