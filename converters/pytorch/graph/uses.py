"""Which nodes of a program take which values.

Imports `converters.program`.
"""

from collections.abc import Iterable
from typing import Any

from converters.program import Node, Program, Ref
from converters.pytorch.graph.registry import in_place


def users(nodes: Iterable[Node]) -> dict[str, list[Node]]:
    """The nodes that take each value."""
    found: dict[str, list[Node]] = {}
    for node in nodes:
        for name in given(node):
            found.setdefault(name, []).append(node)
    return found


def given(node: Node) -> list[str]:
    """The names of the values that a node takes, each once."""
    return list(dict.fromkeys(references(tuple(node.arguments.values()))))


def references(argument: Any) -> list[str]:
    """The names of the values in an argument."""
    if isinstance(argument, Ref):
        return [argument.name]
    if isinstance(argument, tuple):
        return [name for entry in argument for name in references(entry)]
    return []


def live(program: Program) -> set[str]:
    """The names of the nodes that the outputs need."""
    wanted = {end.value for end in program.outputs if isinstance(end.value, str)}
    needed = set()
    for node in reversed(program.nodes):
        taken = given(node)
        # What is written in place may be seen through any name of the same memory.
        writes = in_place(node.target) and bool(taken)
        if writes or wanted.intersection(name for name in node.outputs if name):
            needed.add(node.name)
            wanted.update(taken)
    return needed
