"""Damaged and hostile `.tflite` files: found by fuzzing, each of a kind of its own.

What is refused when a file is read, LiteRT refuses too: that is asked of it. Imports no TensorFlow.
"""

import resource
import time

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import test_lint
from converters import lint, runtime
from converters.inspection import inspect
from converters.tflite.app_metadata import AppMetadata, with_app_metadata
from converters.tflite.flatbuffer import TfliteFile, packed
from converters.tflite.marks import mark_attention
from converters.tflite.rewrites import rewritten
from converters.tflite.sites import find_sites
from converters.verify.compare import Judge, verify
from converters.verify.targets import CPU, Runner
from lint_graphs import IMAGE, T, build

MAP = (1, 6, 5, 8)


def case(code, wrong=True):
    return test_lint.CASES[code][not wrong]


def changed(content, change):
    """A file with its first graph changed."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    change(model, model.subgraphs[0])
    return packed(model).content


def shape(index, *sizes):
    return lambda model, graph: setattr(graph.tensors[index], "shape", list(sizes))


def steps(scales, zeros, axis=0):
    def change(model, graph):
        tensor = next(t for t in graph.tensors if t.quantization and t.buffer)
        given = tensor.quantization
        given.scale, given.zeroPoint, given.quantizedDimension = scales, zeros, axis

    return change


def ends(number, **lists):
    def change(model, graph):
        for key, value in lists.items():
            setattr(graph.operators[number], key, value)

    return change


def cut(model, graph):
    buffer = next(b for b in model.buffers if b.data is not None and len(b.data) > 8)
    buffer.data = buffer.data[:-4]


# What is read of the file does not belong together.
DAMAGED = {
    "a constant that is cut": changed(case("PADDED_CONSTANT"), cut),
    "a constant of a larger shape": changed(case("PADDED_CONSTANT"), shape(4, 9, 3, 3, 8)),
    "a negative size": changed(case("STEEP_LEAK"), shape(0, 1, -6, 5, 8)),
    "a shape beyond all memory": changed(case("STEEP_LEAK"), shape(0, *[1 << 30] * 4)),
    "a step without its zero": changed(case("STRIDED_POINTWISE"), steps([0.1], None)),
    "steps along no axis": changed(case("STRIDED_POINTWISE"), steps([0.1] * 3, [0] * 3, 9)),
    "steps of another number": changed(case("STRIDED_POINTWISE"), steps([0.1] * 3, [0] * 3)),
    "an operator without inputs": changed(case("TRANSPOSED_SAME"), ends(0, inputs=[])),
    "an operator with one left out": changed(case("TRANSPOSED_SAME"), ends(0, inputs=[1, -1, 0])),
    "an operator without outputs": changed(case("STEEP_LEAK"), ends(0, outputs=[])),
    "an operator of no tensor": changed(case("STEEP_LEAK"), ends(0, inputs=[99])),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_line_when_read(name, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(DAMAGED[name])
    for read in (lint, inspect):
        with pytest.raises(ValueError, match="truncated or damaged LiteRT model.* Received: "):
            read(path)
    shapes = [t.shape for t in TfliteFile(case("STEEP_LEAK")).graph.inputs]
    found = runtime.run(DAMAGED[name], np.ones(shapes[0], "float32"), repeats=0, timeout=60)
    assert found.outcome in ("refused", "crashed"), found


def bomb(tensors, graphs=1, name=1, sizes=0):
    """A file whose offsets point to one tensor, name and shape again and again."""
    builder = flatbuffers.Builder(1024)
    named = builder.CreateString("x" * name)
    shape = builder.CreateNumpyVector(np.ones(sizes, np.int32))
    schema.TensorStart(builder)
    schema.TensorAddName(builder, named)
    schema.TensorAddShape(builder, shape)
    tensor = schema.TensorEnd(builder)

    def again(start, offset, count):
        start(builder, count)
        for _ in range(count):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    many = again(schema.SubGraphStartTensorsVector, tensor, tensors)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, many)
    graph = schema.SubGraphEnd(builder)
    several = again(schema.ModelStartSubgraphsVector, graph, graphs)
    schema.BufferStart(builder)
    buffers = again(schema.ModelStartBuffersVector, schema.BufferEnd(builder), 1)
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, several)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


BOMBS = {
    "tensors": bomb(200_000),
    "graphs": bomb(1000, graphs=1000),
    "names": bomb(10_000, name=1_000_000),
    "shapes": bomb(5000, sizes=1_000_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_is_no_large_memory(name):
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ValueError, match="truncated or damaged LiteRT model"):
        lint(BOMBS[name])
    assert time.process_time() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # kilobytes
    assert lint(bomb(3, graphs=2, name=9, sizes=4)) == []


def test_an_operator_that_reads_itself_comes_to_an_end():
    softmax = ("EXP", ["a"], ["a"])
    kernel = T((8, 1, 1, 2), value=np.repeat(np.eye(2), 4, axis=0)[:, None, None])
    tensors = {"x": T(MAP), "a": T((1, 6, 5, 2)), "k": kernel, "b": T((8,), value=1.0)}
    tensors |= {"s": T(MAP), "y": T(MAP)}
    calls = [
        softmax,
        ("CONV_2D", ["a", "k", "b"], ["s"], schema.Conv2DOptionsT()),
        ("MUL", ["x", "s"], ["y"], schema.MulOptionsT()),
    ]
    file = TfliteFile(build(tensors, calls, ["x"], ["y"]))
    assert "UNSAFE_EXP" in {finding.code for finding in lint(file)}
    rewritten(file)


def test_a_part_that_is_made_of_itself_comes_to_an_end():
    """A tensor that two operators make, the later one of what reads it."""
    options = schema.SplitOptionsT()
    options.numSplits = 2
    half = T((1, 6, 5, 4))
    tensors = {"x": T(MAP), "axis": T((), "INT32", 3), "p": half, "q": half, "s": half}
    calls = [
        ("SPLIT", ["axis", "x"], ["p", "q"], options),
        ("LOGISTIC", ["p"], ["s"]),
        ("ABS", ["s"], ["p"]),
    ]
    file = TfliteFile(build(tensors, calls, ["x"], ["p"]))
    lint(file)
    rewritten(file)


@pytest.mark.parametrize("shape", [MAP, (1, 6, 5, 4, 2)])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_views_of_each_other_come_to_an_end(shape, order):
    high = T((1, 6, 5, 2, 4))
    tensors = {"x": T(MAP), "a": T(shape), "b": high, "c": high, "y": T(MAP)}
    sizes = {"4": MAP, "5": high.shape, "of a": shape, "order": (0, 1, 2, 4, 3)}
    tensors |= {name: T((len(value),), "INT32", value) for name, value in sizes.items()}
    circle = [("RESHAPE", ["a", "5"], ["b"]), ("RESHAPE", ["b", "of a"], ["a"])]
    calls = [
        *(circle[number] for number in order),
        ("TRANSPOSE", ["b", "order"], ["c"]),
        ("RESHAPE", ["c", "4"], ["y"]),
    ]
    file = rewritten(TfliteFile(build(tensors, calls, ["x"], ["y"])))
    assert max(len(tensor.shape) for tensor in file.graph.tensors) == 4


def test_what_a_file_leaves_out_is_an_empty_list():
    def emptied(model, graph):
        graph.inputs = graph.operators[0].inputs = model.metadata = None
        model.signatureDefs = [schema.SignatureDefT()]

    custom = ("Mine", [], ["m"])
    logarithm = ("LOG_SOFTMAX", ["m"], ["y"])
    tensors = {"m": T(MAP), "y": T(MAP)}
    file = TfliteFile(changed(build(tensors, [custom, logarithm], [], ["y"]), emptied))
    names = [operator.name for operator in rewritten(file).graph.operators]
    assert names[0] == "Mine" and "LOG_SOFTMAX" not in names
    mark_attention(file, {"y": "layer"})


BLOCK = {"x": MAP, "z": (1, 30, 2), "a": (1, 6, 5, 2), "s": MAP, "y": MAP}


@pytest.mark.parametrize(
    "shapes, count",
    [
        ({}, 1),
        ({"a": (30, 2)}, 0),
        ({"a": (1, 5, 6, 2)}, 0),
        ({"a": (1, 6, 5, 0), "z": (0,)}, 0),
        ({"a": (1, 6, 5, 3), "z": (1, 30, 3)}, 0),
        ({"z": (1, 29, 2)}, 0),
        ({"y": (2, *MAP[1:])}, 0),
        ({"x": (8,)}, 0),
    ],
)
def test_a_block_has_the_shapes_of_one(shapes, count):
    tensors = {name: T(sizes) for name, sizes in BLOCK.items()} | {"b": T((8,), value=1.0)}
    tensors["k"] = T((8, 1, 1, 2), value=np.repeat(np.eye(2), 4, axis=0)[:, None, None])
    calls = [
        ("SOFTMAX", ["z"], ["a"], schema.SoftmaxOptionsT()),
        ("CONV_2D", ["a", "k", "b"], ["s"], schema.Conv2DOptionsT()),
        ("MUL", ["x", "s"], ["y"], schema.MulOptionsT()),
    ]

    def sizes(model, graph):
        for number, name in enumerate(BLOCK):
            graph.tensors[number].shape = list(shapes.get(name, BLOCK[name]))

    content = changed(build(tensors, calls, ["x", "z"], ["y"]), sizes)
    assert len(find_sites(TfliteFile(content).graph)) == count


def test_names_that_are_no_text_for_a_terminal(tmp_path, command):
    """An escape sequence of a file is told, not obeyed."""
    name = "in\x1b[31m\nside"
    content = build({name: T(IMAGE), "y": T(IMAGE)}, [("A\x1b[2J", [name], ["y"])], [name], ["y"])
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    for asked in ("inspect", "lint"):
        told = command(asked, path)[1]
        assert all(map(str.isprintable, told.splitlines())) and r"A\x1b[2J" in told
    assert str(lint(content)[0]).isprintable()
    with pytest.raises(ValueError, match="of classes") as caught:
        with_app_metadata(TfliteFile(build({"a\n": T((1, 4, 4, 3))}, [], ["a\n"], ["a\n"])),
                          AppMetadata(("label",)))  # fmt: skip
    assert str(caught.value).isprintable()


def without_options(model, graph):
    for operator in graph.operators:
        operator.builtinOptions, operator.builtinOptionsType = None, 0


def other_options(model, graph):
    for operator in graph.operators:
        operator.builtinOptions = schema.MulOptionsT()
        operator.builtinOptionsType = schema.BuiltinOptions.MulOptions


@pytest.mark.parametrize("options", [without_options, other_options])
@pytest.mark.parametrize("code", sorted(test_lint.CASES))
def test_options_that_are_not_an_operators_own(code, options):
    """The runtime takes its zeros for them."""
    file = TfliteFile(changed(case(code), options))
    lint(file)
    try:
        rewritten(file)
    except ValueError as error:
        assert "do not fit" in str(error) and str(error).isprintable()


UNFITTING = {
    "a stride of 0": changed(
        case("STRIDED_POINTWISE"),
        lambda model, graph: vars(graph.operators[1].builtinOptions).update(strideH=0),
    ),
    "a window of gigabytes": changed(
        case("PADDED_POOL"),
        lambda model, graph: vars(graph.operators[1].builtinOptions).update(
            filterHeight=1 << 15, filterWidth=1 << 15
        ),
    ),
    "sizes beyond all numbers": build(
        {"x": T((1, 4, 6, 8, (1 << 31) - 1)), "y": T((1, 4, 6, 6))},
        [("EXPAND_DIMS", ["x", "x"], ["y"])],
        ["y"],
        ["y"],
    ),
    "a product of vectors": changed(case("BROADCAST_PRODUCT"), shape(2, 8)),
}


@pytest.mark.parametrize("name", UNFITTING)
def test_shapes_that_do_not_fit_are_not_rewritten(name):
    file = TfliteFile(UNFITTING[name])
    lint(file)
    with pytest.raises(ValueError, match="do not fit each other.* Received: .* in '") as caught:
        rewritten(file)
    assert str(caught.value).isprintable()


def unary(x, output=None, inputs=("in0",), outputs=("out",)):
    tensors = {"in0": x, "out": output or x}
    return build(tensors, [("ABS", ["in0"], ["out"])], inputs, outputs)


INCOMPARABLE = {
    "a name that cannot be printed": (
        changed(unary(T(IMAGE)), lambda _, graph: vars(graph.tensors[0]).update(name="a\n\x1b[0m")),
        "x1b",
    ),
    "no input": (unary(T(IMAGE), inputs=()), "with 0 inputs"),
    "no output": (unary(T(IMAGE), outputs=()), "1 inputs, 0 outputs"),
    "complex numbers": (unary(T(IMAGE, "COMPLEX64")), "complex64"),
    "text": (unary(T(IMAGE, "STRING")), "string"),
    "nothing in it": (changed(unary(T(IMAGE)), shape(0, 1, 0, 4, 8)), "0, 4, 8"),
    "steps for each channel": (unary(T(IMAGE, "INT8", scale=0.1)), "of 8 scales"),
    "terabytes": (unary(T((1, 1 << 15, 1 << 15, 99))), "shapes .*32768"),
    "a batch of millions": (unary(T((1 << 24, 4, 4, 8))), "a batch of 16777216"),
}


def per_channel(model, graph):
    for tensor in graph.tensors:
        tensor.quantization.scale, tensor.quantization.zeroPoint = [0.1] * 8, [0] * 8
        tensor.quantization.quantizedDimension = 3


@pytest.mark.parametrize("name", INCOMPARABLE)
def test_what_cannot_be_compared(name, tmp_path):
    content, said = INCOMPARABLE[name]
    path = tmp_path / "model.tflite"
    path.write_bytes(changed(content, per_channel) if "each channel" in name else content)
    with pytest.raises(ValueError, match=f"Received: .*{said}") as caught:
        verify(*(str(path), str(path)), judge=Judge(), targets=CPU[:1], runner=Runner(timeout=60))
    assert str(caught.value).isprintable()


def test_steps_of_floats_are_none():
    """Files have them now and then; no kernel looks at them."""
    assert TfliteFile(unary(T(IMAGE, scale=0.5))).graph.inputs[0].scales == ()


def test_forty_dimensions_are_not_grouped_in_every_way():
    """Found by fuzzing: 9,139 ways for each operator."""
    tall = T((2, 1) * 20)
    names = ["x", *(f"y{number}" for number in range(60))]
    calls = [("ABS", [a], [b]) for a, b in zip(names, names[1:], strict=False)]
    flat = T((1, 1, 1, 1 << 20))
    tensors = {"in": flat, "s": T((40,), "INT32", tall.shape), "t": T((4,), "INT32", flat.shape)}
    tensors |= dict.fromkeys(names, tall) | {"out": flat}
    ends = [("RESHAPE", ["in", "s"], ["x"]), ("RESHAPE", [names[-1], "t"], ["out"])]
    file = TfliteFile(build(tensors, [ends[0], *calls, ends[1]], ["in"], ["out"]))
    started = time.process_time()
    assert rewritten(file) is file
    assert time.process_time() - started < 1
