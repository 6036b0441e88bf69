"""From a program to a Keras model and the account of it.

Imports NumPy, and Keras and `ulsam_keras` inside functions.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from converters.program import Dimension, End, Node, Program, at_example_sizes, read_program
from converters.pytorch.graph import (  # noqa: F401, the tables register their operators
    activation,
    attention,
    constants,
    convolution,
    elementwise,
    normalization,
    pooling,
    positions,
    recurrent,
    reduction,
    resizing,
    sampling,
    shaping,
    slicing,
)
from converters.pytorch.graph.arrange import CHANNELS_LAST
from converters.pytorch.graph.call import Number
from converters.pytorch.graph.emitter import Emitter, end_record
from converters.pytorch.graph.layout import BatchError, Value, flat
from converters.pytorch.graph.refusals import refused
from converters.pytorch.graph.registry import base_name, handler
from converters.pytorch.graph.report import (
    EndRecord,
    PortedWeight,
    ProgramReport,
    WeightRecord,
)
from converters.pytorch.graph.ulsam import UlsamCall, find_ulsam_calls
from converters.pytorch.graph.uses import live

_HALF = ("float16", "bfloat16")


def to_keras(path: str | os.PathLike[str]) -> tuple[Any, ProgramReport]:
    """Makes a Keras model of a program that `torch.export.save` wrote.

    Layers are named after the modules of the program. Maps are channels last: an input or output
    of rank 4 is (N, H, W, C) where PyTorch has (N, C, H, W); the report says the order of each. A
    single output is a tensor, several are a dictionary by their names. ULSAM becomes
    `ulsam_keras.ULSAM`; else there are stock layers and operations only, so that
    `keras.saving.load_model` reads the saved model without this package.

    Args:
        path: The `.pt2`. PyTorch is not needed, and nothing in the file is executed.

    Returns:
        The functional `keras.Model`, in float32, and the report.

    Raises:
        ImportError: If Keras has no back end.
        OSError: If the file cannot be read.
        ValueError: If it is no such program; if it has operators that are not known, all of which
            the message names; or if one of its nodes cannot be converted.

    Example:
    >>> model, report = to_keras("network.pt2")
    >>> print(report.summary())
    >>> model.save("network.keras")
    """
    import ulsam_keras  # noqa: F401  which says what to install where Keras has no back end

    return convert_program(read_program(path))


def unconvertible(program: Program) -> dict[str, int]:
    """How often a program calls operators that are not known, by their names."""
    needed = live(program)
    covered = {name for call in find_ulsam_calls(program)[0] for name in call.nodes}
    return dict(
        Counter(
            node.target
            for node in program.nodes
            if node.name in needed - covered and handler(node.target) is None
        )
    )


def convert_program(program: Program) -> tuple[Any, ProgramReport]:
    """As `to_keras`, of a program that was read."""
    calls, _ = find_ulsam_calls(program)
    _check_known(program, {name for call in calls for name in call.nodes})
    try:
        return _converted(program)
    except ValueError as error:
        # Keras takes no map apart again whose height and width are both open.
        program, shapes = at_example_sizes(program)
        if not shapes:
            raise
        reason = str(error)
    model, report = _converted(program)
    told = ", ".join(f"{name} of {_text(shape)}" for name, shape in shapes.items())
    warning = f"its open sizes are fixed at those of its example inputs, {told}: {reason}"
    return model, replace(report, warnings=(warning, *report.warnings))


def _text(shape: Sequence[Dimension]) -> str:
    return f"({', '.join('N' if isinstance(size, str) else str(size) for size in shape)})"


def _converted(program: Program) -> tuple[Any, ProgramReport]:
    calls, near = find_ulsam_calls(program)
    reserved: set[str] = set()
    while True:
        emitter = Emitter(program, frozenset(reserved))
        inputs = [emitter.input(end, _input_order(emitter, end)) for end in _inputs(program)]
        emitter.run(_ulsam_steps(emitter, calls))
        outputs, records_out, warnings = _outputs(emitter)
        try:
            model = _model(program, inputs, outputs)
            break
        except ValueError as error:
            # Keras names operations by itself; a module of the program may be called just so.
            taken = re.search(r'The name "(.+?)" is used', str(error))
            if taken is None or taken[1] in reserved:
                raise
            reserved.add(taken[1])
    layers = {layer.name for layer in model.layers}
    weights = tuple(_weight_records(emitter))
    report = ProgramReport(
        weights=weights,
        nodes=tuple(emitter.nodes),
        inputs=tuple(emitter.inputs),
        outputs=tuple(records_out),
        transposes=tuple(emitter.transposes),
        ulsam=tuple(name for name in dict.fromkeys(emitter.ulsam) if name in layers),
        warnings=(
            *warnings,
            # With more differences it is another block that happens to have the same steps.
            *(
                f"{miss.module or 'the program'} is {miss}"
                for miss in near
                if miss.difference.count(";") < 3
            ),
            *_warnings(emitter, weights),
        ),
    )
    return model, report


def _inputs(program: Program) -> list[End]:
    return [e for e in program.inputs if isinstance(e.value, str) and e.value in program.values]


def _model(program: Program, inputs: Sequence[Any], outputs: dict[str, Any]) -> Any:
    import keras

    if not outputs:
        raise ValueError(
            f"No output of the program depends on an input. Received: {program.name!r}"
        )
    first = next(iter(outputs))
    return keras.Model(
        inputs[0] if len(inputs) == 1 else {tensor.name: tensor for tensor in inputs},
        outputs[first] if len(outputs) == 1 and _plain(first) else outputs,
        name=re.sub(r"[^A-Za-z0-9_.\-]", "_", program.name).strip("_.-") or "program",
    )


def _plain(name: str) -> bool:
    return re.fullmatch(r"output(_\d+)?", name) is not None


def _check_known(program: Program, covered: set[str]) -> None:
    needed = live(program)
    unknown: dict[str, list[Node]] = {}
    for node in program.nodes:
        if node.name in needed - covered and handler(node.target) is None:
            unknown.setdefault(node.target, []).append(node)
    if not unknown:
        return
    reasons: dict[str, list[str]] = {}
    for target in unknown:
        reasons.setdefault(refused(target), []).append(base_name(target))
    others = reasons.pop("", [])
    listed = "; ".join(
        f"{target} (node {nodes[0].name!r} in module {nodes[0].module!r}, {_times(len(nodes))})"
        for target, nodes in unknown.items()
    )
    ways = [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]
    if others:
        ways.append(
            f'{", ".join(others)}: write a function for each, decorated @converts("{others[0]}") '
            "with `from converters import converts`, in a file that --import FILE loads"
        )
    raise ValueError(
        f"The program calls operators that are not known. {'. '.join(ways)}. Received: {listed}"
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


# Inputs and outputs


def _input_order(emitter: Emitter, end: End) -> tuple[int, ...] | None:
    """Channels last, but of an input that the program itself brings into channels first."""
    assert isinstance(end.value, str)
    if emitter.program.values[end.value].rank != 4:
        return None
    users = emitter.users.get(end.value, [])
    permuted = [
        base_name(u.target) == "aten.permute" and u.arguments.get("dims") == (0, 3, 1, 2)
        for u in users
    ]
    return None if permuted and all(permuted) else CHANNELS_LAST[4]


def _outputs(emitter: Emitter) -> tuple[dict[str, Any], list[EndRecord], list[str]]:
    outputs: dict[str, Any] = {}
    records, warnings = [], []
    for end in emitter.program.outputs:
        value = emitter.values.get(end.value) if isinstance(end.value, str) else end.value
        if not isinstance(value, Value) or value.constant:
            if end.value is not None:
                shown = value.value if isinstance(value, Number) else "a constant"
                shown = shown if isinstance(end.value, str) else end.value
                warnings.append(f"Output {end.name!r} depends on no input and is left out: {shown}")
            continue
        name = _output_name(end.name, outputs)
        emitter.at(str(end.value))
        order = _output_order(value)
        try:
            _check_batch(emitter, value)
            outputs[name] = emitter.arranger.ordered(value, order).tensor
        except BatchError as error:
            raise ValueError(
                f"Output {end.name!r} cannot be given: {error}; {emitter.way_out}"
            ) from None
        records.append(end_record(name, value, order))
    return outputs, records, warnings


def _check_batch(emitter: Emitter, value: Value) -> None:
    """Raises where samples are counted elsewhere than the program does: it was read wrongly."""
    if not emitter.batch_in_sizes or not value.dims or value.shape[0] != emitter.batch:
        return
    free = [any(a.free and a.size == emitter.batch for a in group) for group in value.dims]
    if any(free) and not free[0]:
        raise BatchError("it is not clear which of the sizes in the program hold the batch")


def _output_name(name: str, taken: dict[str, Any]) -> str:
    name = re.sub(r"[^A-Za-z0-9_]", "_", name) or "output"
    count = 1
    base = name
    while name in taken:
        name, count = f"{base}_{count}", count + 1
    return name


def _output_order(value: Value) -> tuple[int, ...]:
    """Maps channels last; what lies in PyTorch's order already stays so."""
    plain = tuple(range(value.rank))
    if value.rank != 4:
        return plain
    atoms = flat(value.axes)
    if atoms == [a for a in flat(value.dims) if a in atoms] and value.shape[1] > 1:
        return plain
    return CHANNELS_LAST[4]


