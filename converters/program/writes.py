"""What operators that write in place make of the values that are used after them.

Imports this package only.
"""

from collections.abc import Mapping, Sequence

from converters.program.program import Argument, Ref

# What these answer may lie in the memory of what they are given.
_VIEWS = {
    *("view", "_unsafe_view", "view_as", "reshape", "reshape_as", "flatten", "unflatten"),
    *("squeeze", "unsqueeze", "transpose", "permute", "t", "mT", "movedim", "swapaxes", "numpy_T"),
    *("narrow", "slice", "select", "diagonal", "unfold", "as_strided", "expand", "expand_as"),
    *("chunk", "split", "split_with_sizes", "tensor_split", "unbind", "unsafe_chunk"),
    *("contiguous", "to", "type_as", "alias", "detach", "detach_", "lift_fresh", "requires_grad_"),
    *("dropout", "feature_dropout", "alpha_dropout", "dropout_", "feature_dropout_"),
}


class Writes:
    """The values that have been written to.

    A value that an operator writes to is from then on that operator's output. Another view of the
    same memory changes with it in PyTorch; in a graph of values it cannot, so that using one is a
    hazard.
    """

    def __init__(self) -> None:
        self._now: dict[str, str] = {}
        # By value: how often its memory has been written to, shared by all views of it; and how
        # often it had been when the value was made.
        self._memory: dict[str, tuple[list[int], int]] = {}

    def made(
        self, target: str, arguments: Mapping[str, Argument], outputs: Sequence[str | None]
    ) -> None:
        """Take note of a call."""
        operator = (target.split(".") + [""])[1]
        given = next(iter(arguments.values()), None)
        is_view = operator in _VIEWS
        if not isinstance(given, Ref) or not (is_view or is_in_place(operator)):
            return
        writes, _ = self._memory.setdefault(given.name, ([0], 0))
        if not is_view:
            writes[0] += 1
            if outputs and outputs[0] is not None:
                self._now[given.name] = outputs[0]
        self._memory.update((name, (writes, writes[0])) for name in outputs if name is not None)

    def current(self, name: str) -> str:
        """Say what a value is by now."""
        passed = []
        while name in self._now:
            passed.append(name)
            name = self._now[name]
        self._now.update(dict.fromkeys(passed, name))  # so that no chain is walked twice
        return name

    def is_stale(self, name: str) -> bool:
        """Whether the memory of a value was written to through another view of it."""
        writes, made = self._memory.get(name, ([0], 0))
        return writes[0] > made


def is_in_place(operator: str) -> bool:
    """Whether an operator writes into its first argument, as `relu_` does."""
    return operator.endswith("_") and not operator.endswith("__")
