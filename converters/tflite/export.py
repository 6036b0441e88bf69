"""Keras 3 model to ``.tflite`` bytes.

Imports Keras and TensorFlow inside the functions that use them.
"""

import inspect
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.tflite.flatbuffer import read_graphs
from converters.tflite.inputs import Inputs, InputShape, Shape, signature_names
from converters.tflite.quiet import without_native_logs
from converters.tflite.rebuild import first_line, float32_model
from converters.tflite.static_check import Finding, lint

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
        inputs = Inputs(model, input_shape)
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
        named = (graph.named_inputs.keys(), graph.named_outputs.keys())
        if named != ({*self.input_shapes}, {*self.output_names}):
            raise ValueError(
                f"The converter dropped the signature of model {self.model.name!r}; give its "
                f"inputs and outputs other names. Received: {[*self.input_shapes]}, "
                f"{self.output_names}"
            )
        return content

    def _trace(self, inputs: Inputs) -> Any:
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
        return signature_names([str(key) for key in order], "output")
    if isinstance(model, keras.Sequential):
        return signature_names([model.layers[-1].name], "output")
    names = getattr(model, "output_names", None)
    if not names or len(names) != count:
        names = ["keras_tensor"] * count
    return signature_names(list(names), "output")


def _refusal(model: Any, error: Exception) -> str:
    """One line out of the converter's many."""
    text = str(error)
    operations = sorted(
        set(re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", text))
    )
    if operations:
        return (
            f"Model {model.name!r} uses operations that have no LiteRT builtin; replace the "
            f"layers that use them. Received: {', '.join(operations)}"
        )
    reason = re.search(r"error: (.+)", text)
    return (
        f"The TensorFlow converter refused model {model.name!r}; replace the layer that it "
        f"names. Received: {reason[1] if reason else first_line(error)}"
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
