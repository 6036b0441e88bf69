"""The static check of a .tflite file, on graphs written tensor by tensor.

Most graphs are built with the flatbuffer schema itself, so that each holds one fault and nothing
else; the plan of the CPU runtime is checked against the runtime. Imports no TensorFlow.
"""

import struct
import subprocess
import sys

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st

import gpu_lint_cases
from converters import lint
from converters.tflite import RULES
from lint_graphs import IMAGE, T, branch, build, one


def conv(in_channels: int) -> bytes:
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = 1
    kernel = T((8, 1, 1, in_channels), value=0.5)
    return one("CONV_2D", T(IMAGE), kernel, T((8,), value=0.0), options=[options])


def split(parts: int) -> bytes:
    options = schema.SplitOptionsT()
    options.numSplits = parts
    more = {f"part{i}": T(IMAGE) for i in range(1, parts)}
    return one("SPLIT", T((), "INT32", 3), T((1, 4, 4, 8 * parts)), options=[options], **more)


def exp_after(*operators, **tensors) -> bytes:
    """EXP of the tensor `s` that the given operators compute from `x`."""
    tensors = {"x": T(IMAGE), "axis": T((1,), "INT32", 3), "s": T(IMAGE)} | tensors
    return build(tensors | {"out": T(IMAGE)}, [*operators, ("EXP", ["s"], ["out"])], ["x"], ["out"])


def view_then(operator: str, later: str) -> bytes:
    """x = |in0| + in1; the view r of x is an input of `operator`; then `later` is read."""
    flat = (1, 16, 8)
    tensors = {
        "in0": T(IMAGE), "in1": T(IMAGE), "in2": T(flat), "a": T(IMAGE), "x": T(IMAGE),
        "shape": T((3,), "INT32", flat), "r": T(flat), "y": T(flat),
        "back": T((4,), "INT32", IMAGE), "z": T(IMAGE), "out": T(IMAGE),
    }  # fmt: skip
    operands = ["r"] if operator in ("SOFTMAX", "ABS") else ["r", "in2"]
    options = {"SOFTMAX": schema.SoftmaxOptionsT, "MUL": schema.MulOptionsT}.get(operator)
    if operator == "SOFTMAX":
        made = schema.SoftmaxOptionsT()
        made.beta = 1.0
    else:
        made = options() if options else None
    calls = [
        ("ABS", ["in0"], ["a"]),
        ("ADD", ["a", "in1"], ["x"], schema.AddOptionsT()),
        ("RESHAPE", ["x", "shape"], ["r"]),
        (operator, operands, ["y"], *([made] if made else [])),
        ("RESHAPE", ["y", "back"], ["z"]),
        ("ADD", ["z", later], ["out"], schema.AddOptionsT()),
    ]
    return build(tensors, calls, ["in0", "in1", "in2"], ["out"])


def flip(scale: float) -> bytes:
    """Integers of 1/32 in the order of columns reversed, as integers of another scale."""
    integers, result = T(IMAGE, "INT8", scale=1 / 32), T(IMAGE, "INT8", scale=scale)
    options = schema.ReverseV2OptionsT()
    return one("REVERSE_V2", integers, T((1,), "INT32", 2), output=result, options=[options])


def compared(scale: float) -> bytes:
    """Whether integers of a scale are less than a constant of 1/4096."""
    given, limit = T(IMAGE, "INT8", scale=scale), T((8,), "INT8", 3, 1 / 4096)
    return one("LESS", given, limit, output=T(IMAGE, "BOOL"), options=[schema.LessOptionsT()])


STATISTIC = (1, 4, 4, 1)
MAXIMUM = ("REDUCE_MAX", ["x", "axis"], ["m"])
SUBTRACT = ("SUB", ["x", "m"], ["s"])

TWICE = build({"x": T(IMAGE), "out": T(IMAGE)}, [("MAXIMUM", ["x", "x"], ["out"])], ["x"], ["out"])

