"""The attention of each site of two sides, inside the files.

Keras is imported only for a Keras model.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np

from converters.fidelity import AttentionFidelity, measure_sites
from converters.report.comparison import AttentionComparison
from converters.runtime import compare_attention
from converters.tflite.flatbuffer import read_graphs
from converters.tflite.sites import find_sites
from converters.tflite.tap import with_outputs
from converters.verification import (
    ATTENTION_SAMPLES,
    BATCH,
    FIDELITY_SAMPLES,
    Target,
    first,
    fixed_batch,
    packed,
    run_on,
)
from converters.verify.limits import Limits
from converters.verify.side import Side, taken_by, whole_batches


class LeftOut(Exception):
    """Why the attention cannot be compared."""


@dataclass(frozen=True)
class _Sites:
    """The ULSAM blocks of a side whose maps have more than one position.

    Attributes:
        names: Their names; empty where a file does not tell them.
        shapes: H, W and g of each.
        maps: What gives the attention of each, `(N, H, W, g)`, on a target; or why it did not run.
    """

    names: list[str]
    shapes: list[tuple[int, ...]]
    maps: Callable[[Target], list[np.ndarray] | str]


def compare_sites(
    a: Side, b: Side, arrays: list[np.ndarray], targets: tuple[Target, ...], limits: Limits
) -> list[AttentionComparison]:
    """The attention of each site of two sides of floats, on every target."""
    ours, theirs = (_sites(side, arrays, ATTENTION_SAMPLES) for side in (a, b))
    _check_same(a, ours, b, theirs)
    rows = []
    files = a.tflite is not None or b.tflite is not None
    for target in targets if files else targets[:1]:
        given, wanted = ours.maps(target), theirs.maps(target)
        problem = next((found for found in (given, wanted) if isinstance(found, str)), "")
        for number, site in enumerate(_names(ours, theirs)):
            row = AttentionComparison(
                subject=limits.precision,
                site=site,
                kernels=target.name if files else "TensorFlow",
                limit=limits.attention(target),
                map_size=(ours.shapes[number][0], ours.shapes[number][1]),
                problem=problem,
            )
            if not isinstance(given, str) and not isinstance(wanted, str):
                samples = min(len(given[number]), len(wanted[number]))
                found = compare_attention(given[number][:samples], wanted[number][:samples])
                row = replace(row, **asdict(found))
            rows.append(row)
    return rows


def measure_integer_sites(
    a: Side, b: Side, arrays: list[np.ndarray], targets: tuple[Target, ...], limits: Limits
) -> list[AttentionFidelity]:
    """The attention of each site inside a file of integers beside the other side's."""
    file, other = (a, b) if a.precision == limits.precision else (b, a)
    sites, wanted = (_sites(side, arrays, FIDELITY_SAMPLES) for side in (file, other))
    _check_same(file, sites, other, wanted)
    assert file.tflite is not None
    rows = []
    for target in targets:
        maps = wanted.maps(target)
        if isinstance(maps, str):
            rows += [
                AttentionFidelity(site, kernels=target.name, limit=limits.snr, problem=maps)
                for site in _names(sites, wanted)
            ]
            continue
        count = whole_batches(file, min(target.samples or len(maps[0]), len(maps[0])))
        rows += [
            replace(row, subject=limits.precision, kernels=target.name)
            for row in measure_sites(
                file.tflite,
                {n: m[:count] for n, m in zip(_names(sites, wanted), maps, strict=True)},
                first(taken_by(file, arrays), count),
                accelerator=target.accelerator,
                gpu_precision=target.gpu_precision,
                limit=limits.snr,
            )
        ]
    return rows


def _sites(side: Side, arrays: list[np.ndarray], samples: int) -> _Sites:
    """The sites of a side.

    Raises:
        LeftOut: If it has none, or does not show them.
    """
    if side.recorded is not None:
        raise LeftOut(f"{side.name} is a recording of outputs")
    some = first(taken_by(side, arrays), whole_batches(side, samples))
    if side.model is not None:
        from ulsam_keras import attention_maps

        try:
            maps = attention_maps(
                side.model, packed(side.model, some), fixed_batch(side.model) or BATCH
            )
        except ValueError as error:
            reason = str(error).partition(" Received: ")[0]
            raise LeftOut(f"{side.name}: {reason}") from error
        maps = {name: value for name, value in maps.items() if _spatial(value.shape)}
        values = list(maps.values())
        found = _Sites(list(maps), [v.shape[1:] for v in values], lambda target: values)
    else:
        assert side.tflite is not None
        graph = read_graphs(side.tflite)[0]
        inside = [site for site in find_sites(graph) if _spatial(site.attention.shape)]
        if inside and not graph.named_inputs:
            raise LeftOut(f"{side.name} has no signature")
        # The GPU refuses files that give a tensor under two names.
        names = {tensor: name for name, tensor in graph.named_outputs.items()}
        further = [site.attention for site in inside if site.attention not in names]
        tapped = {f"site{number}_attention": tensor for number, tensor in enumerate(further)}
        names |= {tensor: name for name, tensor in tapped.items()}
        content = with_outputs(side.tflite, tapped) if tapped else side.tflite

        def run(target: Target) -> list[np.ndarray] | str:
            result = run_on(content, some, target, repeats=0)
            if result.outputs is None:
                return f"{result.outcome}: {result.message}"
            outputs = result.outputs
            return [outputs[names[site.attention]] * site.gain for site in inside]

        found = _Sites([], [site.attention.shape[1:] for site in inside], run)
    if not found.shapes:
        raise LeftOut(f"{side.name} has no ULSAM whose map has more than one position")
    return found


def _spatial(shape: tuple[int, ...]) -> bool:
    """Whether an attention, `(N, H, W, g)`, has more than one position; the softmax of one is 1."""
    return shape[1] * shape[2] > 1


def _names(ours: _Sites, theirs: _Sites) -> list[str]:
    numbered = [f"site {number + 1}" for number in range(len(ours.shapes))]
    return ours.names or theirs.names or numbered


def _check_same(a: Side, ours: _Sites, b: Side, theirs: _Sites) -> None:
    one, other = ([tuple(map(int, shape)) for shape in s.shapes] for s in (ours, theirs))
    if one != other:
        raise LeftOut(
            f"the maps, (H, W, g), are {', '.join(map(str, one))} in {a.name} and "
            f"{', '.join(map(str, other))} in {b.name}"
        )
