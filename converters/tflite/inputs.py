"""The inputs of an exported model: their names, static shapes and dtypes.

Imports Keras inside the functions that use it, and NumPy.
"""

import keyword
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Shape = tuple[int, ...]
# The shape of the one input, or those of several by name or in order.
InputShape = Sequence[int] | Mapping[str, Sequence[int]] | Sequence[Sequence[int] | None]


class Inputs:
    """The inputs of a model.

    Args:
        model: A built `keras.Model`.
        input_shape: The `input_shape` of `to_tflite`.

    Attributes:
        names: Their names in the signature.
        shapes: Their static shapes, the batch included.
        dtypes: Their dtypes; float32 stands for every float.

    Raises:
        ValueError: If a dimension is open, or `input_shape` does not fit the model.
    """

    def __init__(self, model: Any, input_shape: Any) -> None:
        import keras

        # A Sequential model without an Input has the property, and it raises.
        known = bool(getattr(model, "inputs", None))
        structure = call_argument(model) if known else _subclass_input(model, input_shape)
        self._structure = structure
        tensors = keras.tree.flatten(structure)
        self.names = signature_names([tensor.name for tensor in tensors], "input")
        self.dtypes = [dtype_of(tensor) for tensor in tensors]
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


def call_argument(model: Any) -> Any:
    """The inputs of a model that knows them, in the structure of its first call argument."""
    import keras

    # A Sequential model that was not called has no `input`.
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def dtype_of(tensor: Any) -> str:
    """The dtype of an input; float32 for every float."""
    return "float32" if "float" in tensor.dtype else tensor.dtype


def signature_names(raw: list[str], role: str) -> list[str]:
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
        both = zip(raw_names, names, strict=True)
        shapes = [input_shape.get(raw, input_shape.get(name)) for raw, name in both]
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
