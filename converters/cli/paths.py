"""The paths that the command takes, which a shell completes. Imports click only."""

from typing import Any

import click
from click.shell_completion import CompletionItem


class AnyPath(click.ParamType):
    """A path, left to whoever opens it; a shell completes files and folders."""

    name = "path"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Leaves it to the shell."""
        return [CompletionItem(incomplete, type="file")]


class Folder(AnyPath):
    """A folder; a shell completes folders."""

    name = "folder"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Leaves it to the shell."""
        return [CompletionItem(incomplete, type="dir")]


class ModelFile(AnyPath):
    """A checkpoint or a model; a folder, or one that is compiled, is refused."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The path as it was given."""
        from converters.formats import refuse_unreadable

        try:
            refuse_unreadable(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return value
