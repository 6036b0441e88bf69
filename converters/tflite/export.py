"""Keras 3 model to ``.tflite`` bytes.

Imports Keras and TensorFlow inside the functions that use them.
"""

import inspect
import re
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from converters.data.samples import batches, representative_samples
from converters.extras import EXTRAS, require
from converters.scratch import scratch_folder, unwritable
from converters.tflite import jobs
from converters.tflite.ahead import done_ahead
from converters.tflite.argmax import plain_argmax
from converters.tflite.constants import with_biases
from converters.tflite.culprit import described, find_culprit
from converters.tflite.flatbuffer import TfliteFile
from converters.tflite.half_numbers import with_small_numbers
from converters.tflite.inputs import Inputs, InputShape, Shape, signature_names
from converters.tflite.jobs import JobFailed, Progress, WorkerDied, WorkerKilled
from converters.tflite.norms import exact_norms
from converters.tflite.options import (
    Options,
    checked_options,
    checked_trained_options,
)
from converters.tflite.order import in_order
from converters.tflite.quiet import without_native_logs
from converters.tflite.ranges import with_measured_ranges
from converters.tflite.rebuild import first_line, float32_model, layers_of
from converters.tflite.rewrites import rewritten
from converters.tflite.sites import find_sites
from converters.tflite.static_check import Finding, lint
from converters.tflite.trained_integer import is_tf_keras_model, save_trained
from converters.tflite.zero_ranges import with_ranges_for_zeros

# Bytes from which a weight is a variable of the SavedModel and no constant in its graph, which is
# copied a dozen times on the way and ends at 2 GiB. A variable takes longer to load than a small
# constant.
_LARGE = 1 << 18
# The memory that a conversion takes, of that of the weights, besides TensorFlow's own.
_TIMES = 10


