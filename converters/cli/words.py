"""The words of the command for what Python calls by the names of arguments.

Errors and warnings name arguments as code does, `` `name_map` `` or `input_size=None`; here they
become options. Imports the standard library only.
"""

import re

# Arguments that are options of another name; the others in OPTIONS differ in dashes only.
_RENAMED = {
    "representative_data": "--calibration",
    "input_shape": "--input-size",
    "num_threads": "--threads",
    "attention_form": "--attention",
    "import_file": "--import",
}
_ALIKE = (
    *(
        "attention",
        "calibration",
        "check_with_torch",
        "classifier",
        "confirm_calibration",
        "entry",
        "gpu",
    ),
    *("ignore_keys", "image_mean", "image_std", "inference_type", "input_size", "inputs", "model"),
    *("name_map", "output_dir", "precision", "prefix", "reference", "require_gpu", "sites"),
    *("threads", "timeout", "tolerance", "with_attention"),
)
OPTIONS = {**{name: f"--{name.replace('_', '-')}" for name in _ALIKE}, **_RENAMED}

_VALUE = r"'[^']*'|\"[^\"]*\"|\([^()]*\)|\[[^\[\]]*\]|[\w.+-]*[\w+-]"
_ARGUMENT = re.compile(rf"(`)?\b({'|'.join(OPTIONS)})(?:=({_VALUE}))?(?(1)`|(?!\w))")


def in_options(message: str) -> str:
    """Gives a message with options in place of arguments.

    An argument is a name of `OPTIONS` in backticks, or one that is followed by `=` and a value.

    Example:
    >>> in_options("say with `name_map` which they are. Received: precision='int8', entry=None")
    "say with --name-map which they are. Received: --precision int8, no --entry"
    """
    return _ARGUMENT.sub(_option, message)


def _option(found: re.Match[str]) -> str:
    quoted, name, value = found.groups()
    if value is None:
        return OPTIONS[name] if quoted else found[0]
    value = value.strip("'\"")
    if value in ("None", "", "False"):
        return f"no {OPTIONS[name]}"
    return f"{OPTIONS[name]} {value}"
