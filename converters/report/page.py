"""Reports as pages: one self-contained HTML file, Markdown for a pull request, and a model card.

Imports `runtime`, `tflite` and `verify`; Jinja2, and what draws the maps, inside the functions.
"""

import json
from collections.abc import Mapping
from typing import Any

from converters.report import words
from converters.report.document import Compared, Report, versions
from converters.report.tiles import BUDGET, Tiles, input_pictures
from converters.runtime import is_software
from converters.tflite.options import INTEGER_PRECISIONS
from converters.tflite.static_check import grouped
from converters.verify.attention import AttentionSNR
from converters.verify.compare import Verification
from converters.verify.maps import SiteMaps
from converters.verify.outputs import OutputComparison
from converters.verify.targets import CPU


def written(report: Report | Compared, suffix: str) -> str:
    """The report as the suffix of its file says: `.html`, `.md` or `.json`."""
    if suffix == ".json":
        return json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n"
    return _rendered(f"report{suffix}.j2", report, pictures=suffix == ".html")


def model_card(report: Report) -> str:
    """`model_card.md`: what the files are, what was measured, and how to load them."""
    return _rendered("model_card.md.j2", report, pictures=False)


def _rendered(template: str, report: Report | Compared, pictures: bool) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("converters.report"),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": _cell, "sentence": _sentence, "shape": _shape}
    conversion = report if isinstance(report, Report) else None
    found = report.verification
    first = found.comparisons[0]
    text = environment.get_template(template).render(
        report=conversion,
        found=found,
        title=conversion.source if conversion else f"{first.subject} and {first.reference}",
        weights=words.weights(conversion) if conversion else "",
        gpu=words.gpu(report.gpu, found),
        threads=report.threads,
        verdict=words.verdict(found),
        failures=words.failures(found.checks),
        samples=words.SAMPLES[first.data or (conversion.samples if conversion else "given")],
        no_reference=words.no_reference(conversion) if conversion else "",
        accuracies=words.accuracies(conversion) if conversion else {},
        comparisons=[_comparison(row) for row in found.comparisons],
        attention=[_attention(row) for row in found.attention],
        attention_passed=sum(row.passed for row in found.attention),
        with_snr=any(row.snr_limit is not None for row in found.comparisons),
        with_top1=any(row.top1 is not None for row in found.comparisons),
        sites=_sites(found, pictures),
        inputs=_inputs(found) if pictures else [],
        latencies=_latencies(found, report.gpu),
        repeats=CPU[0].repeats,
        grouped=grouped,
        port=_port(conversion.port_report) if conversion and conversion.port_report else None,
        integers=INTEGER_PRECISIONS,
        versions=versions(),
        label=words.label,
    )
    # A file's name may hold bytes that are no text.
    return text.encode(errors="replace").decode()


def _comparison(row: OutputComparison) -> dict[str, Any]:
    return {
        "subject": words.label(row.subject),
        "reference": words.label(row.reference),
        "runtime": row.runtime,
        "data": row.data,
        "samples": row.samples,
        "difference": _number(row.difference, ".1e"),
        "limit": f"{row.limit:.0e}",
        "snr": _number(row.snr if row.snr_limit is not None else None, ".1f"),
        "snr_limit": _number(row.snr_limit, "g"),
        "top1": _number(row.top1, ".1%"),
        **_used(row),
    }


def _attention(row: AttentionSNR) -> dict[str, Any]:
    return {
        "site": row.site,
        "subject": words.label(row.subject),
        "runtime": row.runtime,
        "size": _shape(row.map_size or ()),
        "difference": _number(row.difference, ".1e"),
        "limit": _number(row.limit, ".0e"),
        "snr": _number(row.snr, ".1f"),
        "snr_limit": _number(row.snr_limit, "g"),
        "pattern": _number(row.pattern_snr, ".1f"),
        **_used(row),
    }


