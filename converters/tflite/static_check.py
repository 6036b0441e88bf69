"""The static check of a ``.tflite`` file: a table of rules, each with a reason code.

Imports the flatbuffer reader and NumPy, no TensorFlow. A clean result does not mean that a
delegate runs the model: only running it shows that.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from converters.tflite.flatbuffer import Graph, Operator, Tensor, Tflite, read_graphs

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One place of a model that breaks a rule.

    Attributes:
        code: The reason code of the rule, `"RANK"` for example; a key of `RULES`.
        severity: `"error"`: the model does not run, or not as a static float model;
            `"warning"`: some runtimes refuse it or compute it wrongly.
        where: The operator, as `"operator 3 (MUL)"`, or the tensor.
        tensors: The names of the tensors concerned.
        symptom: What is seen when the model runs.
        meaning: What it is in the graph that leads to that.
        advice: What to do.
    """

    code: str
    severity: Severity
    where: str
    tensors: tuple[str, ...]
    symptom: str
    meaning: str
    advice: str

    def __str__(self) -> str:
        return f"{self.code}: {self.where}: {self.symptom} {self.meaning} {self.advice}"


# A place that breaks a rule: where it is, and the tensors concerned.
_Place = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class Rule:
    """One rule: its reason code, the texts of its findings, and how they are found."""

    code: str
    severity: Severity
    symptom: str
    meaning: str
    advice: str
    find: Callable[[Graph], Iterator[_Place]]


def lint(tflite: Tflite) -> list[Finding]:
    """Checks a LiteRT model against every rule of `RULES`, without running it.

    The rules hold what the LiteRT runtime (2.3) and its GPU accelerator were seen to refuse, to
    crash on or to compute wrongly.

    Args:
        tflite: The content of a `.tflite` file, or the path of one.

    Returns:
        The findings, in the order of the rules; an empty list if there are none.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the content is not a LiteRT model, or is truncated or damaged.

    Example:
    >>> for finding in lint("model.tflite"):
    ...     print(finding)
    """
    graphs = read_graphs(tflite)
    return [
        Finding(rule.code, rule.severity, where, tensors, rule.symptom, rule.meaning, rule.advice)
        for rule in RULES.values()
        for graph in graphs
        for where, tensors in rule.find(graph)
    ]


def _place(operator: Operator, *tensors: Tensor | None) -> _Place:
    where = f"operator {operator.index} ({operator.name})"
    return where, tuple(tensor.name for tensor in tensors if tensor is not None)


def _activations(operator: Operator) -> list[Tensor]:
    """The inputs and outputs that are computed, each once."""
    tensors = [t for t in (*operator.inputs, *operator.outputs) if t is not None]
    return [t for t in dict.fromkeys(tensors) if not t.constant]


def _custom(graph: Graph, flex: bool) -> Iterator[_Place]:
    for operator in graph.operators:
        if operator.custom and operator.name.startswith("Flex") == flex:
            yield _place(operator, *operator.outputs)


def _flex(graph: Graph) -> Iterator[_Place]:
    return _custom(graph, flex=True)


def _other_custom(graph: Graph) -> Iterator[_Place]:
    return _custom(graph, flex=False)


def _dynamic(graph: Graph) -> Iterator[_Place]:
    for tensor in graph.inputs:
        if tensor.dynamic:
            yield f"input {tensor.name!r}", (tensor.name,)
    for operator in graph.operators:
        tensors = [tensor for tensor in operator.outputs if tensor.dynamic]
        if tensors:
            yield _place(operator, *tensors)


def _non_finite(graph: Graph) -> Iterator[_Place]:
    for tensor in graph.tensors:
        values = tensor.floats()
        if values is not None and not np.isfinite(values).all():
            yield f"constant {tensor.name!r}", (tensor.name,)


def _saturated(graph: Graph) -> Iterator[_Place]:
    limit = np.finfo(np.float16).max
    for tensor in graph.tensors:
        values = tensor.floats()
        if values is not None and values.dtype == np.float16 and (np.abs(values) >= limit).any():
            yield f"constant {tensor.name!r}", (tensor.name,)


