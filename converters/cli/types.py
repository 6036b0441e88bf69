"""The values that the options take: parameter types, choices and limits.

Imports click, and what says the choices and the limits, which need the standard library only.
"""

from typing import Any

import click
from click.shell_completion import CompletionItem

from converters.tflite.options import ATTENTION_FORMS as FORMS
from converters.tflite.options import INFERENCE_TYPES as TYPES
from converters.tflite.options import PRECISIONS
from converters.verify.limits import Limits

ATTENTION_FORMS = tuple(dict.fromkeys(form for forms in FORMS.values() for form in forms))
INFERENCE_TYPES = tuple(dict.fromkeys(kind for kinds in TYPES.values() for kind in kinds))
LIMITS = {name: f"{value:g}" for name, value in vars(Limits()).items()}


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

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The precisions that are not in the list yet, after its last comma."""
        before, comma, last = incomplete.rpartition(",")
        return [
            CompletionItem(f"{before}{comma}{name}")
            for name in PRECISIONS
            if name.startswith(last) and name not in before.split(",")
        ]


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


class Limit(click.ParamType):
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
