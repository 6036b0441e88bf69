"""The kinds of argument that an operator may be given, one line each.

May import the dtypes of `checkpoint`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from converters.checkpoint.content import ContentError, shown
from converters.program.program import Argument, Dtype

# torch's ScalarType as `torch._export.serde.schema` numbers it.
SCALAR_TYPES = {
    **dict(enumerate(("uint8", "int8", "int16", "int32", "int64"), 1)),
    **dict(enumerate(("float16", "float32", "float64"), 6)),
    **dict(enumerate(("complex32", "complex64", "complex128", "bool", "bfloat16"), 9)),
    **dict(enumerate(("uint16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz"), 28)),
    **dict(enumerate(("float8_e5m2fnuz", "float8_e8m0fnu", "uint32", "uint64"), 32)),
}
_MEMORY_FORMATS = (None, "contiguous", "channels_last", "channels_last_3d", "preserve")
_LAYOUTS = (
    *(None, "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc"),
    *("mkldnn", "strided"),
)

Find = Callable[[str], Argument]


def read_argument(argument: Any, find: Find) -> Argument:
    """Read one argument.

    Args:
        argument: A union of the schema: `{"as_ints": [1, 1]}`.
        find: Gives what a name of the graph stands for.

    Raises:
        ContentError: A kind of argument that is not known, or one that holds something else.
    """
    kind, value = union(argument)
    if kind not in _READERS:
        raise ContentError(
            "a kind of argument that is not known; export with PyTorch 2.2 to 2.14. "
            f"Received: {shown(kind)}"
        )
    return _READERS[kind](value, find)


def union(value: Any) -> tuple[str, Any]:
    """Split a union of the schema, `{kind: value}`; PyTorch 2.2 writes all kinds, null but one."""
    if isinstance(value, dict):
        if len(value) == 1:
            return next(iter(value.items()))
        kinds = [item for item in value.items() if item[1] is not None]
        if len(kinds) == 1:
            return kinds[0]
        if not kinds and "as_none" in value:
            return "as_none", None
    raise ContentError(f"expected one value with its kind in the program. Received: {shown(value)}")


def scalar_type(value: Any) -> str:
    """Name a dtype by its number."""
    if type(value) is not int or value not in SCALAR_TYPES:
        raise ContentError(f"expected the number of a dtype. Received: {shown(value)}")
    return SCALAR_TYPES[value]


def floating(value: Any) -> float:
    """Read a float; JSON has no word for infinity, and PyTorch writes one as text."""
    if type(value) in {int, float}:
        return float(value)
    if value in {"Infinity", "-Infinity", "NaN"}:
        return float(value.replace("Infinity", "inf"))
    raise ContentError(f"expected a number. Received: {shown(value)}")


def _plain(kind: type) -> Callable[[Any, Find], Argument]:
    def read(value: Any, find: Find) -> Any:
        if type(value) is not kind:
            raise ContentError(f"expected {kind.__name__} as argument. Received: {shown(value)}")
        return value

    return read


def _list_of(
    read: Callable[[Any, Find], Argument],
) -> Callable[[Any, Find], tuple[Argument, ...]]:
    def read_list(value: Any, find: Find) -> tuple[Argument, ...]:
        if not isinstance(value, list):
            raise ContentError(f"expected a list as argument. Received: {shown(value)}")
        return tuple(read(item, find) for item in value)

    return read_list


def _name(value: Any) -> Any:
    """Name a tensor; in lists with gaps PyTorch 2.2 writes the name alone."""
    return value if isinstance(value, str) else value["name"]


def _tensor(value: Any, find: Find) -> Argument:
    return find(_name(value))


def _computed(value: Any, find: Find) -> Argument:
    """A SymInt, SymFloat or SymBool: a name of the graph, or a number after all."""
    kind, inner = union(value)
    return find(inner) if kind == "as_name" else _READERS[kind](inner, find)


def _one_of(names: tuple[str | None, ...]) -> Callable[[Any, Find], Argument]:
    def read(value: Any, find: Find) -> Argument:
        if type(value) is not int or not 0 <= value < len(names):
            raise ContentError(f"expected a number below {len(names)}. Received: {shown(value)}")
        return names[value]

    return read


def _device(value: Any, find: Find) -> Argument:
    kind, index = value["type"], value.get("index")
    return str(kind) if index is None else f"{kind}:{index}"


def _complex(value: Any, find: Find) -> Argument:
    raise ContentError(
        "a complex number as argument; export the real part of the network apart. Received: "
        f"{shown(str(value))}"
    )


def _script_object(value: Any, find: Find) -> Argument:
    raise ContentError(
        "a script object as argument, which only code can use; export the network without. "
        f"Received: {shown(str(value))}"
    )


_int, _bool, _string = _plain(int), _plain(bool), _plain(str)
_READERS: Mapping[str, Callable[[Any, Find], Argument]] = {
    "as_none": lambda value, find: None,
    "as_tensor": _tensor,
    "as_tensors": _list_of(_tensor),
    "as_nested_tensors": _list_of(_list_of(_tensor)),
    "as_optional_tensor": read_argument,
    "as_optional_tensors": _list_of(read_argument),
    "as_int": _int,
    "as_ints": _list_of(_int),
    "as_int_lists": _list_of(_list_of(_int)),
    "as_float": lambda value, find: floating(value),
    "as_floats": _list_of(lambda value, find: floating(value)),
    "as_float_lists": _list_of(_list_of(lambda value, find: floating(value))),
    "as_bool": _bool,
    "as_bools": _list_of(_bool),
    "as_string": _string,
    "as_strings": _list_of(_string),
    "as_operator": _string,
    "as_sym_int": _computed,
    "as_sym_ints": _list_of(_computed),
    "as_sym_bool": _computed,
    "as_sym_bools": _list_of(_computed),
    "as_sym_float": _computed,
    "as_sym_floats": _list_of(_computed),
    "as_scalar_type": lambda value, find: Dtype(scalar_type(value)),
    "as_memory_format": _one_of(_MEMORY_FORMATS),
    "as_layout": _one_of(_LAYOUTS),
    "as_device": _device,
    "as_complex": _complex,
    "as_custom_obj": _script_object,
}


def named_values(output: Any) -> list[str | None]:
    """List the names that an output of a node gives to its values; None for what is no value."""
    kind, value = union(output)
    match kind:
        case "as_tensor":
            return [_name(value)]
        case "as_tensors":
            return [_name(item) for item in value]
        case "as_sym_int" | "as_sym_float" | "as_sym_bool":
            return [value.get("as_name")]
        case "as_optional_tensor":
            return named_values(value)
        case "as_optional_tensors":
            return [name for item in value for name in named_values(item)]
        case "as_none" | "as_int" | "as_float" | "as_bool" | "as_string":
            return [None]
    raise ContentError(f"an output of a kind that is not known. Received: {shown(kind)}")