# Reason code: a graph that breaks the rule, and its nearest neighbour that does not.
CASES = {
    "FLEX_OP": (one("FlexErf", T(IMAGE)), one("ABS", T(IMAGE))),
    "CUSTOM_OP": (one("MyOperator", T(IMAGE)), one("ABS", T(IMAGE))),
    "DYNAMIC_SHAPE": (
        one("ABS", T((-1, 4, 4, 8)), output=T((-1, 4, 4, 8))),
        one("ABS", T(IMAGE)),
    ),
    "NON_FINITE": (
        one("ADD", T(IMAGE), T((8,), value=[1, 2, 3, np.nan, 5, 6, 7, 8])),
        one("ADD", T(IMAGE), T((8,), value=3e38)),
    ),
    "FLOAT16_SATURATED": (
        one("DEQUANTIZE", T(IMAGE, "FLOAT16", -65504.0)),
        one("DEQUANTIZE", T(IMAGE, "FLOAT16", 65472.0)),
    ),
    "OVERWRITTEN": (view_then("MUL", later="x"), view_then("MUL", later="in1")),
    "COPIED_STEPS": (flip(1 / 16), flip(1 / 32)),
    "COMPARED_STEPS": (compared(1 / 600), compared(1 / 500)),
    "RANK": (
        one("ABS", T((1, 4, 4, 2, 4)), output=T((1, 4, 4, 2, 4))),
        # A constant's rank does not matter.
        one("RESHAPE", T((1, 4, 4, 2, 4), value=1.0), T((4,), "INT32", IMAGE)),
    ),
    "BROADCAST_TO": (
        one("BROADCAST_TO", T((1, 1, 1, 8)), T((4,), "INT32", IMAGE)),
        one("ADD", T((1, 1, 1, 8)), T(IMAGE, value=1.0)),
    ),
    "GROUPED_CONV": (conv(in_channels=2), conv(in_channels=4)),
    "ONE_WAY_SPLIT": (split(1), split(2)),
    "UNSAFE_EXP": (
        exp_after(("ABS", ["x"], ["s"])),
        exp_after(MAXIMUM, SUBTRACT, m=T(STATISTIC)),
    ),
    "REPEATED_INPUT": (
        TWICE,
        build({"x": T(IMAGE), "out": T(IMAGE)}, [("MUL", ["x", "x"], ["out"])], ["x"], ["out"]),
    ),
    # What only the delegate minds, as one tensor for two inputs, does not matter inside.
    "CONTROL_FLOW": (branch(TWICE, one("ABS", T(IMAGE))), one("ABS", T(IMAGE))),
    "LOG_SOFTMAX": (one("LOG_SOFTMAX", T(IMAGE)), one("LOGISTIC", T(IMAGE))),
    "DTYPE": (
        one("CAST", T(IMAGE), output=T(IMAGE, "INT64")),
        one("CAST", T(IMAGE), output=T(IMAGE, "INT32")),
    ),
} | gpu_lint_cases.CASES


def codes(tflite) -> set[str]:
    return {finding.code for finding in lint(tflite)}


def test_every_rule_has_a_case():
    assert set(CASES) == set(RULES)


@pytest.mark.parametrize(
    ("code", "broken", "sound"),
    [*((code, *pair) for code, pair in CASES.items()), *gpu_lint_cases.KIN],
)
def test_rule(code, broken, sound):
    assert codes(broken) == {code}
    assert codes(sound) == set()


@pytest.mark.parametrize("code", CASES)
def test_finding_says_what_it_is_about(code):
    finding = lint(CASES[code][0])[0]
    rule = RULES[code]
    parts = ("severity", "symptom", "meaning", "advice")
    assert [getattr(finding, part) for part in parts] == [getattr(rule, part) for part in parts]
    assert all(part in str(finding) for part in (rule.symptom, rule.meaning, rule.advice))
    assert all(text.endswith(".") for text in (rule.symptom, rule.meaning, rule.advice))
    assert finding.tensors
    assert finding.where.startswith(("operator ", "input ", "output ", "constant "))
    assert str(finding).startswith(f"{code}: {finding.where}: ")
    assert "\n" not in str(finding)
    with pytest.raises(AttributeError):
        finding.code = "OTHER"


