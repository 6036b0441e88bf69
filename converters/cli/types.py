"""The values that the options take: parameter types, choices and limits. Imports click only."""

from typing import Any

import click

# The choices of `converters.tflite` and `ulsam_keras`, which are too heavy to import for --help.
PRECISIONS = ("float32", "float16", "dynamic_range", "int8", "int16x8")
ATTENTION_FORMS = ("log_softmax", "softmax", "float")
INFERENCE_TYPES = ("float32", "int8", "uint8")
# The fields of `converters.verification.Tolerances`, which is too heavy to import for --help.
LIMITS = {
    "reference": "1e-4",
    "float32": "1e-4",
    "float16": "5e-3",
    "dynamic_range": "5e-2",
    "gpu_float16": "2e-2",
    "attention_float32": "1e-3",
    "attention_float16": "5e-2",
    "attention_dynamic_range": "2e-1",
    "attention_gpu_float16": "1e-1",
    "int8": "2e-1",
    "int16x8": "1e-1",
    "attention_snr": "10",
    "top1": "0.99",
    "top1_int8": "0.95",
}


class Size(click.ParamType):
    """An image size: `224`, or height and width, `224x192`."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Height and width out of the option's text."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(p.isascii() and p.isdigit() and int(p) > 0 for p in parts):
            self.fail(f"give SIZE or HEIGHTxWIDTH, at least 1. Received: {value}", param, ctx)
        return int(parts[0]), int(parts[-1])


class Precisions(click.ParamType):
    """Names of precisions, separated by commas."""

    name = "precisions"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The precisions, each once, in the order given."""
        names = value if isinstance(value, tuple) else tuple(str(value).split(","))
        unknown = [name for name in names if name not in PRECISIONS]
        if unknown:
            known = ", ".join(PRECISIONS)
            self.fail(f"give one or more of {known}. Received: {', '.join(unknown)}", param, ctx)
        return tuple(dict.fromkeys(names))


class Numbers(click.ParamType):
    """Numbers separated by commas."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers, in the order given."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"give a number, or one per channel, 0.5,0.5,0.5. Received: {value}")


class Limits(click.ParamType):
    """One limit, `NAME=VALUE`."""

    name = "limit"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Name and value of the limit."""
        if isinstance(value, tuple):
            return value
        name, _, text = str(value).partition("=")
        name = name.strip().replace("-", "_")
        try:
            limit = float(text)
        except ValueError:
            limit = -1.0
        if name not in LIMITS or not 0 <= limit < float("inf"):
            self.fail(
                f"give NAME=VALUE, NAME one of {', '.join(LIMITS)}, VALUE at least 0. "
                f"Received: {value}",
                param,
                ctx,
            )
        return name, limit