def to_tflite(
    model: Any,
    *,
    precision: str = "float32",
    input_shape: InputShape | None = None,
    representative_data: Any = None,
    inference_type: str = "float32",
    attention: str | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Converts a Keras 3 model to a LiteRT (``.tflite``) model.

    The weights are frozen into the graph, every shape is static, and all operators are LiteRT
    builtins, which compute in float32, or in integers for the precisions `"int8"` and `"int16x8"`,
    whatever the dtype policy of the Keras model. Recurrent layers are written out step by step.
    The result is checked with `lint`: what would not run is an error, what some runtimes refuse or
    compute wrongly is a warning, unless it is what was asked for: the GPU delegate takes no
    log-softmax, the default `attention` in int8, and no 16-bit integers.

    The signature `serving_default` has the names of the `keras.Input`s as inputs (`"input"`, or
    `"input_1"` and so on, for those without a name), and as outputs the keys of the model's
    output dictionary or the names of its output layers. Characters other than letters, digits
    and `_` become `_`; a name that then does not begin with a letter, or that Python reserves,
    gets `input_` or `output_` before it.

    To convert one model to several precisions, `Exporter` traces it once.

    Args:
        model: A built `keras.Model`: functional, Sequential or subclassed. Or, with
            `precision="int8"`, a model from `ulsam_keras.quantization.quantize_model`, which has
            its ranges and its form of the attention: then `representative_data` and `attention`
            must be `None`, and of `input_shape` only a batch counts.
        precision: What weights and activations are. `"float32"`; `"float16"`, weights of half the
            size, widened to float32 when the model is loaded; `"dynamic_range"`, weights in int8,
            a quarter of the size, and activations in float32; `"int8"`, all in int8, weights with
            a step per output channel; or `"int16x8"`, weights in int8 and activations in int16,
            which is more exact and much slower. Defaults to `"float32"`.
        input_shape: The shape of the input, without the batch, `(H, W, C)`, for a batch of 1, or
            with it, `(N, H, W, C)`. Needed where the model leaves H or W open. For several inputs
            a dictionary by input name, or a list in the order of the inputs. Defaults to `None`,
            the model's own shape.
        representative_data: For `"int8"` and `"int16x8"`, samples that the ranges of activations
            are taken from, at least one, and better a few hundred: an array `(N, H, W, C)`; an
            iterable of samples or batches, or of tuples `(inputs, targets)`, such as a
            `tf.data.Dataset`; for several inputs a dictionary of arrays, or items that are
            dictionaries or lists; the path of an `.npz` file with the array `inputs`, or one for
            each input, with the channels last or second; or the path of a folder of images, which
            are given to the model scaled to 0 to 1, or as pixels where its input is of integers
            (`load_images` for other scales). Must be
            `None` for the other precisions.
        inference_type: The type of inputs and outputs: `"float32"`; `"int8"` or `"uint8"` with
            `precision="int8"`; `"int16"` with `"int16x8"`. Integer inputs of the Keras model keep
            their type. Defaults to `"float32"`.
        attention: How the softmax of a ULSAM is computed in int8. `"log_softmax"`, the exponential
            of the log-softmax, which keeps flat and large maps alive without a float operator;
            `"float"`, exponential, sum and quotient left in float, with float inputs and outputs;
            or `"softmax"`, the operator that a plain conversion uses, whose step of 1/256 makes
            zeros of flat maps of more than about 16 x 16 positions. `"int16x8"` has `"softmax"`
            only, whose step there is 1/32768. Defaults to `None`, the first that the precision
            has.
        progress: Called with how many batches of representative data have run and how many there
            are. Defaults to `None`.

    Returns:
        The content of the ``.tflite`` file.

    Raises:
        OSError: If a file of representative data cannot be read.
        ImportError: If the extra `convert` is not installed; or `qat`, for a model of tf_keras.
        ValueError: If an argument is not as above; if the model is not a built Keras 3 model on
            the TensorFlow back end, holds NaN or infinite weights, or cannot be rebuilt in
            float32; if it uses operations without a LiteRT builtin; if the representative data is
            empty, not finite or of another shape than the inputs; or if the result does not pass
            `lint`.

    Example:
    >>> content = to_tflite(model, precision="float16", input_shape=(224, 224, 3))
    >>> pathlib.Path("model.tflite").write_bytes(content)
    """
    _require_extra()
    if is_tf_keras_model(model):
        batch = checked_trained_options(
            precision, inference_type, attention, representative_data, input_shape
        )
        file = _trained(model, inference_type, batch)
    else:
        options = checked_options(precision, inference_type, attention, representative_data)
        exporter = Exporter(model, input_shape=input_shape)
        file = exporter._convert(options, representative_data, progress)
    _report(model, file)
    return file.content


def _require_extra() -> None:
    require("Conversion to .tflite", *EXTRAS["convert"].packages)


def _trained(model: Any, inference_type: str, batch: int) -> TfliteFile:
    with scratch_folder("ulsam-trained-") as folder:
        with _no_room():
            inputs, outputs = save_trained(model, batch, str(folder))
        with _one_line(model, "int8"):
            content = jobs.convert(str(folder), precision="int8", inference_type=inference_type)
            file = rewritten(in_order(TfliteFile(content), inputs, outputs))
            jobs.run_once(file.content)
        return file


class Exporter:
    """A Keras model, checked, frozen and traced once, to be converted several times.

    Args:
        model: As in `to_tflite`.
        input_shape: As in `to_tflite`.

    Attributes:
        model: The `keras.Model` that was traced: the given one, or its float32 copy.
        input_shapes: The static shape of each input, by its name in the signature.
        input_dtypes: The dtype of each input, in the same order.
        output_names: The names of the outputs in the signature.

    Integer precisions trace the model again, once for each form of the attention.

    Raises:
        ImportError: If the extra `convert` is not installed.
        ValueError: As in `to_tflite`.

    Example:
    >>> exporter = Exporter(model)
    >>> files = {name: exporter.convert(name).content for name in ("float32", "float16")}
    """

    def __init__(self, model: Any, *, input_shape: InputShape | None = None) -> None:
        _require_extra()
        _check_model(model)
        inputs = Inputs(model, input_shape)
        self.model = float32_model(model, inputs.pack(inputs.shapes))
        self.input_shapes: dict[str, Shape] = dict(zip(inputs.names, inputs.shapes, strict=True))
        self.input_dtypes = inputs.dtypes
        self.output_names: list[str] = []
        self._order: list[str] = []
        self._inputs = inputs
        self._folder = tempfile.mkdtemp(prefix="ulsam-traced-")
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._float_files: dict[str, TfliteFile] = {}
        self._ahead: dict[str, Future[TfliteFile]] = {}
        self._saved("softmax")

    def begin(self, precisions: Sequence[str]) -> None:
        """Begins with conversions that need no data, one after the other; `convert` gives them.

        They are done in the converter's process, which this one would only wait for. Until all are
        taken, others must not be asked for.
        """

        def attempt(precision: str) -> TfliteFile:
            return self._convert(checked_options(precision, "float32", None, None), None, None)

        self._ahead = done_ahead(attempt, precisions)

    def convert(
        self,
        precision: str = "float32",
        *,
        representative_data: Any = None,
        inference_type: str = "float32",
        attention: str | None = None,
        progress: Progress | None = None,
    ) -> TfliteFile:
        """Converts the traced model.

        Args:
            precision: As in `to_tflite`.
            representative_data: As in `to_tflite`.
            inference_type: As in `to_tflite`.
            attention: As in `to_tflite`.
            progress: As in `to_tflite`.

        Returns:
            The ``.tflite`` file.

        Raises:
            ValueError: As in `to_tflite`.
        """
        options = checked_options(precision, inference_type, attention, representative_data)
        if precision in self._ahead:
            file = self._ahead.pop(precision).result()
        else:
            file = self._convert(options, representative_data, progress)
        _report(self.model, file)
        return file

    def _convert(self, options: Options, data: Any, progress: Progress | None) -> TfliteFile:
        run = []
        if options.integer:
            samples = representative_samples(data, self.input_shapes, self.input_dtypes)
            run = batches(samples, self.input_shapes)

        def fails(beginning: Any) -> bool:
            try:
                shapes = list(self.input_shapes.values())
                Exporter(beginning, input_shape=shapes)._attempt(options, run[:2], None)
            except (JobFailed, WorkerDied):
                return True
            except ValueError:  # for a reason of its own, which the whole model does not have
                return False
            return False

        with _one_line(self.model, options.precision, fails):
            return self._attempt(options, run, progress)

    def _attempt(
        self, options: Options, run: jobs.Batches, progress: Progress | None
    ) -> TfliteFile:
        """Converts, and runs the file once; raises what the process says."""
        saved = self._saved(options.attention)
        if options.precision == "float32":
            file = self._float_file(options.attention)
        elif options.integer:
            floats = self._float_graph(options)
            content = jobs.convert(
                saved,
                precision=options.precision,
                inference_type=options.inference_type,
                floats=_float_island(floats) if options.attention == "float" else (),
                batches=run,
                progress=progress,
            )
            file = with_ranges_for_zeros(TfliteFile(content), floats, run)
            file = with_measured_ranges(file, floats, run)
            file = with_biases(file, floats)
        else:
            file = TfliteFile(jobs.convert(saved, precision=options.precision))
            file = with_small_numbers(file, lambda: self._float_file(options.attention))
        # For names it cannot use the converter leaves the signature out, without a word.
        graph = file.graph
        named = (graph.named_inputs.keys(), graph.named_outputs.keys())
        if named != ({*self.input_shapes}, {*self.output_names}):
            raise ValueError(
                f"The converter dropped the signature of model {self.model.name!r}; give its "
                f"inputs and outputs other names. Received: {[*self.input_shapes]}, "
                f"{self.output_names}"
            )
        file = rewritten(in_order(file, [*self.input_shapes], self._order))
        # What is known not to run is said better by `lint`.
        if not any(finding.severity == "error" for finding in lint(file)):
            jobs.run_once(file.content)
        return file

    def _float_graph(self, options: Options) -> TfliteFile:
        """The file of floats that an integer one is calibrated on, once it is found fit for it.

        Ranges are taken from a run of it on the CPU kernels without XNNPACK.
        """
        file = self._float_file(options.attention)
        overwritten = [finding for finding in lint(file) if finding.code == "OVERWRITTEN"]
        if overwritten:
            raise ValueError(
                f"OVERWRITTEN: The ranges of model {self.model.name!r} cannot be measured: "
                f"{overwritten[0].symptom} {overwritten[0].advice} Received: "
                f"{', '.join(finding.where for finding in overwritten[:3])}"
            )
        return file

    def _float_file(self, form: str) -> TfliteFile:
        """The file of floats with a form of the attention; converted on first use."""
        saved = self._saved(form)
        if saved not in self._float_files:
            self._float_files[saved] = TfliteFile(jobs.convert(saved, precision="float32"))
        return self._float_files[saved]

    def _saved(self, form: str) -> str:
        """The folder of the SavedModel with a form of the attention; traced on first use.

        Args:
            form: How the attention's softmax is computed.
        """
        import tensorflow as tf

        folder = Path(self._folder, form)
        if not folder.exists():
            with _unrolled(self.model):
                function = self._trace(form)
            part = folder.with_suffix(".part")
            with without_native_logs(), _no_room():
                module = tf.Module()
                module.weights = function.variables  # only what a module holds is saved
                tf.saved_model.save(module, str(part), signatures=function)
                part.rename(folder)  # not half of it, for who converts again
        return str(folder)

    def _trace(self, form: str) -> Any:
        """The model as a concrete function, whose variables are its large weights.

        Args:
            form: How the attention's softmax is computed.
        """
        import keras
        import tensorflow as tf

        from ulsam_keras.spatial_softmax import attention_form

        inputs = self._inputs
        trainable, others = _weights(
            self.model, self.model.trainable_variables, self.model.non_trainable_variables
        )
        parameters = inspect.signature(self.model.call).parameters.values()
        takes_training = any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters)
        mode = {"training": False} if takes_training else {}

        def forward(*tensors: Any) -> dict[str, Any]:
            outputs, _ = self.model.stateless_call(
                [tf.convert_to_tensor(weight) for weight in trainable],
                [tf.convert_to_tensor(weight) for weight in others],
                inputs.pack(tensors),
                **mode,
            )
            self.output_names = output_names(self.model, outputs)
            self._order = _order(self.model, outputs, self.output_names)
            return dict(zip(self.output_names, keras.tree.flatten(outputs), strict=True))

        signature = [
            tf.TensorSpec(shape, dtype, name)
            for shape, dtype, name in zip(inputs.shapes, inputs.dtypes, inputs.names, strict=True)
        ]
        with (
            without_native_logs(),
            attention_form(form),
            exact_norms(self.model),
            plain_argmax(self.model),
        ):
            try:
                function = tf.function(forward, input_signature=signature, autograph=False)
                return function.get_concrete_function()
            except Exception as error:  # a model's call may raise anything
                raise ValueError(
                    f"Model {self.model.name!r} cannot be called on inputs of these shapes; give "
                    f"an `input_shape` that it takes. Received: {self.input_shapes}, "
                    f"{type(error).__name__}: {first_line(error)}"
                ) from error


@contextmanager
def _unrolled(model: Any) -> Iterator[None]:
    """Has recurrent layers written out step by step meanwhile.

    Calibration does not survive their loops, the GPU delegate refuses them, and in a loop the sizes
    of what it gives back for each step are not known ahead.
    """
    import keras

    loops = [x for x in layers_of(model) if isinstance(x, keras.layers.RNN) and not x.unroll]
    try:
        for layer in loops:
            layer.unroll = True
        yield
    finally:
        for layer in loops:
            layer.unroll = False


def _float_island(file: TfliteFile) -> list[str]:
    """The names of the tensors of a file that stay float in the form "float"."""
    from ulsam_keras.spatial_softmax import FLOAT_ISLAND

    return [t.name for t in file.graph.tensors if f"/{FLOAT_ISLAND}" in t.name]


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


def _weights(model: Any, *groups: Sequence[Any]) -> list[list[Any]]:
    """What stands for the groups of variables in a graph: arrays, TensorFlow variables if large.

    None may be NaN or infinite. The converter turns an infinity into the largest number without a
    word, and can crash the process on NaN.
    """
    bad: list[str] = []

    def weight(variable: Any) -> Any:
        value = np.asarray(variable.numpy())
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            bad.append(variable.path)
        return value if value.nbytes < _LARGE else variable.value

    weights = [[weight(variable) for variable in group] for group in groups]
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise ValueError(
            f"Model {model.name!r} holds weights that are NaN or infinite; repair them or load "
            f"an earlier checkpoint. Received: {', '.join(bad[:5])}{more}"
        )
    return weights


def output_names(model: Any, outputs: Any) -> list[str]:
    """The names that a model's outputs, in this structure, have in the signature."""
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


def _order(model: Any, outputs: Any, names: list[str]) -> list[str]:
    """The names as the model lists its outputs; a structure is flattened by its sorted keys."""
    if not isinstance(outputs, dict) or len(outputs) != len(names):
        return names
    by_key = dict(zip(sorted(outputs), names, strict=True))
    listed = getattr(model, "output", None) if getattr(model, "inputs", None) else None
    return [by_key[key] for key in (listed if isinstance(listed, dict) else outputs)]


@contextmanager
def _no_room() -> Iterator[None]:
    """Tells of a SavedModel that cannot be written, of which TensorFlow has errors of its own."""
    import tensorflow as tf

    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        said = str(error).rpartition("; ")[2].partition(" [Op:")[0]  # file; reason [Op:SaveV2]
        raise unwritable(" ".join(said.split())) from error


@contextmanager
def _one_line(
    model: Any, precision: str, fails: Callable[[Any], bool] | None = None
) -> Iterator[None]:
    """Makes one line, with the layer if `fails` can tell it, of what went wrong in the process."""
    try:
        yield
    except WorkerKilled as error:
        megabytes = 4e-6 * model.count_params()
        raise ValueError(
            f"The process that converts model {model.name!r} was killed, most likely for want of "
            f"memory, of which it takes some {_TIMES} times the weights'; convert it where there "
            f"is more. Received: precision={precision!r}, weights of "
            f"{megabytes:.0f} MB, its process {error}"
        ) from error
    except (JobFailed, WorkerDied) as error:
        layer = find_culprit(model, fails) if fails is not None else None
        where, advice = described(layer)
        if isinstance(error, WorkerDied):
            reason = f"its process {error}"
            what = "The TensorFlow converter does not survive"
        else:
            reason = _reason(str(error))
            what = "The TensorFlow converter or LiteRT refuses"
        raise ValueError(
            f"{what} model {model.name!r}{where}{advice}. "
            f"Received: precision={precision!r}, {reason}"
        ) from error


def _reason(text: str) -> str:
    """One line out of the converter's many."""
    operations = sorted(
        set(re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", text))
    )
    if operations:
        return f"operations without a LiteRT builtin, {', '.join(operations)}"
    reason = re.search(r"error: (.+)", text)
    return reason[1] if reason else text.strip().split("\n")[0]


def _report(model: Any, file: TfliteFile) -> None:
    """Raises for findings of severity error, and warns once per reason code for the others."""
    by_code: dict[str, list[Finding]] = {}
    for finding in _unasked(lint(file), file):
        by_code.setdefault(finding.code, []).append(finding)
    # Errors first: where one is raised, no warning about the same file is due.
    for code, found in sorted(by_code.items(), key=lambda item: item[1][0].severity):
        places = ", ".join(finding.where for finding in found[:3])
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        line = (
            f"{code}: {found[0].symptom} {found[0].meaning} {found[0].advice} "
            f"Received: model {model.name!r} with {places}{more}"
        )
        if found[0].severity == "error":
            raise ValueError(line)
        warnings.warn(line, stacklevel=3)


def _unasked(findings: list[Finding], file: TfliteFile) -> list[Finding]:
    """The findings, without those of what the caller chose: a form of attention, 16-bit integers.

    Who converts for the CPU, for which these are, would be warned each time. `lint` tells of them.
    """
    if not {finding.code for finding in findings} & {"LOG_SOFTMAX", "DTYPE"}:
        return findings
    graph = file.graph
    chosen = {t.name for s in find_sites(graph) for o in s.operators for t in o.outputs}
    chosen |= {tensor.name for tensor in graph.tensors if tensor.dtype == "INT16" and tensor.scales}
    return [
        finding
        for finding in findings
        if finding.code not in ("LOG_SOFTMAX", "DTYPE") or not chosen.issuperset(finding.tensors)
    ]