def _overwritten(graph: Graph) -> Iterator[_Place]:
    """Follows the CPU runtime's plan of which output takes over the memory of which input.

    The plan (`ArenaPlanner::IdentifyInPlaceTensors` in tflite/arena_planner.cc) asks how often
    the input and the first owner of its memory are read, but not how often the tensors between
    these two are: those are the ones that may still be needed.
    """
    readers = Counter(t for o in graph.operators for t in o.inputs if t is not None)
    readers.update(graph.inputs + graph.outputs)
    readers.update(tensor for tensor in graph.tensors if tensor.variable)
    last_read = {t: o.index for o in graph.operators for t in o.inputs if t is not None}
    owner: dict[Tensor, Tensor] = {}
    for operator in graph.operators:
        views = operator.name in _VIEWS
        candidates = operator.inputs[: 1 if views else _IN_PLACE.get(operator.name, 0)]
        for tensor in candidates:
            output = operator.outputs[0] if operator.outputs else None
            if (
                output is None
                or tensor is None
                or tensor.constant
                or tensor.variable
                or tensor in graph.inputs
                or output in graph.outputs
            ):
                continue
            if not views and (
                (tensor.dtype, np.prod(tensor.shape)) != (output.dtype, np.prod(output.shape))
                or np.prod(tensor.shape) <= 1
                or readers[tensor] > 1
            ):
                continue
            first = owner.get(tensor, tensor)
            if not views and readers[first] > 1:
                break
            if not views:
                lost = [
                    other
                    for other, its_owner in owner.items()
                    if its_owner is first and last_read.get(other, -1) > operator.index
                ]
                if lost:
                    yield _place(operator, *lost)
            owner[output] = first
            break


def _rank(graph: Graph) -> Iterator[_Place]:
    for operator in graph.operators:
        tensors = [tensor for tensor in _activations(operator) if len(tensor.shape) > 4]
        if tensors:
            yield _place(operator, *tensors)


def _broadcast_to(graph: Graph) -> Iterator[_Place]:
    for operator in graph.operators:
        if operator.name == "BROADCAST_TO":
            yield _place(operator, *operator.outputs)


def _log_softmax(graph: Graph) -> Iterator[_Place]:
    for operator in graph.operators:
        if operator.name == "LOG_SOFTMAX":
            yield _place(operator, *operator.outputs)


def _grouped_conv(graph: Graph) -> Iterator[_Place]:
    for operator in graph.operators:
        if operator.name == "CONV_2D":
            channels = [t.shape[-1:] for t in operator.inputs[:2] if t is not None]
            if len(set(channels)) > 1:
                yield _place(operator, *operator.outputs)


def _one_way_split(graph: Graph) -> Iterator[_Place]:
    for operator in graph.operators:
        if operator.name in ("SPLIT", "SPLIT_V") and len(operator.outputs) == 1:
            yield _place(operator, *operator.outputs)


def _unsafe_exp(graph: Graph) -> Iterator[_Place]:
    producer: dict[Tensor | None, Operator] = {
        tensor: operator for operator in graph.operators for tensor in operator.outputs
    }

    def origin(operator: Operator, position: int) -> Operator | None:
        """The operator that computed the values of an input, whatever their shape since."""
        source = (
            producer.get(operator.inputs[position]) if position < len(operator.inputs) else None
        )
        # Operators run in order: one that comes later computes nothing, in a sound file.
        if source is None or source.index >= operator.index:
            return None
        return origin(source, 0) if source.name in _MOVES else source

    for operator in graph.operators:
        if operator.name != "EXP":
            continue
        source = origin(operator, 0)
        if source is not None and source.name == "LOG_SOFTMAX":
            continue
        if source is not None and source.name == "SUB":
            subtracted = origin(source, 1)
            if subtracted is not None and subtracted.name == "REDUCE_MAX":
                continue
        yield _place(operator, *operator.inputs)


def _repeated_input(graph: Graph) -> Iterator[_Place]:
    for operator in graph.operators:
        if operator.name not in _REPEATABLE:
            computed = [t for t in operator.inputs if t is not None and not t.constant]
            repeated = [tensor for tensor, times in Counter(computed).items() if times > 1]
            if repeated:
                yield _place(operator, *repeated)


def _dtype(graph: Graph) -> Iterator[_Place]:
    for operator in graph.operators:
        tensors = [tensor for tensor in _activations(operator) if tensor.dtype in _CPU_DTYPES]
        if tensors:
            yield _place(operator, *tensors)


# Operators whose kernels hand the memory of an input on as a view of another shape, and those
# that write their result over one of the first so many inputs.
_VIEWS = {"RESHAPE", "EXPAND_DIMS", "SQUEEZE", "BITCAST"}
_IN_PLACE = {"ADD": 2, "SUB": 2, "MUL": 2, "DIV": 2, "SOFTMAX": 1, "DYNAMIC_UPDATE_SLICE": 1}
# Operators that change where values are or how they are stored, not the values.
_MOVES = {"RESHAPE", "TRANSPOSE", "EXPAND_DIMS", "SQUEEZE", "CAST", "QUANTIZE", "DEQUANTIZE"}
# Operators that the GPU accelerator takes with one tensor for two inputs.
_REPEATABLE = {"ADD", "MUL", "CONCATENATION"}
# Types that the GPU accelerator refuses; it takes the other integers, booleans and float16.
_CPU_DTYPES = {"INT16", "INT64", "UINT64", "FLOAT64", "COMPLEX64", "COMPLEX128", "STRING"}

