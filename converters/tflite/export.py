"""Keras 3 model to ``.tflite`` bytes.

Imports Keras and TensorFlow inside the functions that use them.
"""

import inspect
import keyword
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from converters.tflite.flatbuffer import read_graphs
from converters.tflite.quiet import without_native_logs
from converters.tflite.rebuild import first_line, float32_model
from converters.tflite.static_check import Finding, lint

Shape = tuple[int, ...]
# The shape of the one input, or those of several by name or in order.
InputShape = Sequence[int] | Mapping[str, Sequence[int]] | Sequence[Sequence[int]]

PRECISIONS = ("float32", "float16", "dynamic_range")


def to_tflite(
    model: Any,
    *,
    precision: str = "float32",
    input_shape: InputShape | None = None,
    representative_data: Any = None,
    inference_type: str = "float32",
) -> bytes:
    """Converts a Keras 3 model to a LiteRT (``.tflite``) model.

    The weights are frozen into the graph, every shape is static, and all operators are LiteRT
    builtins that compute in float32, whatever the dtype policy of the Keras model. The result is
    checked with `lint`: what would not run is an error, what some runtimes refuse or compute
    wrongly is a warning.

    The signature `serving_default` has the names of the `keras.Input`s as inputs (`"input"`, or
    `"input_1"` and so on, for those without a name), and as outputs the keys of the model's
    output dictionary or the names of its output layers. Characters other than letters, digits
    and `_` become `_`; a name that then does not begin with a letter, or that Python reserves,
    gets `input_` or `output_` before it.

    To convert one model to several precisions, `Exporter` traces it once.

    Args:
        model: A built `keras.Model`: functional, Sequential or subclassed.
        precision: What the weights are stored in. `"float32"`; `"float16"`, half the size,
            widened to float32 when the model is loaded; or `"dynamic_range"`, a quarter of the
            size, weights in int8 and activations in float32. Defaults to `"float32"`.
        input_shape: The shape of the input, without the batch, `(H, W, C)`, for a batch of 1, or
            with it, `(N, H, W, C)`. Needed where the model leaves H or W open. For several inputs
            a dictionary by input name, or a list in the order of the inputs. Defaults to `None`,
            the model's own shape.
        representative_data: Not used by these precisions, must be `None`.
        inference_type: The type of inputs and outputs. Must be `"float32"` for these precisions;
            integer inputs of the Keras model keep their type.

    Returns:
        The content of the ``.tflite`` file.

    Raises:
        ValueError: If an argument is not as above; if the model is not a built Keras 3 model on
            the TensorFlow back end, holds NaN or infinite weights, or cannot be rebuilt in
            float32; if it uses operations without a LiteRT builtin; or if the result does not
            pass `lint`.

    Example:
    >>> content = to_tflite(model, precision="float16", input_shape=(224, 224, 3))
    >>> pathlib.Path("model.tflite").write_bytes(content)
    """
    _check_precision(precision)
    if representative_data is not None:
        raise ValueError(
            "`representative_data` calibrates integer activations, which none of the precisions "
            f"{PRECISIONS} has; leave it out. Received: precision={precision!r}, "
            f"representative_data of type {type(representative_data).__name__}"
        )
    if inference_type != "float32":
        raise ValueError(
            f"`inference_type` must be 'float32' with the precisions {PRECISIONS}. "
            f"Received: inference_type={inference_type!r}, precision={precision!r}"
        )
    content = Exporter(model, input_shape=input_shape)._convert(precision)
    _report(model, lint(content))
    return content


