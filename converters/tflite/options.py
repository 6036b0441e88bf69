"""What can be asked of a conversion, checked. Imports the standard library only.

So that the command can say the choices without loading NumPy.
"""

from dataclasses import dataclass
from typing import Any

FLOAT_PRECISIONS = ("float32", "float16", "dynamic_range")
INTEGER_PRECISIONS = ("int8", "int16x8")
PRECISIONS = FLOAT_PRECISIONS + INTEGER_PRECISIONS

# What inputs and outputs may be, and the attention forms, the default first.
INFERENCE_TYPES = {"int8": ("float32", "int8", "uint8"), "int16x8": ("float32", "int16")}
ATTENTION_FORMS = {"int8": ("log_softmax", "float", "softmax"), "int16x8": ("softmax",)}


@dataclass(frozen=True)
class Options:
    """What is asked of a conversion, checked.

    Attributes:
        precision: One of `PRECISIONS`.
        inference_type: The type of inputs and outputs.
        attention: The form of the attention's softmax.
    """

    precision: str
    inference_type: str
    attention: str

    @property
    def integer(self) -> bool:
        """Whether activations are integers, whose ranges are taken from data."""
        return self.precision in INTEGER_PRECISIONS


def checked_options(
    precision: Any, inference_type: Any, attention: Any, representative_data: Any
) -> Options:
    """The options of a conversion, once they go together.

    Raises:
        ValueError: If one is unknown, or does not go with the others.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"`precision` must be one of {', '.join(map(repr, PRECISIONS))}. "
            f"Received: precision={precision!r}"
        )
    if precision in INTEGER_PRECISIONS:
        return _integer_options(precision, inference_type, attention, representative_data)
    if representative_data is not None:
        raise ValueError(
            "`representative_data` calibrates integer activations, which none of the precisions "
            f"{FLOAT_PRECISIONS} has; leave it out. Received: precision={precision!r}, "
            f"representative_data of type {type(representative_data).__name__}"
        )
    if inference_type != "float32":
        raise ValueError(
            f"`inference_type` must be 'float32' with the precisions {FLOAT_PRECISIONS}. "
            f"Received: inference_type={inference_type!r}, precision={precision!r}"
        )
    if attention not in (None, "softmax"):
        raise ValueError(
            f"`attention` must be None or 'softmax' with the precisions {FLOAT_PRECISIONS}, whose "
            f"softmax is float. Received: attention={attention!r}, precision={precision!r}"
        )
    return Options(precision, inference_type, "softmax")


def checked_trained_options(
    precision: Any,
    inference_type: Any,
    attention: Any,
    representative_data: Any,
    input_shape: Any,
) -> int:
    """The batch size of a model that was trained with quantisation, once its options are its own.

    Raises:
        ValueError: If one is given that the model has decided already.
    """
    types = INFERENCE_TYPES["int8"]
    if precision != "int8" or inference_type not in types:
        raise ValueError(
            "A model that was trained with quantisation is converted with precision='int8' and "
            f"`inference_type` one of {', '.join(map(repr, types))}. "
            f"Received: precision={precision!r}, inference_type={inference_type!r}"
        )
    given = {
        "attention": attention,
        "representative_data": representative_data,
    }
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                "A model that was trained with quantisation has its ranges and the form of its "
                f"attention; leave `{name}` out. Received: {name} of type {type(value).__name__}"
            )
    if input_shape is None:
        return 1
    if isinstance(input_shape, (list, tuple)) and len(input_shape) in (3, 4):
        return int(input_shape[0]) if len(input_shape) == 4 else 1
    raise ValueError(
        "`input_shape` of a model that was trained with quantisation must be (H, W, C) or "
        f"(N, H, W, C), and gives the batch. Received: input_shape={input_shape!r}"
    )


def _integer_options(
    precision: str, inference_type: Any, attention: Any, representative_data: Any
) -> Options:
    if representative_data is None:
        raise ValueError(
            "Integer activations need `representative_data` for their ranges: an array of "
            "samples, an iterable of them, a folder of images or an .npz file. "
            f"Received: precision={precision!r}, representative_data=None"
        )
    types, forms = INFERENCE_TYPES[precision], ATTENTION_FORMS[precision]
    if inference_type not in types:
        raise ValueError(
            f"`inference_type` must be one of {', '.join(map(repr, types))} with "
            f"precision={precision!r}. Received: inference_type={inference_type!r}"
        )
    form = forms[0] if attention is None else attention
    if form not in forms:
        why = " (16-bit activations have no log-softmax)" if precision == "int16x8" else ""
        raise ValueError(
            f"`attention` must be None or one of {', '.join(map(repr, forms))} with "
            f"precision={precision!r}{why}. Received: attention={attention!r}"
        )
    if form == "float" and inference_type != "float32":
        raise ValueError(
            "attention='float' is converted with float inputs and outputs only; use "
            "inference_type='float32', or attention='log_softmax'. "
            f"Received: inference_type={inference_type!r}"
        )
    return Options(precision, inference_type, form)