def _used(row: OutputComparison | AttentionSNR) -> dict[str, Any]:
    """How much of the limit is used, and the verdict."""
    share = words.share_of_limit(row)
    return {
        "share": min(share, 1.0) if share is not None and share == share else 0.0,
        "used": "–" if share is None else _percent(share),
        "passed": row.passed,
        "verdict": _verdict(row),
        "failed": words.what_failed(row),
    }


def _verdict(row: OutputComparison | AttentionSNR) -> str:
    if not row.passed:
        return "failed"
    return "undecided" if isinstance(row, OutputComparison) and row.undecided else "passed"


def _percent(share: float) -> str:
    if share != share:
        return "nothing finite"
    if share > 10:
        return "more than 10 times"
    return f"{share:.0%}" if share >= 0.01 or share == 0 else "below 1%"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _sites(found: Verification, pictures: bool) -> list[dict[str, Any]]:
    """What there is of each site, and its maps as pictures: a column for all that was run."""
    sites = []
    by_site: dict[str, list[SiteMaps]] = {}
    for each in found.maps:
        by_site.setdefault(each.site, []).append(each)
    for site, maps in by_site.items():
        shown = _shown(maps)
        _, height, width, groups = maps[0].attention.shape
        # What is slow ran fewer.
        count = min(len(each.attention) for each in shown)
        entry: dict[str, Any] = {"name": site, "size": f"{height} × {width}", "groups": groups}
        if pictures:
            tiles = Tiles(shown, BUDGET // len(by_site))
            entry |= {
                "columns": [(words.label(m.subject), m.runtime) for m in shown],
                "rows": [[tiles.of(m.subject, m.runtime, n) for m in shown] for n in range(count)],
                "bar": tiles.bar(),
                "ticks": tiles.ticks(),
            }
        sites.append(entry)
    return sites


def _inputs(found: Verification) -> list[str]:
    """What the model was given beside its maps, as pictures."""
    return input_pictures(found.pictures) if found.maps and found.pictures is not None else []


def _shown(maps: list[SiteMaps]) -> list[SiteMaps]:
    """The reference, Keras, and of each file what applications run, and the GPU.

    The other kernels of the CPU are in the table.
    """
    kept: list[SiteMaps] = []
    for each in sorted(maps, key=lambda m: (m.subject != "pytorch", m.runtime != "TensorFlow")):
        if each.runtime.startswith("GPU") or each.subject not in {m.subject for m in kept}:
            kept.append(each)
    return kept


def _latencies(
    found: Verification, adapter: str | None
) -> list[tuple[str, str, float, float | None]]:
    """Of each file and runtime, milliseconds, and their share of the longest.

    A GPU in software has no share: beside its time all others would be none.
    """
    timed: dict[tuple[str, str], float] = {}
    for row in found.comparisons:
        if row.milliseconds is not None:
            timed.setdefault((row.subject, row.runtime), row.milliseconds)
    software = adapter is not None and is_software(adapter)
    drawn = {key: t for key, t in timed.items() if not (software and key[1].startswith("GPU"))}
    longest = max(drawn.values(), default=0.0) or 1.0
    return [(*key, t, t / longest if key in drawn else None) for key, t in timed.items()]


def _port(report: Mapping[str, Any]) -> dict[str, Any]:
    """Where every tensor went, of a checkpoint's port and a program's alike."""
    tensors = [
        (r["key"], r["shape"], r["status"], r["weight"] or "", r["detail"])
        for r in report.get("sources", ())
    ] or [
        (r["key"], r["shape"], r["status"], ", ".join(r["weights"]), r["detail"])
        for r in report["weights"]
    ]
    nodes = [
        (r["node"], r["target"], r["module"], f"{r['status']}: {r['detail']}")
        for r in report.get("nodes", ())
    ]
    return {"summary": report["summary"], "tensors": tensors, "nodes": nodes}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cell(text: object) -> str:
    """Text that ends no cell of a Markdown table and no line, and is no HTML."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _shape(shape: Any) -> str:
    values = shape.values() if isinstance(shape, Mapping) else shape
    return " × ".join(map(str, values))