_RULES = [
    Rule(
        "FLEX_OP",
        "error",
        "Interpreters without the Flex delegate refuse the model.",
        "The operator is TensorFlow's own and not in the LiteRT runtime.",
        "Write the layer with operations that have a LiteRT builtin.",
        _flex,
    ),
    Rule(
        "CUSTOM_OP",
        "error",
        "An interpreter that has not registered the operator refuses the model.",
        "The operator is not in the LiteRT runtime.",
        "Write the layer with operations that have a LiteRT builtin, or register the operator "
        "in the application.",
        _other_custom,
    ),
    Rule(
        "DYNAMIC_SHAPE",
        "error",
        "Delegates refuse the model or leave it to the CPU, which cannot plan its memory ahead.",
        "A dimension is unknown until run time.",
        "Export with a static `input_shape`, and leave out operations whose output shape "
        "depends on the data.",
        _dynamic,
    ),
    Rule(
        "NON_FINITE",
        "error",
        "The outputs are NaN, or the runtime crashes.",
        "A constant holds NaN or infinity.",
        "Train again, or repair the weights; a BatchNormalization with a negative moving "
        "variance folds to NaN.",
        _non_finite,
    ),
    Rule(
        "FLOAT16_SATURATED",
        "warning",
        "The outputs differ from the float32 model's.",
        "A float16 constant stands at the type's limit, 65504: the converter clamps what is "
        "beyond without a word.",
        "Compare the outputs with the float32 file's; if they differ, convert with "
        "`precision='float32'` or rescale the weights. A mask of large negative numbers is "
        "harmless.",
        _saturated,
    ),
    Rule(
        "OVERWRITTEN",
        "warning",
        "Without XNNPACK the CPU kernels compute wrong numbers, silently.",
        "The operator writes its result over a tensor that is read again later.",
        "Use the tensor itself in place of its reshaped view, or do all that reads the tensor "
        "first.",
        _overwritten,
    ),
    Rule(
        "RANK",
        "warning",
        "The GPU delegate refuses the operator.",
        "A tensor has more than four dimensions.",
        "Fold dimensions together, so that at most four remain.",
        _rank,
    ),
    Rule(
        "BROADCAST_TO",
        "warning",
        "The GPU delegate refuses the operator.",
        "The graph writes repeated values out, by an operator that the delegate does not have.",
        "Let the arithmetic broadcast by itself, or spread the values with a 1x1 convolution.",
        _broadcast_to,
    ),
    Rule(
        "GROUPED_CONV",
        "warning",
        "With few outputs per group the GPU delegate crashes or computes wrong numbers, silently.",
        "The kernel has fewer input channels than the image: a grouped convolution.",
        "Use one dense convolution with a block-diagonal kernel, or a depthwise convolution.",
        _grouped_conv,
    ),
    Rule(
        "ONE_WAY_SPLIT",
        "warning",
        "The GPU delegate aborts the process.",
        "A split has one output, so that it splits nothing.",
        "Leave the split out where there is one part.",
        _one_way_split,
    ),
    Rule(
        "UNSAFE_EXP",
        "warning",
        "Infinity or NaN in float16 arithmetic, from about 11 on.",
        "An exponential is taken without the maximum subtracted first, and float16 ends at 65504.",
        "Use the softmax operator, or subtract the maximum (REDUCE_MAX) first.",
        _unsafe_exp,
    ),
    Rule(
        "REPEATED_INPUT",
        "warning",
        "The GPU delegate refuses the operator, or aborts the process.",
        "One tensor is two inputs of the operator.",
        "Write it with one input (a square instead of a power, say), or compute the two apart.",
        _repeated_input,
    ),
    Rule(
        "LOG_SOFTMAX",
        "warning",
        "The GPU delegate refuses the operator.",
        "The delegate has no log-softmax; the CPU has, and in int8 it keeps the attention alive.",
        "For the GPU, convert with `attention='float'` (or a float precision), and write other "
        "log-softmaxes as x - max - log(sum(exp(x - max))).",
        _log_softmax,
    ),
    Rule(
        "DTYPE",
        "warning",
        "The GPU delegate refuses the operator.",
        "A tensor has a type that the delegate does not take: 16- and 64-bit integers, 64-bit "
        "floats, complex numbers, strings.",
        "Compute in float32 or in 32-bit integers.",
        _dtype,
    ),
]

RULES: dict[str, Rule] = {rule.code: rule for rule in _RULES}