class Exporter:
    """A Keras model, checked, frozen and traced once, to be converted several times.

    Args:
        model: As in `to_tflite`.
        input_shape: As in `to_tflite`.

    Attributes:
        model: The `keras.Model` that was traced: the given one, or its float32 copy.
        input_shapes: The static shape of each input, by its name in the signature.
        output_names: The names of the outputs in the signature.

    Raises:
        ValueError: As in `to_tflite`.

    Example:
    >>> exporter = Exporter(model)
    >>> files = {precision: exporter.convert(precision) for precision in PRECISIONS}
    """

    def __init__(self, model: Any, *, input_shape: InputShape | None = None) -> None:
        _check_model(model)
        inputs = _Inputs(model, input_shape)
        self.model = float32_model(model, inputs.pack(inputs.shapes))
        self.input_shapes: dict[str, Shape] = dict(zip(inputs.names, inputs.shapes, strict=True))
        self.output_names: list[str] = []
        self._function = self._trace(inputs)

    def convert(self, precision: str = "float32") -> bytes:
        """Converts the traced model.

        Args:
            precision: As in `to_tflite`.

        Returns:
            The content of the ``.tflite`` file.

        Raises:
            ValueError: As in `to_tflite`.
        """
        _check_precision(precision)
        content = self._convert(precision)
        _report(self.model, lint(content))
        return content

    def _convert(self, precision: str) -> bytes:
        import tensorflow as tf

        converter = tf.lite.TFLiteConverter.from_concrete_functions([self._function], tf.Module())
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        try:
            with without_native_logs():
                content = converter.convert()
        # The converter's own exception class is not public.
        except Exception as error:
            raise ValueError(_refusal(self.model, error)) from error
        # For names it cannot use the converter leaves the signature out, without a word.
        graph = read_graphs(content)[0]
        if {*graph.input_names} != {*self.input_shapes} or {*graph.output_names} != {
            *self.output_names
        }:
            raise ValueError(
                f"The converter dropped the signature of model {self.model.name!r}; give its "
                f"inputs and outputs other names. Received: {[*self.input_shapes]}, "
                f"{self.output_names}"
            )
        return content

    def _trace(self, inputs: "_Inputs") -> Any:
        """The model as a concrete function without variables: its weights are constants."""
        import keras
        import tensorflow as tf

        trainable, others = _finite(
            self.model, self.model.trainable_variables, self.model.non_trainable_variables
        )
        parameters = inspect.signature(self.model.call).parameters.values()
        takes_training = any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters)
        mode = {"training": False} if takes_training else {}

        def forward(*tensors: Any) -> dict[str, Any]:
            outputs, _ = self.model.stateless_call(
                [tf.constant(value) for value in trainable],
                [tf.constant(value) for value in others],
                inputs.pack(tensors),
                **mode,
            )
            self.output_names = _output_names(self.model, outputs)
            return dict(zip(self.output_names, keras.tree.flatten(outputs), strict=True))

        signature = [
            tf.TensorSpec(shape, dtype, name)
            for shape, dtype, name in zip(inputs.shapes, inputs.dtypes, inputs.names, strict=True)
        ]
        try:
            with without_native_logs():
                function = tf.function(forward, input_signature=signature, autograph=False)
                return function.get_concrete_function()
        # A model's call may raise anything.
        except Exception as error:
            raise ValueError(
                f"Model {self.model.name!r} cannot be called on inputs of these shapes; give an "
                f"`input_shape` that it takes. Received: {self.input_shapes}, "
                f"{type(error).__name__}: {first_line(error)}"
            ) from error


class _Inputs:
    """The inputs of a model: names, static shapes, dtypes, and the structure its call takes."""

    def __init__(self, model: Any, input_shape: Any) -> None:
        import keras

        if isinstance(model, keras.Sequential):
            structure: Any = model.inputs[0]
        elif getattr(model, "inputs", None):
            structure = model.input
        else:
            structure = _subclass_input(model, input_shape)
        self._structure = structure
        tensors = keras.tree.flatten(structure)
        self.names = _names([tensor.name for tensor in tensors], "input")
        self.dtypes = ["float32" if "float" in tensor.dtype else tensor.dtype for tensor in tensors]
        given = _given_shapes(model, input_shape, [tensor.name for tensor in tensors], self.names)
        self.shapes: list[Shape] = [
            _static_shape(model, name, tuple(tensor.shape), shape)
            for name, tensor, shape in zip(self.names, tensors, given, strict=True)
        ]

    def pack(self, values: Sequence[Any]) -> Any:
        """One value per input, in the structure of the model's first call argument."""
        import keras

        positions = iter(range(len(values)))
        return keras.tree.map_structure(lambda _: values[next(positions)], self._structure)


def _check_precision(precision: Any) -> None:
    if precision not in PRECISIONS:
        raise ValueError(
            f"`precision` must be one of {', '.join(map(repr, PRECISIONS))}. "
            f"Received: precision={precision!r}"
        )


