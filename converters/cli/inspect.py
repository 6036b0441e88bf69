"""`ulsam-keras inspect`."""

import json
import math
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import click

from converters.cli.guard import CONTEXT
from converters.cli.paths import ModelFile
from converters.cli.printing import stdout_line
from converters.cli.words import in_options

if TYPE_CHECKING:
    from converters.inspection import Inspection


@click.command(context_settings=CONTEXT, epilog="Example: ulsam-keras inspect model.pth")
@click.argument("file", type=ModelFile())
@click.option("--entry", help="State dict to list of a checkpoint that holds several.")
@click.option("--summary", is_flag=True, help="Fold modules that are alike into one line.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(file: str, entry: str | None, summary: bool, as_json: bool) -> int:
    """Say what is in a FILE, without running it.

    Of a checkpoint, its tensors and what network they are of; of a program (.pt2), its operators,
    and which of them are refused; of a .tflite or .keras file, its inputs, outputs, operators or
    layers, and metadata; of all, the ULSAM modules.
    """
    from converters.inspection import Inspection, inspect_program
    from converters.inspection import inspect as look

    program = inspect_program(file)
    if program is not None and entry is not None:
        raise ValueError(f"`entry` is for checkpoints; leave it out. Received: {file!r}")
    found = look(file, entry=entry) if program is None else program
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=1))
        return 0
    for line in _lines(found, summary) if isinstance(found, Inspection) else found.lines():
        stdout_line(line)
    return 0


def _lines(found: "Inspection", summary: bool) -> Iterator[str]:
    if summary:
        yield from _folded(found)
    else:
        width = max((len(tensor.name) for tensor in found.tensors), default=0)
        for t in found.tensors:
            yield f"{t.name:{width}}  {t.dtype:9} {_shape(t.shape)}"
    for what, ends in (("input", found.inputs), ("output", found.outputs)):
        for end in ends:
            yield f"{what} {end.name}: {end}"
    if found.operators:
        what = "operators" if found.kind == "tflite" else "layers"
        told = ", ".join(f"{name} {count}" for name, count in found.operators.items())
        yield f"{sum(found.operators.values())} {what}: {told}"
    if found.tensors:
        yield f"{len(found.tensors)} tensors, {found.values:,} values"
    for site in found.ulsam:
        place = repr(site.name) if site.name else "the root"
        channels = "" if site.channels is None else f"{site.channels} channels, "
        yield f"ULSAM at {place}: {channels}{site.num_splits} splits"
    if not found.ulsam:
        yield "no ULSAM module"
    if found.metadata:
        yield f"metadata: {', '.join(found.metadata)}"
    if found.app is not None:
        mean, std = (", ".join(f"{v:.6g}" for v in vs) for vs in (found.app.mean, found.app.std))
        yield f"for an app: pixels of 0 to 1, less {mean}, by {std}"
        if found.app.labels:
            yield f"{len(found.app.labels)} labels: {', '.join(found.app.labels)}"
    if found.kind != "checkpoint":
        yield f"{found.size:,} bytes"
    if found.network:
        yield f"{'network' if found.kind == 'checkpoint' else 'model'}: {in_options(found.network)}"


def _folded(found: "Inspection") -> Iterator[str]:
    from converters.inspection import fold

    modules = fold(found.tensors)
    rows = [
        (
            module.path or "the root",
            "; ".join(
                f"{', '.join(name for name, _ in alike)} {_shape(shape)}"
                for shape, alike in groupby(module.tensors, key=lambda tensor: tensor[1])
            ),
            module.count * sum(math.prod(shape) for _, shape in module.tensors),
        )
        for module in modules
    ]
    width = max((len(path) for path, *_ in rows), default=0)
    for path, shapes, values in rows:
        yield f"{path:{width}}  {values:>10,}  {shapes}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