def test_the_cpu_copies_bytes():
    x = np.random.default_rng(0).integers(-128, 128, IMAGE, "int8")
    for resolver in (OpResolverType.BUILTIN, OpResolverType.BUILTIN_REF):
        interpreter = Interpreter(
            model_content=flip(1 / 16), experimental_op_resolver_type=resolver
        )
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        (answer,) = interpreter.get_output_details()
        np.testing.assert_array_equal(interpreter.get_tensor(answer["index"]), x[:, :, ::-1])


def test_where_and_tensors():
    (finding,) = lint(view_then("MUL", later="x"))
    assert finding.where == "operator 3 (MUL)"
    assert finding.tensors == ("x",)


@pytest.mark.parametrize(
    ("tflite", "safe"),
    [
        (exp_after(("LOG_SOFTMAX", ["x"], ["s"])), True),
        (
            exp_after(
                MAXIMUM,
                ("SUB", ["x", "m"], ["d"]),
                ("RESHAPE", ["d", "shape"], ["s"]),
                m=T(STATISTIC),
                d=T((1, 16, 8)),
                shape=T((4,), "INT32", IMAGE),
            ),
            True,
        ),
        (
            exp_after(("MEAN", ["x", "axis"], ["m"]), SUBTRACT, m=T(STATISTIC)),
            False,
        ),
        (exp_after(("SUB", ["c", "x"], ["s"]), c=T(IMAGE, value=1.0)), False),
        (one("EXP", T(IMAGE)), False),
    ],
    ids=["log_softmax", "max_then_reshape", "mean_subtracted", "constant_minus", "of_input"],
)
def test_exp_needs_the_maximum_subtracted(tflite, safe):
    assert codes(tflite) - {"LOG_SOFTMAX"} == (set() if safe else {"UNSAFE_EXP"})


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        (("pad_1/Const", "pad_1/Pad", "act_1/Relu;block_1/pool_1/AvgPool"), ("block/pool", "pad")),
        (("pad/Const", "pad/Pad", "pool/AvgPool"), ("pool", "pad")),
        (("arith.constant", "pad", "PartitionedCall:0"), ()),
    ],
)
def test_a_finding_names_the_layers(names, layers):
    """As the converter names tensors; Keras puts `_1` behind a layer that is traced again."""
    amounts, padded, pooled = names
    tensors = {"x": T(gpu_lint_cases.MAP), amounts: gpu_lint_cases.BORDER}
    tensors |= {padded: T(gpu_lint_cases.PADDED), pooled: T((1, 4, 3, 8))}
    calls = [
        gpu_lint_cases.pad("x", amounts, padded),
        gpu_lint_cases.pool("AVERAGE_POOL_2D", padded, pooled),
    ]
    (finding,) = lint(build(tensors, calls, ["x"], [pooled]))
    of = [f" of layer {layer!r}" for layer in layers] or ["", ""]
    assert finding.layers == layers
    assert finding.where == (f"operator 1 (AVERAGE_POOL_2D){of[0]}, after operator 0 (PAD){of[1]}")


def test_one_tensor_as_two_outputs():
    assert codes(gpu_lint_cases.output_twice("z")) == {"OUTPUT_TWICE"}


# ------------------------------------------------- the CPU runtime's memory plan, run for real


def outputs(tflite: bytes, *, resolver, keep_tensors: bool) -> list[np.ndarray]:
    runner = Interpreter(
        model_content=tflite,
        experimental_op_resolver_type=resolver,
        experimental_preserve_all_tensors=keep_tensors,
    )
    runner.allocate_tensors()
    rng = np.random.default_rng(0)
    for detail in runner.get_input_details():
        value = rng.uniform(0.5, 1.5, detail["shape"]).astype(np.float32)
        runner.set_tensor(detail["index"], value)
    runner.invoke()
    return [runner.get_tensor(detail["index"]) for detail in runner.get_output_details()]


