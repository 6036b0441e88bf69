"""Programs for the tests, and an oracle: PyTorch runs a program node by node, as it was read."""

import json
import operator
import re
import zipfile
from io import BytesIO

import numpy as np
import torch

from converters.program import Dtype, Ref


def tensor(array):
    return torch.from_numpy(np.array(array, order="C"))  # ascontiguousarray makes scalars lists


def run(program, inputs):
    """Compute a program with PyTorch's operators.

    Args:
        program: What `read_program` gave.
        inputs: Arrays by the inputs' names.

    Returns:
        Arrays (and numbers) by the outputs' names.
    """
    values = {end.value: tensor(inputs[end.name]) for end in program.inputs}
    values.update((name, tensor(program.tensors[w.key])) for name, w in program.weights.items())
    for node in program.nodes:
        function = _function(node.target)
        arguments = {key: _torch(value, values) for key, value in node.arguments.items()}
        if function.__class__.__name__ == "builtin_function_or_method":
            result = function(*arguments.values())
        else:
            result = function(**arguments)
        results = result if isinstance(result, tuple | list) else (result,)
        values.update(zip((o for o in node.outputs), results, strict=False))
    return {
        end.name: values[end.value] if isinstance(end.value, str) else end.value
        for end in program.outputs
    }


def _function(target):
    if target.startswith("_operator."):
        return getattr(operator, target.removeprefix("_operator."))
    namespace, name, overload = target.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), name), overload)


def _torch(argument, values):
    match argument:
        case Ref(name=name):
            return values[name]
        case Dtype(name=name):
            return getattr(torch, name)
        case tuple():
            return [_torch(item, values) for item in argument]
        case "strided":
            return torch.strided
        case str() if argument.startswith("cpu"):
            return torch.device(argument)
        case "contiguous" | "preserve":
            return getattr(torch, f"{argument}_format")
    return argument


def members(path):
    """The members of an archive, in order."""
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def write(path, contents, compression=zipfile.ZIP_STORED):
    """An archive of members; a list of pairs may name one twice."""
    stream = BytesIO()
    pairs = contents.items() if isinstance(contents, dict) else contents
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in pairs:
            archive.writestr(name, data)
    path.write_bytes(stream.getvalue())
    return path


def edited(contents, ending, change):
    """The members with the JSON of one changed: `change` is given it and may return another."""
    (name,) = [name for name in contents if name.endswith(ending)]
    content = json.loads(contents[name])
    replaced = change(content)
    return {**contents, name: json.dumps(content if replaced is None else replaced).encode()}


def spelled(contents, old, new):
    """The members with a text of the program's JSON replaced."""
    (name,) = [name for name in contents if re.search(r"models/.*\.json$", name)]
    assert old.encode() in contents[name]
    return {**contents, name: contents[name].replace(old.encode(), new.encode())}