def _check_model(model: Any) -> None:
    import keras

    if not isinstance(model, keras.Model):
        if isinstance(model, keras.layers.Layer):
            raise ValueError(
                "`model` must be a keras.Model, and a layer is none; wrap it: keras.Sequential("
                "[keras.Input((height, width, channels)), layer]). "
                f"Received: model={type(model).__name__} named {model.name!r}"
            )
        raise ValueError(
            "`model` must be a Keras 3 model, an instance of keras.Model; load a file with "
            f"keras.saving.load_model first. Received: model of type "
            f"{type(model).__module__}.{type(model).__qualname__}"
        )
    if keras.config.backend() != "tensorflow":
        raise ValueError(
            "Models are converted on Keras's TensorFlow back end; save the model as .keras and "
            "convert it in a process with KERAS_BACKEND=tensorflow. "
            f"Received: back end {keras.config.backend()!r}"
        )
    if not model.built:
        raise ValueError(
            f"Model {model.name!r} has no weights yet; call it on data, or build it, and load its "
            "weights. Received: a model that is not built"
        )


def _subclass_input(model: Any, input_shape: Any) -> Any:
    """The input of a model without `keras.Input`s: of the given shape, or the one it was built on.

    Its inputs are float32.
    """
    import keras

    if input_shape is None:
        # What a model that was called on data remembers of it.
        built_on = (model.get_build_config() or {}).get("input_shape")
        if not isinstance(built_on, (list, tuple)) or not _is_shape(built_on[1:]):
            raise ValueError(
                f"Model {model.name!r} does not say the shape of its inputs; give `input_shape`. "
                f"Received: input_shape=None, a model built on {built_on}"
            )
        return keras.KerasTensor((None, *built_on[1:]), dtype="float32", name="keras_tensor")

    def tensor(name: str, shape: Any) -> Any:
        # Three numbers are an image without its batch, four a batch of images. A shape of any
        # other length is taken as it is written.
        full = (None, *shape) if len(shape) == 3 else tuple(shape)
        return keras.KerasTensor((None,) * len(full), dtype="float32", name=name)

    if _is_shape(input_shape):
        return tensor("keras_tensor", input_shape)
    if isinstance(input_shape, Mapping) and all(map(_is_shape, input_shape.values())):
        return {name: tensor(name, shape) for name, shape in input_shape.items()}
    if isinstance(input_shape, (list, tuple)) and all(map(_is_shape, input_shape)):
        return [tensor("keras_tensor", shape) for shape in input_shape]
    raise _bad_shape(input_shape)


def _given_shapes(
    model: Any, input_shape: Any, raw_names: list[str], names: list[str]
) -> list[Shape | None]:
    """The given shape of each input, as far as one is given."""
    if input_shape is None:
        return [None] * len(names)
    if isinstance(input_shape, Mapping):
        unknown = [key for key in input_shape if key not in names and key not in raw_names]
        if unknown:
            raise ValueError(
                f"Model {model.name!r} has the inputs {names}. "
                f"Received: input_shape with the keys {unknown}"
            )
        shapes = [input_shape.get(a, input_shape.get(b)) for a, b in zip(raw_names, names)]  # noqa: B905
    elif _is_shape(input_shape):
        shapes = [input_shape]
    elif isinstance(input_shape, (list, tuple)):
        shapes = list(input_shape)
    else:
        raise _bad_shape(input_shape)
    if not all(shape is None or _is_shape(shape) for shape in shapes):
        raise _bad_shape(input_shape)
    if len(shapes) != len(names):
        raise ValueError(
            f"Model {model.name!r} has {len(names)} inputs, {names}; give a dictionary of shapes "
            f"by name, or a list of {len(names)}. Received: input_shape={input_shape}"
        )
    return [None if shape is None else tuple(int(size) for size in shape) for shape in shapes]