# ULSAM


def _ulsam_steps(
    emitter: Emitter, calls: Sequence[UlsamCall]
) -> dict[str, Callable[[Emitter], None]]:
    """By the name of a node, what is done in its place: nothing, or the layer at the last one."""
    steps: dict[str, Callable[[Emitter], None]] = {}
    for call in calls:
        gives = next(n for n in emitter.program.nodes if call.result in n.outputs)
        for name in call.nodes:
            steps[name] = _nothing
        steps[gives.name] = _layer_step(call, gives)
    return steps


def _nothing(emitter: Emitter) -> None:
    return None


def _layer_step(call: UlsamCall, gives: Node) -> Callable[[Emitter], None]:
    def step(emitter: Emitter) -> None:
        import ulsam_keras

        source = emitter.values[call.source]
        assert isinstance(source, Value)
        x = emitter.arranger.ordered(source, CHANNELS_LAST[4])
        keys = tuple(tuple(sorted(group.items())) for group in call.weights)
        shared = ("ULSAM", call.num_splits, call.momentum, call.epsilon, keys)
        (layer,) = emitter.made.get(shared, [None])
        if layer is None:
            layer = ulsam_keras.ULSAM(
                call.num_splits,
                momentum=call.momentum,
                epsilon=call.epsilon,
                data_format="channels_last",
                name=emitter.named(call.module or "ulsam"),
            )
            layer.build(x.tensor.shape)
            layer.set_weights(call.values(layer, emitter.program.tensors))
            emitter.made[shared] = [layer]
            emitter.ported += [
                PortedWeight(layer.name, (key,), f"{part} of group {number}")
                for number, group in enumerate(call.weights)
                for part, key in group.items()
                if key is not None
            ]
        emitter.ulsam.append(layer.name)
        emitter.values[call.result] = x.with_tensor(layer(x.tensor))
        covered = [n for n in emitter.program.nodes if n.name in call.nodes]
        emitter.covered(covered, f"{layer.name} (ULSAM)")

    return step


