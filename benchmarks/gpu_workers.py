"""The two child processes of the GPU sweep, which may crash: one builds files, one runs them.

    python gpu_workers.py build | run

Each takes a line of JSON from standard input and answers with one.

- `build`: `{"graphs": [name, ...], "folder": path}` to `{"invalid": {name: why}}` once a file of
  each other graph is in the folder, named by `file_name`. All graphs are one model, converted at
  once and taken apart again, which is ten times as fast as one by one.
- `run`: `{"path": path}` to `{"outcome": ...}`: the file run on the GPU delegate and on the CPU.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import sys
import zlib
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from gpu_graphs import Graph

SAMPLES = 6


def file_name(name: str) -> str:
    """The name of the file of a graph."""
    return hashlib.sha256(name.encode()).hexdigest()[:20] + ".tflite"


# ------------------------------------------------------------------------------------- building


def build(request: dict[str, Any]) -> dict[str, Any]:
    """Makes the files of some graphs, of one precision."""
    import keras

    graphs = [Graph.of(name) for name in request["graphs"]]
    (precision,) = {graph.precision for graph in graphs}
    keras.backend.clear_session()
    networks: dict[str, Network] = {}
    invalid = {}
    for number, graph in enumerate(graphs):
        try:
            networks[f"i{number}"] = Network(graph)
        except Exception as error:  # whatever Keras says of it
            invalid[graph.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    invalid |= _convert(networks, precision, Path(request["folder"]))
    return {"invalid": invalid}


def _convert(networks: dict[str, Network], precision: str, folder: Path) -> dict[str, str]:
    """Writes the files of networks, and says what of them the converter refuses."""
    if not networks:
        return {}
    function, invalid = _traced(networks)
    if invalid := invalid | _refused(function, networks):
        left = {k: n for k, n in networks.items() if n.graph.name not in invalid}
        return invalid | _convert(left, precision, folder)
    try:
        whole = _converted(function, networks, precision)
    except Exception as error:  # the converter's own class is not public
        _UNKNOWN.update(re.findall(r"'tf\.(\w+)' op is neither", str(error)))
        if _refused(function, networks):
            return _convert(networks, precision, folder)
        if len(networks) > 1:
            items = list(networks.items())
            middle = len(items) // 2
            halves = dict(items[:middle]), dict(items[middle:])
            return {k: v for half in halves for k, v in _convert(half, precision, folder).items()}
        (network,) = networks.values()
        found = re.search(r"error: (.+)", str(error))
        return {network.graph.name: f"converter: {(found[1] if found else str(error))[:200]}"}
    for name, network in networks.items():
        content = _part(whole, name, [f"{name}_{place}" for place in range(network.outputs)])
        path = folder / file_name(network.graph.name)
        path.with_suffix(".part").write_bytes(content)
        path.with_suffix(".part").replace(path)
    return {}


# Operations that the converter was seen to have nothing for.
_UNKNOWN: set[str] = set()


def _refused(function: Any, networks: dict[str, Network]) -> dict[str, str]:
    """Networks of such operations, by which."""
    found = {o.name.split("/")[0]: o.type for o in function.graph.get_operations()
             if o.type in _UNKNOWN}  # fmt: skip
    return {
        networks[name].graph.name: f"converter: 'tf.{kind}' op is neither a custom op nor a flex op"
        for name, kind in found.items()
        if name in networks
    }


def _traced(networks: dict[str, Network]) -> tuple[Any, dict[str, str]]:
    """All the networks as one function, and what Keras says of those that cannot be part of it."""
    import tensorflow as tf

    invalid = {}

    def trace(**inputs: Any) -> dict[str, Any]:
        outputs = {}
        for name, x in inputs.items():
            try:
                with tf.name_scope(name):
                    made = [tf.identity(y) for y in networks[name].frozen(x)]
            except Exception as error:
                text = " ".join(str(error).split())[:200]
                invalid[networks[name].graph.name] = f"{type(error).__name__}: {text}"
                continue
            outputs |= {f"{name}_{place}": y for place, y in enumerate(made)}
        return outputs

    specs = {k: tf.TensorSpec(n.graph.shape, tf.float32, name=k) for k, n in networks.items()}
    return tf.function(trace, autograph=False).get_concrete_function(**specs), invalid


def _converted(function: Any, networks: dict[str, Network], precision: str) -> bytes:
    """The file of such a function."""
    import tensorflow as tf

    shapes = {name: network.graph.shape for name, network in networks.items()}
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        sets = tf.lite.OpsSet
        converter.target_spec.supported_ops = [sets.TFLITE_BUILTINS_INT8, sets.TFLITE_BUILTINS]
        converter.representative_dataset = lambda: (
            {name: values(shape, seed) for name, shape in shapes.items()} for seed in range(SAMPLES)
        )
    return converter.convert()


class Network:
    """A graph in Keras, with weights of its own.

    It is run once for its layers, and traced with their weights as constants: a functional model
    of Keras traces each layer by itself too, which takes longer than all the rest.
    """

    def __init__(self, graph: Graph) -> None:
        import keras

        self.graph = graph
        self._layers: list[keras.layers.Layer] = []
        self.outputs = len(self._run(keras.ops.ones(graph.shape), self._new))
        random = np.random.default_rng(zlib.crc32(graph.text.encode()))
        for variable in [variable for layer in self._layers for variable in layer.weights]:
            if str(variable.dtype).startswith("float"):
                variable.assign(_weights(variable, random))
        variables = [variable for layer in self._layers for variable in layer.variables]
        self._values = [(variable, np.array(variable)) for variable in variables]

    def frozen(self, x: Any) -> list[Any]:
        """What it makes of a tensor of a trace."""
        import keras
        import tensorflow as tf

        constants = [(variable, tf.constant(value)) for variable, value in self._values]
        again = iter(self._layers)
        with keras.StatelessScope(state_mapping=constants):
            return self._run(x, lambda kind, *args, **kwargs: next(again))

    def _new(self, kind: Any, *args: Any, **kwargs: Any) -> Any:
        self._layers.append(kind(*args, **kwargs))
        return self._layers[-1]

    def _run(self, value: Any, layer: Any) -> list[Any]:
        import keras
        import tensorflow as tf

        random = np.random.default_rng(0)
        names = {
            name: functools.partial(layer, kind)
            for name, kind in vars(keras.layers).items()
            if isinstance(kind, type)
        }
        names |= {"ops": keras.ops, "tf": tf}
        names["c"] = lambda *shape: random.normal(size=shape).astype("float32")
        for stage in self.graph.text.split(" -> "):
            sizes = [1, 1, 1, *map(int, value.shape)][-3:]
            made = eval(stage, {**names, "x": value, **dict(zip("HWC", sizes, strict=True))})
            value = made(value) if isinstance(made, keras.layers.Layer) else made
            if any(0 in y.shape for y in keras.tree.flatten(value)):
                raise ValueError("nothing is left")
        return list(keras.tree.flatten(value))


def _weights(variable: Any, random: np.random.Generator) -> np.ndarray:
    """Values that keep the size of what goes through, with biases that matter."""
    if "variance" in variable.path:
        return random.uniform(0.5, 1.5, variable.shape)
    if "gamma" in variable.path or "scale" in variable.path:
        return random.uniform(0.5, 1.5, variable.shape) * random.choice([-1, 1], variable.shape)
    return random.normal(size=variable.shape) / np.sqrt(int(np.prod(variable.shape[:-1])) or 1)


def _part(whole: bytes, given: str, answered: list[str]) -> bytes:
    """The file of one input and its outputs."""
    from converters.tflite.flatbuffer import packed
    from converters.tflite.rewrites.edit import prune

    model = copy(_parsed(whole))
    graph, signature = copy(model.subgraphs[0]), model.signatureDefs[0]
    ends = {e.name.decode(): e.tensorIndex for e in (*signature.inputs, *signature.outputs)}
    producer = {int(t): operator for operator in graph.operators for t in operator.outputs}
    outputs = [ends[name] for name in answered]
    wanted, operators = list(outputs), set()
    while wanted:
        made = producer.get(int(wanted.pop()))
        if made is not None and id(made) not in operators:
            operators.add(id(made))
            wanted += [t for t in made.inputs if t >= 0]
    graph.operators = [copy(o) for o in graph.operators if id(o) in operators]
    graph.name, graph.inputs, graph.outputs = "main", [ends[given]], outputs
    model.subgraphs, model.buffers = [graph], list(model.buffers)
    model.signatureDefs, model.metadata = [], []
    prune(model)
    return packed(model).content


@functools.lru_cache(maxsize=1)
def _parsed(whole: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(whole, 0)


# -------------------------------------------------------------------------------------- running


def values(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """What a graph is given: of both signs, all below 0, or all above, by the seed."""
    drawn = np.random.default_rng(seed).normal(size=shape).astype("float32")
    return (drawn, -np.abs(drawn), np.abs(drawn))[seed % 3]


class Delegate:
    """The GPU delegate, with one device for all files."""

    def __init__(self, half: bool) -> None:
        import ai_edge_litert
        from ai_edge_litert.environment import Environment, EnvironmentOptions

        runtime = os.path.dirname(ai_edge_litert.__file__)
        self._environment = Environment.create(options=EnvironmentOptions(runtime_path=runtime))
        self._half = half

    def __call__(self, path: str, samples: list[np.ndarray]) -> tuple[bool, list[list[np.ndarray]]]:
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        from ai_edge_litert.options import GpuOptions, Options

        gpu = GpuOptions(enforce_f32=not self._half)
        options = Options(HardwareAccelerator.GPU, gpu_options=gpu)
        model = CompiledModel.from_file(path, environment=self._environment, options=options)
        (key,) = model.get_signature_list()
        inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
        order = list(model.get_signature_list()[key]["outputs"])
        details = [model.get_output_tensor_details(key)[name] for name in order]
        answers = []
        for sample in samples:
            inputs[0].write(sample)
            model.run_by_index(0, inputs, outputs)
            answers.append(
                [
                    buffer.read(max(int(np.prod(d["shape"])), 1), d["dtype"]).reshape(d["shape"])
                    for buffer, d in zip(outputs, details, strict=True)
                ]
            )
        return bool(model.is_fully_accelerated()), answers


def on_cpu(path: str, samples: list[np.ndarray], reference: bool = False) -> Any:
    """The same of the interpreter."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_REF if reference else OpResolverType.BUILTIN
    interpreter = Interpreter(
        path, experimental_op_resolver_type=resolver, num_threads=1,
        experimental_preserve_all_tensors=reference,
    )  # fmt: skip
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    answers = []
    for sample in samples:
        interpreter.set_tensor(given["index"], sample)
        interpreter.invoke()
        answers.append(
            [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
        )
    return answers


def distance(found: list[list[np.ndarray]], expected: list[list[np.ndarray]]) -> list[float]:
    """How far outputs are off.

    The largest difference of one, of its largest value over all samples; and the share of its
    values that are off by more than a hundredth of that, as ties fall otherwise in few.
    """
    worst, share = 0.0, 0.0
    for place in range(len(expected[0])):
        a = np.stack([answer[place] for answer in found]).astype("float64")
        b = np.stack([answer[place] for answer in expected]).astype("float64")
        if a.shape != b.shape:
            return [float("inf"), 1.0]
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        scale = np.abs(b[np.isfinite(b)]).max(initial=0.0) or 1.0
        off = np.where(same, 0.0, np.nan_to_num(np.abs(a - b) / scale, nan=np.inf))
        worst = max(worst, float(off.max(initial=0.0)))
        share = max(share, float(np.mean(off > 0.01)) if off.size else 0.0)
    return [worst, round(share, 4)]


def run(delegate: Delegate, path: str, log: Any) -> dict[str, Any]:
    """One file on the delegate and on the CPU."""
    from converters.tflite.flatbuffer import TfliteFile

    graph = TfliteFile(path).graph
    shape = graph.inputs[0].shape
    samples = [values(shape, seed) for seed in range(3)]
    reply: dict[str, Any] = {"operators": [operator.name for operator in graph.operators]}
    try:
        expected = on_cpu(path, samples)
    except (RuntimeError, ValueError) as error:
        return reply | {"outcome": "cpu", "message": " ".join(str(error).split())[:200]}
    start = log()
    try:
        whole, found = delegate(path, samples)
    except (RuntimeError, ValueError) as error:
        message = _refusal(log.since(start)) or " ".join(str(error).split())[:200]
        return reply | {"outcome": "refused", "message": message}
    complaint = re.search(r"(Validation error|Error while).*$", log.since(start), re.M)
    off, share = distance(found, expected)
    reply |= {"outcome": "ran" if whole else "partly", "off": off, "share": share}
    if complaint:
        reply["message"] = complaint[0][:200]
    if reply["off"] > 1e-4:
        with contextlib.suppress(RuntimeError, ValueError):
            reference = on_cpu(path, samples, reference=True)
            reply["cpu_off"] = distance(expected, reference)[0]
            reply["off_reference"] = distance(found, reference)[0]
    return reply


def _refusal(log: str) -> str:
    found = re.search(
        r"operations are not supported by GPU delegate:\n((?:.+\n)+?)(?=.*operations will)", log
    )
    return "; ".join(line.strip() for line in found[1].splitlines())[:300] if found else ""


class Log:
    """What native code wrote to standard error, which is a file."""

    def __call__(self) -> int:
        return os.fstat(2).st_size

    def since(self, start: int) -> str:
        with open("/proc/self/fd/2", "rb") as file:
            file.seek(start)
            return file.read().decode(errors="replace")


def main(job: str, *options: str) -> None:
    """Serves until there are no more requests."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    delegate = Delegate("float16" in options) if job == "run" else None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = run(delegate, request["path"], Log()) if delegate else build(request)
        except Exception as error:
            text = " ".join(str(error).split())
            reply = {"error": f"{type(error).__name__}: {text[:300]}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