def overwritten(tflite: bytes, resolver=OpResolverType.BUILTIN_REF) -> bool:
    """Whether memory planning changes the numbers: with every tensor kept there is no sharing."""
    shared = outputs(tflite, resolver=resolver, keep_tensors=False)
    kept = outputs(tflite, resolver=resolver, keep_tensors=True)
    return not all(np.array_equal(a, b) for a, b in zip(shared, kept, strict=True))


@pytest.mark.parametrize(
    "resolver", [OpResolverType.BUILTIN_REF, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES]
)
@pytest.mark.parametrize("later", ["x", "in1"])
@pytest.mark.parametrize(
    "operator", ["ADD", "SUB", "MUL", "DIV", "SOFTMAX", "ABS", "MAXIMUM", "MINIMUM"]
)
def test_overwritten_is_what_the_runtime_does(operator, later, resolver):
    tflite = view_then(operator, later)
    assert ("OVERWRITTEN" in codes(tflite)) == overwritten(tflite, resolver)


@pytest.mark.parametrize("a_is_read_again", [True, False])
def test_overwritten_depends_on_the_first_owner(a_is_read_again):
    """r is a view of a, y = r * c takes a's memory over unless a is read again, v is a view of y,
    and v * d may then overwrite y, which is read again."""
    flat, square = T((1, 128)), T(IMAGE)
    tensors = {
        "a": square, "c": flat, "d": square, "in": square, "r": flat, "y": flat, "v": square,
        "z": square, "w": flat, "out": flat, "again": square,
        "flat": T((2,), "INT32", (1, 128)), "square": T((4,), "INT32", IMAGE),
    }  # fmt: skip
    multiply, add = schema.MulOptionsT(), schema.AddOptionsT()
    calls = [
        ("ABS", ["in"], ["a"]),
        ("RESHAPE", ["a", "flat"], ["r"]),
        ("MUL", ["r", "c"], ["y"], multiply),
        ("RESHAPE", ["y", "square"], ["v"]),
        ("MUL", ["v", "d"], ["z"], multiply),
        ("RESHAPE", ["z", "flat"], ["w"]),
        ("ADD", ["y", "w"], ["out"], add),
    ]
    if a_is_read_again:
        calls.append(("ABS", ["a"], ["again"]))
    else:
        del tensors["again"]
    tflite = build(tensors, calls, ["in", "c", "d"], ["out", *(["again"] * a_is_read_again)])
    assert overwritten(tflite) != a_is_read_again
    assert ("OVERWRITTEN" in codes(tflite)) != a_is_read_again


@st.composite
def chains(draw):
    """Random graphs of views and elementwise operators on tensors of 16 values, all of it used."""
    shapes = {"a": (1, 4, 4, 1), "b": (1, 16), "c": (2, 8)}
    tensors = {f"shape_{k}": T((len(s),), "INT32", s) for k, s in shapes.items()}
    tensors |= {"in": T(shapes["a"]), "start": T(shapes["a"])}
    layout = {"start": "a"}
    calls: list[tuple] = [("ABS", ["in"], ["start"])]
    for number in range(draw(st.integers(3, 9))):
        name = f"t{number}"
        operator = draw(st.sampled_from(["RESHAPE", "RESHAPE", "ADD", "MUL", "LOGISTIC"]))
        # The latest tensor as often as not, so that long chains come about.
        source = draw(st.sampled_from([*layout, list(layout)[-1], list(layout)[-1]]))
        layout[name] = layout[source]
        if operator == "RESHAPE":
            layout[name] = draw(st.sampled_from(sorted(shapes)))
            calls.append(("RESHAPE", [source, f"shape_{layout[name]}"], [name]))
        elif operator == "LOGISTIC":
            calls.append((operator, [source], [name]))
        else:
            second = draw(st.sampled_from([t for t in layout if layout[t] == layout[source]][:-1]))
            options = {"ADD": schema.AddOptionsT, "MUL": schema.MulOptionsT}[operator]()
            calls.append((operator, [source, second], [name], options))
        tensors[name] = T(shapes[layout[name]])
    read = {name for _, ins, *_ in calls for name in ins}
    return build(tensors, calls, ["in"], [name for name in layout if name not in read])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(chains())