# The account


def _weight_records(emitter: Emitter) -> list[WeightRecord]:
    program = emitter.program
    used = {
        program.weights[name].key
        for name in program.weights
        if any(node.name in emitter.needed for node in emitter.users.get(name, ()))
    }
    ported: dict[str, list[PortedWeight]] = {}
    for entry in emitter.ported:
        for key in entry.keys:
            ported.setdefault(key, []).append(entry)
    records = []
    for name, weight in program.weights.items():
        meta = program.values[name]
        own = program.aliases.get(weight.key, weight.key)
        entries = ported.get(own, [])
        tied = "" if own == weight.key else f", one with {own}"
        if entries:
            status = "ported"
            detail = "; ".join(dict.fromkeys(entry.how for entry in entries)) + tied
        elif weight.key.endswith("num_batches_tracked"):
            status, detail = "counter", "counts training steps; nothing in Keras reads it"
        elif weight.key in used:
            status = "constant"
            detail = "in the graph as a constant, alone or folded into others" + tied
            if weight.kind == "parameter" and not weight.trains:
                detail += ", as it requires no gradient"
        else:
            status, detail = "unused", "no output needs it"
        records.append(
            WeightRecord(
                weight.key,
                weight.kind,
                tuple(meta.hint),
                meta.dtype,
                status,
                tuple(dict.fromkeys(entry.weight for entry in entries)),
                detail,
            )
        )
    return records


def _warnings(emitter: Emitter, weights: Sequence[WeightRecord]) -> list[str]:
    program = emitter.program
    warnings = []
    trains = {weight.key for weight in program.weights.values() if weight.trains}
    still = [r.key for r in weights if r.status == "constant" and r.key in trains]
    if still:
        more = f" and {len(still) - 3} more" if len(still) > 3 else ""
        warnings.append(
            "Parameters of which no layer could be made are constants of the graph, which training "
            f"does not change: {', '.join(map(repr, still[:3]))}{more}."
        )
    dtypes = {meta.dtype for meta in program.values.values()}
    for dtype in (*_HALF, "float64"):
        if dtype in dtypes:
            warnings.append(f"The program computes in {dtype}; the Keras model in float32.")
    layers: dict[str, set[str]] = {}
    for entry in emitter.ported:
        for key in entry.keys if not entry.how.startswith("a part") else ():
            layers.setdefault(key, set()).add(entry.weight.partition("/")[0])
    for key, names in layers.items():
        if len(names) > 1:
            warnings.append(
                f"{key} is tied in PyTorch; the layers {', '.join(sorted(names))} hold a copy each."
            )
    return warnings