def _static_shape(model: Any, name: str, declared: tuple[Any, ...], given: Shape | None) -> Shape:
    """The declared shape with its open dimensions filled in."""
    if given is None:
        shape: tuple[Any, ...] = (declared[0] or 1, *declared[1:])
        if None in shape:
            raise ValueError(
                f"Input {name!r} of model {model.name!r} has open dimensions; give them with "
                f"`input_shape`, (H, W, C) for an image. Received: input_shape=None, "
                f"the model's own shape {declared}"
            )
        return shape
    shape = (declared[0] or 1, *given) if len(given) == len(declared) - 1 else given
    if (
        len(shape) != len(declared)
        or any(size < 1 for size in shape)
        or any(own not in (None, size) for own, size in zip(declared, shape, strict=True))
    ):
        raise ValueError(
            f"Input {name!r} of model {model.name!r} has the shape {declared}, None standing for "
            "any size of at least 1; `input_shape` must agree with it, with or without its first "
            f"dimension. Received: input_shape={given}"
        )
    return shape


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in value)
    )


def _bad_shape(input_shape: Any) -> ValueError:
    return ValueError(
        "`input_shape` must be (H, W, C) or (N, H, W, C), or a dictionary or list of such for "
        f"several inputs. Received: input_shape={input_shape!r}"
    )


def _finite(model: Any, *groups: Sequence[Any]) -> list[list[np.ndarray]]:
    """The values of the groups of variables, none of them NaN or infinite.

    The converter turns an infinity into the largest number without a word, and can crash the
    process on NaN.
    """
    values = [[np.asarray(variable.numpy()) for variable in group] for group in groups]
    bad = [
        variable.path
        for group, its_values in zip(groups, values, strict=True)
        for variable, value in zip(group, its_values, strict=True)
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all()
    ]
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise ValueError(
            f"Model {model.name!r} holds weights that are NaN or infinite; repair them or load "
            f"an earlier checkpoint. Received: {', '.join(bad[:5])}{more}"
        )
    return values


def _output_names(model: Any, outputs: Any) -> list[str]:
    import keras

    count = len(keras.tree.flatten(outputs))
    if isinstance(outputs, dict) and count == len(outputs):
        # The order of the keys is the one in which the structure is flattened.
        order = keras.tree.flatten({key: key for key in outputs})
        return _names([str(key) for key in order], "output")
    if isinstance(model, keras.Sequential):
        return _names([model.layers[-1].name], "output")
    names = getattr(model, "output_names", None)
    if not names or len(names) != count:
        names = ["keras_tensor"] * count
    return _names(list(names), "output")


def _names(raw: list[str], role: str) -> list[str]:
    """Names for the signature: identifiers, each once; `role` where Keras made the name up."""
    names = []
    for position, name in enumerate(raw, start=1):
        if re.fullmatch(r"(keras_tensor|input_layer)(_\d+)?", name):
            name = role if len(raw) == 1 else f"{role}_{position}"
        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        # The names become arguments of a Python method on the way, and `_x` none of them.
        usable = name[:1].isalpha() and name != "self" and not keyword.iskeyword(name)
        names.append(name if usable else f"{role}_{name.lstrip('_')}")
    while repeated := [name for name, count in Counter(names).items() if count > 1]:
        for name in repeated:
            positions = [i for i, other in enumerate(names) if other == name]
            for number, position in enumerate(positions[1:], start=1):
                names[position] = f"{name}_{number}"
    return names


def _refusal(model: Any, error: Exception) -> str:
    """One line out of the converter's many."""
    text = str(error)
    operations = sorted(
        set(re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", text))
        | set(re.findall(r"'(?:tf\.|tfl\.)?(\w+)' op (?!is neither)[^\n]*", text))
    )
    if operations:
        return (
            f"Model {model.name!r} uses operations that have no LiteRT builtin; replace the "
            f"layers that use them. Received: {', '.join(operations)}"
        )
    return (
        f"The TensorFlow converter refused model {model.name!r}. Received: "
        f"{type(error).__name__}: {first_line(error)}"
    )


def _report(model: Any, findings: list[Finding]) -> None:
    """Raises for findings of severity error, and warns once per reason code for the others."""
    by_code: dict[str, list[Finding]] = {}
    for finding in findings:
        by_code.setdefault(finding.code, []).append(finding)
    # Errors first: where one is raised, no warning about the same file is due.
    for code, found in sorted(by_code.items(), key=lambda item: item[1][0].severity):
        places = ", ".join(finding.where for finding in found[:3])
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        line = (
            f"{code}: {found[0].symptom} {found[0].advice} "
            f"Received: model {model.name!r} with {places}{more}"
        )
        if found[0].severity == "error":
            raise ValueError(line)
        warnings.warn(line, stacklevel=3)