def test_overwritten_in_random_graphs(tflite):
    assert ("OVERWRITTEN" in codes(tflite)) == overwritten(tflite)


# --------------------------------------------------------------------------------- bad input


def test_bytes_and_paths(tmp_path):
    content = CASES["RANK"][0]
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    assert lint(path) == lint(str(path)) == lint(content) == lint(memoryview(content))


@pytest.mark.parametrize(
    "content",
    [b"", b"TFL3", b"PK\x03\x04" + b"\0" * 60, b"hello, this is a text file", b"\0" * 8],
)
def test_not_a_model(content, tmp_path):
    path = tmp_path / "wrong.tflite"
    path.write_bytes(content)
    for source in (content, path):
        with pytest.raises(ValueError, match="is not a LiteRT model") as caught:
            lint(source)
        assert "\n" not in str(caught.value)


def test_every_truncation_is_noticed():
    content = conv(in_channels=8)
    # A flatbuffer ends with its last object; what may be missing unnoticed is its padding.
    for size in range(8, len(content) - 4, 3):
        with pytest.raises(ValueError, match="truncated or damaged|not a LiteRT model") as caught:
            lint(content[:size])
        assert "\n" not in str(caught.value)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(8, len(CASES["OVERWRITTEN"][0]) - 4), st.integers(0, 2**32 - 1))
def test_damage_is_an_error_or_a_result(position, word):
    content = bytearray(CASES["OVERWRITTEN"][0])
    content[position : position + 4] = struct.pack("<I", word)
    try:
        assert isinstance(lint(bytes(content)), list)
    except ValueError as error:
        assert "\n" not in str(error)


def test_missing_file_and_wrong_type(tmp_path):
    with pytest.raises(FileNotFoundError):
        lint(tmp_path / "missing.tflite")
    with pytest.raises(IsADirectoryError):
        lint(tmp_path)
    with pytest.raises(TypeError, match="Received: int"):
        lint(3)


def test_linting_needs_no_tensorflow(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(CASES["RANK"][0])
    program = (
        "import sys; from converters import lint; print(lint(sys.argv[1])[0].code); "
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert result.stdout.split("\n")[:2] == ["RANK", "[]"]


def test_chains_as_long_as_they_may_be():
    """What looks back from an operator comes to an end, and is no recursion."""
    shapes = {f"x{i}": T(IMAGE) for i in range(3001)}
    tensors = shapes | {"s": T((4,), "INT32", IMAGE), "y": T(IMAGE)}
    calls = [("RESHAPE", [f"x{i}", "s"], [f"x{i + 1}"]) for i in range(3000)]
    tflite = build(tensors, [*calls, ("EXP", ["x3000"], ["y"])], ["x0"], ["y"])
    assert codes(tflite) == {"UNSAFE_EXP"}
    pad = gpu_lint_cases.around(0, 0, 0, 0, 0, 0, 0, 0)
    calls = [gpu_lint_cases.pad(f"x{i}", "p", f"x{i + 1}") for i in range(3000)]
    border = gpu_lint_cases.pad("x3000", "b", "m")
    tensors = shapes | {"p": pad, "b": gpu_lint_cases.around(0, 0, 1, 1, 1, 1, 0, 0)}
    tensors |= {"m": T((1, 6, 6, 8)), "y": T((1, 3, 3, 8))}
    calls += [border, gpu_lint_cases.pool("MAX_POOL_2D", "m", "y")]
    assert codes(build(tensors, calls, ["x0"], ["y"])) == {"PADDED_POOL"}
