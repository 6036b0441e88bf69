"""A PyTorch program as data: nodes, values, weights, ends. Imports NumPy only.

What `torch.export.save` writes, in the words of this project. Nothing here is executed, and
nothing of PyTorch is needed to read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

# A size; the name of a dynamic dimension ("s77"); or an expression of such ("2*s77").
Dimension = int | str


@dataclass(frozen=True)
class Ref:
    """A value of the program as an argument: a tensor, or a number that it computes (`SymInt`)."""

    name: str


@dataclass(frozen=True)
class Dtype:
    """A dtype as an argument, under NumPy's or ml_dtypes' name: `"float32"`, `"bfloat16"`."""

    name: str


# What an operator is given: values, plain data, and lists of them.
Argument = Ref | Dtype | int | float | bool | str | None | tuple["Argument", ...]


@dataclass(frozen=True)
class Meta:
    """What is known of a tensor.

    Attributes:
        shape: Its sizes; a `str` for one that depends on a dynamic dimension.
        dtype: NumPy's or ml_dtypes' name.
        hint: The sizes as they were with the example inputs; -1 for one that is not known.
        strides: How many elements apart its neighbours lie in memory, with the example inputs.
    """

    shape: tuple[Dimension, ...]
    dtype: str
    hint: tuple[int, ...]
    strides: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.shape)


@dataclass(frozen=True)
class Module:
    """A module that a node was called in.

    Attributes:
        path: `"features.12.conv"`; `""` for the whole.
        kind: Its class, `"torch.nn.modules.conv.Conv2d"`.
    """

    path: str
    kind: str


@dataclass(frozen=True)
class Node:
    """One call of an operator.

    Attributes:
        target: The operator with its overload, `"aten.conv2d.default"`.
        arguments: What it is given, by the names of the operator's schema; those at their defaults
            may be left out. An operator that writes in place (`aten.relu_.default`) changes its
            first argument, under that name and every other name of its memory.
        outputs: The names of its values, in order; `None` for one that is not used. A list of
            tensors is several outputs.
        modules: The modules that it was called in, the innermost last.
        name: Its name in the program.
    """

    target: str
    arguments: Mapping[str, Argument]
    outputs: tuple[str | None, ...]
    modules: tuple[Module, ...]
    name: str

    @property
    def module(self) -> str:
        """The path of the innermost module."""
        return self.modules[-1].path if self.modules else ""


@dataclass(frozen=True)
class Weight:
    """A tensor that the program holds.

    Attributes:
        key: Its key: `"features.0.weight"`.
        kind: What it is.
        persistent: Whether it is in the state dict.
        trains: Whether it is a parameter that training changes: one that requires a gradient, any
            where none of the program does.
    """

    key: str
    kind: Literal["parameter", "buffer", "constant"]
    persistent: bool = True
    trains: bool = False


@dataclass(frozen=True)
class End:
    """An input or output of the program.

    Attributes:
        value: The value's name in the graph; a plain number or `None` where the program answers
            such.
        name: What its user knows it as: the argument's name; the dictionary's key; `"output"`, or
            `"output_0"` and so on where there is none. Nested ones are joined: `"boxes_0"`.
    """

    value: str | int | float | bool | None
    name: str


@dataclass(frozen=True)
class Program:
    """A program.

    Attributes:
        name: What it is called: the file's name.
        torch_version: The PyTorch that wrote it, where it says.
        nodes: The calls in their order. Calls inside `no_grad` and the like are among them.
        values: What is known of every tensor, by its name in the graph: inputs, weights, results.
        numbers: Of every number that the program computes, by its name in the graph, the size or
            expression of sizes that it is; its own name where it is none.
        inputs: What a user gives, in order.
        outputs: What it answers, flat, in order.
        weights: By the name in the graph, what each tensor held by the program is. Several names
            may have one key, and several keys one memory (`aliases`).
        tensors: The content by key, each read when it is asked for.
        dynamic: The dynamic dimensions by name, with least and largest size (`None`: unbounded).
        aliases: Keys that share memory with an earlier key, by which they are tied.
        examples: The example inputs by name, where the archive holds them; each read when it is
            asked for.
        reference: What `converters.export_program` recorded beside it: the arrays of a
            reference file, `inputs…`, `outputs…`, `labels`, `layers.…`, each read when it is asked
            for; empty without.
        mutated: Keys of buffers that the program writes to, with the value written (BatchNorm in
            training mode).
    """

    name: str
    torch_version: str
    nodes: tuple[Node, ...]
    values: Mapping[str, Meta]
    inputs: tuple[End, ...]
    outputs: tuple[End, ...]
    weights: Mapping[str, Weight]
    tensors: Mapping[str, np.ndarray]
    dynamic: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    examples: Mapping[str, np.ndarray] = field(default_factory=dict)
    reference: Mapping[str, np.ndarray] = field(default_factory=dict)
    mutated: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, Dimension] = field(default_factory=dict)
