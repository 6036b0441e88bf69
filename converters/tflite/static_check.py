"""The static check of a ``.tflite`` file: a table of rules, each with a reason code.

Imports the flatbuffer reader and NumPy, no TensorFlow. A clean result does not mean that a
delegate runs the model: only running it shows that.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from converters.tflite import comparisons, gpu_rules, groups
from converters.tflite.copies import mistaken
from converters.tflite.flatbuffer import Operator, Tensor, Tflite, read_graphs
from converters.tflite.rule import Place, Rule, Severity, described, operators, place, repeated
from converters.tflite.view import View

# How many places of one kind are told.
_PLACES = 3


@dataclass(frozen=True)
class Finding:
    """One place of a model that breaks a rule.

    Attributes:
        code: The reason code of the rule, `"RANK"` for example; a key of `RULES`.
        severity: `"error"`: the model does not run, or not as a static float model;
            `"warning"`: some runtimes refuse it or compute it wrongly.
        where: The operator, as `"operator 3 (MUL)"`, with its layer if the file tells it, or the
            tensor.
        tensors: The names of the tensors concerned.
        symptom: What is seen when the model runs.
        meaning: What it is in the graph that leads to that.
        advice: What to do.
        layers: The names of the Keras layers that it is about, as far as the file tells them.
    """

    code: str
    severity: Severity
    where: str
    tensors: tuple[str, ...]
    symptom: str
    meaning: str
    advice: str
    layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.code}: {self.where}: {self.symptom} {self.meaning} {self.advice}"


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
    views = [View(graph) for graph in read_graphs(tflite)]
    return [
        _finding(rule, view, found)
        for rule in RULES.values()
        for number, view in enumerate(views)
        if rule.inside or not number or view.graph.named_outputs  # called by the application
        for found in rule.find(view)
    ]


def grouped(findings: Sequence[Finding]) -> Iterator[tuple[Finding, int, str]]:
    """Those that differ in their place only as one: the first, how many they are, and where.

    They come ordered by rule, as `lint` gives them.
    """
    for _, group in groupby(findings, key=lambda finding: finding.code):
        alike = list(group)
        more = f" and {len(alike) - _PLACES} more" if len(alike) > _PLACES else ""
        yield alike[0], len(alike), ", ".join(each.where for each in alike[:_PLACES]) + more


def _finding(rule: Rule, view: View, found: Place) -> Finding:
    where, layers = described(view, found)
    texts = (rule.symptom, rule.meaning, rule.advice)
    return Finding(rule.code, rule.severity, where, found.tensors, *texts, layers)


def _activations(operator: Operator) -> list[Tensor]:
    """The inputs and outputs that are computed, each once."""
    tensors = [t for t in (*operator.inputs, *operator.outputs) if t is not None]
    return [t for t in dict.fromkeys(tensors) if not t.constant]


def _custom(view: View, flex: bool) -> Iterator[Place]:
    for operator in view.graph.operators:
        if operator.custom and operator.name.startswith("Flex") == flex:
            yield place(operator, *operator.outputs)


def _flex(view: View) -> Iterator[Place]:
    return _custom(view, flex=True)


def _other_custom(view: View) -> Iterator[Place]:
    return _custom(view, flex=False)


def _dynamic(view: View) -> Iterator[Place]:
    for tensor in view.graph.inputs:
        if tensor.dynamic:
            yield Place(f"input {tensor.name!r}", (tensor.name,))
    for operator in view.graph.operators:
        tensors = [tensor for tensor in operator.outputs if tensor.dynamic]
        if tensors:
            yield place(operator, *tensors)


def _non_finite(view: View) -> Iterator[Place]:
    for tensor in view.graph.tensors:
        values = tensor.floats()
        if values is not None and not np.isfinite(values).all():
            yield Place(f"constant {tensor.name!r}", (tensor.name,))


def _saturated(view: View) -> Iterator[Place]:
    limit = np.finfo(np.float16).max
    for tensor in view.graph.tensors:
        values = tensor.floats()
        if values is not None and values.dtype == np.float16 and (np.abs(values) >= limit).any():
            yield Place(f"constant {tensor.name!r}", (tensor.name,))


def _overwritten(view: View) -> Iterator[Place]:
    """Follows the CPU runtime's plan of which output takes over the memory of which input.

    The plan (`ArenaPlanner::IdentifyInPlaceTensors` in tflite/arena_planner.cc) asks how often
    the input and the first owner of its memory are read, but not how often the tensors between
    these two are: those are the ones that may still be needed.
    """
    readers = Counter(t for o in view.graph.operators for t in o.inputs if t is not None)
    readers.update(view.graph.inputs + view.graph.outputs)
    readers.update(tensor for tensor in view.graph.tensors if tensor.variable)
    last_read = {t: o.index for o in view.graph.operators for t in o.inputs if t is not None}
    owner: dict[Tensor, Tensor] = {}
    for operator in view.graph.operators:
        views = operator.name in _VIEWS
        candidates = operator.inputs[: 1 if views else _IN_PLACE.get(operator.name, 0)]
        for tensor in candidates:
            output = operator.outputs[0] if operator.outputs else None
            if (
                output is None
                or tensor is None
                or tensor.constant
                or tensor.variable
                or tensor in view.graph.inputs
                or output in view.graph.outputs
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
                    yield place(operator, *lost)
            owner[output] = first
            break


def _copied_steps(view: View) -> Iterator[Place]:
    for operator in view.operators:
        tensors = mistaken(operator)
        if tensors:
            yield place(operator, *tensors)


def _rank(view: View) -> Iterator[Place]:
    for operator in view.graph.operators:
        tensors = [tensor for tensor in _activations(operator) if len(tensor.shape) > 4]
        if tensors:
            yield place(operator, *tensors)


@operators("CONV_2D")
def _grouped_conv(view: View, operator: Operator) -> bool:
    return groups.mistaken(operator)


@operators("SPLIT", "SPLIT_V")
def _one_way_split(view: View, operator: Operator) -> bool:
    return len(operator.outputs) == 1


def _unsafe_exp(view: View) -> Iterator[Place]:
    # The operator that computed the values of a tensor, whatever their shape since.
    origin: dict[Tensor | None, Operator | None] = {}
    for operator in view.graph.operators:
        made = [origin.get(tensor) for tensor in operator.inputs]
        source = made[0] if made else None
        if operator.name == "EXP" and not _below_zero(source, origin):
            yield place(operator, *operator.inputs)
        origin |= dict.fromkeys(operator.outputs, source if operator.name in _MOVES else operator)


def _below_zero(source: Operator | None, origin: dict[Tensor | None, Operator | None]) -> bool:
    """Whether an operator takes the maximum off."""
    if source is None or source.name == "LOG_SOFTMAX":
        return source is not None
    subtracted = origin.get(source.inputs[1]) if len(source.inputs) > 1 else None
    return source.name == "SUB" and subtracted is not None and subtracted.name == "REDUCE_MAX"


def _repeated_input(view: View) -> Iterator[Place]:
    for operator in view.graph.operators:
        if operator.name not in _REPEATABLE:
            computed = [t for t in operator.inputs if t is not None and not t.constant]
            if twice := repeated(computed):
                yield place(operator, *twice)


def _dtype(view: View) -> Iterator[Place]:
    for operator in view.graph.operators:
        tensors = [tensor for tensor in _activations(operator) if tensor.dtype in _CPU_DTYPES]
        if tensors:
            yield place(operator, *tensors)


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
        inside=True,
    ),
    Rule(
        "CUSTOM_OP",
        "error",
        "An interpreter that has not registered the operator refuses the model.",
        "The operator is not in the LiteRT runtime.",
        "Write the layer with operations that have a LiteRT builtin, or register the operator "
        "in the application.",
        _other_custom,
        inside=True,
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
        inside=True,
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
        inside=True,
    ),
    Rule(
        "OVERWRITTEN",
        "warning",
        "Without XNNPACK the CPU kernels compute wrong numbers, silently.",
        "The operator writes its result over a tensor that is read again later.",
        "Use the tensor itself in place of its reshaped view, or do all that reads the tensor "
        "first.",
        _overwritten,
        inside=True,
    ),
    Rule(
        "COPIED_STEPS",
        "warning",
        "The CPU computes wrong numbers, silently, or refuses the file.",
        "In int8, an operator that copies integers has another scale or zero point for its result "
        "than for what it copies: TensorFlow's converter gives `keras.ops.flip` one before a "
        "maximum or minimum.",
        "Convert with `to_tflite`, which writes it otherwise, or write `keras.ops.maximum(a, b)` "
        "as `keras.ops.relu(a - b) + b`.",
        _copied_steps,
        inside=True,
    ),
    Rule(
        "COMPARED_STEPS",
        "warning",
        "The CPU makes wrong comparisons, silently, or aborts the process.",
        "In int8, a comparison (`keras.ops.where(x > y, ...)`) reads computed integers of steps "
        "below 1/512, a range of less than a half, or steps of 1 and more, a range of 255: the CPU "
        "compares multiples of 1/256, and knows no steps of 1.",
        "Convert with `to_tflite`, which writes it otherwise, or compare numbers of about 1: "
        "`x / 255 > 0.5` in place of `x > 127.5`.",
        operators(*comparisons.COMPARISONS)(lambda _, operator: comparisons.mistaken(operator)),
        inside=True,
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
        "Convert with `to_tflite`, which writes a TILE, or let the arithmetic broadcast "
        "by itself, or spread the values with a 1x1 convolution.",
        operators("BROADCAST_TO")(lambda *_: True),
    ),
    Rule(
        "GROUPED_CONV",
        "warning",
        "The GPU delegate crashes, or gives back wrong numbers or zeros; it says why in its log at "
        "most.",
        "A convolution of several groups, each of a number of channels or filters that is no "
        "multiple of 4; or, in int8, a grouped convolution of 1x1.",
        "Convert with `to_tflite`, which writes it otherwise, or use fewer `groups`, so that 4 "
        "divides the channels and filters of each, and in int8 a kernel of 3x3; or "
        "DepthwiseConv2D.",
        _grouped_conv,
    ),
    Rule(
        "ONE_WAY_SPLIT",
        "warning",
        "The GPU delegate aborts the process.",
        "A split has one output, so that it splits nothing.",
        "Convert with `to_tflite`, which leaves it out, or leave the split out where "
        "there is one part.",
        _one_way_split,
    ),
    Rule(
        "UNSAFE_EXP",
        "warning",
        "Infinity or NaN in float16 arithmetic, from about 11 on.",
        "An exponential is taken without the maximum subtracted first, and float16 ends at 65504.",
        "Use the softmax operator, or subtract the maximum (REDUCE_MAX) first.",
        _unsafe_exp,
        inside=True,
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
        "CONTROL_FLOW",
        "warning",
        "The GPU delegate refuses the model.",
        "A loop or a branch runs graphs of its own.",
        "Write the steps out, or use `keras.ops.vectorized_map` in place of `map`, and "
        "`keras.ops.where` in place of `cond`.",
        operators("WHILE", "IF")(lambda *_: True),
    ),
    Rule(
        "LOG_SOFTMAX",
        "warning",
        "The GPU delegate refuses the operator.",
        "The delegate has no log-softmax; the CPU has, and in int8 it keeps the attention alive.",
        "For the GPU, convert with `to_tflite` in a float precision, where x - max - "
        "log(sum(exp(x - max))) is written for it, or in int8 with `attention='float'`.",
        operators("LOG_SOFTMAX")(lambda *_: True),
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

RULES: dict[str, Rule] = {rule.code: rule for rule in [*_RULES, *gpu_rules.RULES]}
