"""Pickles as data: an interpreter that can build containers and nothing else.

Python's own unpickler imports what a pickle names, calls it, and allocates what a pickle declares.
Here a global is only looked up in a table of the caller's, a call reaches only that table's
functions, memory grows with what has been read, and nothing is hashed but text. Imports nothing
outside this package.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from converters.checkpoint.content import ContentError, shown

_LONGEST_LINE = 4096
# A state dict takes about 100 opcodes for a tensor; the histories of long trainings some millions.
_BUDGET = 20_000_000
_MARK = object()
# An attribute of many modules: `norm_layer=partial(BatchNorm2d, eps=1e-3)`.
_PARTIAL = ("functools", "partial")


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle refers to; never the thing itself."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Inert:
    """Stands for an object that is not needed: it holds nothing and takes any state."""

    __slots__ = ()


class Refused(Inert):
    """Stands for an object whose class is not admitted.

    Attributes:
        origin: The class.
        state: Its attributes if it is a module (`torch.nn.Module`), which is known by having
            parameters and modules in it; else None.
    """

    __slots__ = ("origin", "state")

    def __init__(self, origin: Global):
        self.origin = origin
        self.state: dict[str, Any] | None = None


class Unbuilt(Inert):
    """Stands for an object that its state, which comes later, turns into another."""

    __slots__ = ("built",)

    def __init__(self) -> None:
        self.built: Any = None


INERT = Inert()


class Unpickler:
    """Interprets pickles of protocols 0 to 5 from a stream.

    Args:
        stream: Where the pickles lie, one behind another.
        size: Bytes in the stream from its start; nothing longer than what is left is allocated.
        constructors: By global, the function that stands for calling it, given the unpickler and
            the call's arguments. None: the global is admitted, and whatever is made of it is inert.
        persistent_load: Resolves a persistent id.
        set_state: Gives an object that a constructor made its state; for an `Unbuilt` one it
            returns what takes its place. Default: states are ignored.
    """

    def __init__(
        self,
        stream: BinaryIO,
        size: int,
        constructors: Mapping[tuple[str, str], Callable[..., Any] | None],
        *,
        persistent_load: Callable[[Any], Any] | None = None,
        set_state: Callable[[Any, Any, Any], Any] | None = None,
    ):
        self._stream = stream
        self._size = size
        self._constructors = constructors
        self._persistent_load = persistent_load
        self._set_state = set_state
        self._budget = _BUDGET
        self._named: dict[Global, None] = {}  # globals not admitted
        self._called: dict[Global, None] = {}  # of these, those that are called as a function is
        self._modules = False

    def load(self) -> Any:
        """Interpret one pickle.

        The classes of modules are not admitted but their objects are, being data: their attributes
        in a `Refused`. A file with such may name any class, for attributes may be of any.

        Returns:
            None, booleans, numbers, text, bytes, lists, tuples, dicts (items with text keys only)
            and what the constructors returned.

        Raises:
            ContentError: A global that is not admitted, named in the message, or a damaged pickle.
        """
        try:
            value = self._run()
        except ContentError:
            self._raise_refusal()
            raise
        except (IndexError, KeyError, TypeError, ValueError, AttributeError, struct.error) as error:
            self._raise_refusal()
            raise ContentError(
                "a damaged pickle, or not one of PyTorch's; get the file again. "
                f"Received: {type(error).__name__} {shown(str(error))}"
            ) from None
        self._raise_refusal()
        return value

    def _raise_refusal(self) -> None:
        """Name what was refused. Reading goes on until the end to tell models from the rest."""
        refused = self._called if self._modules else self._named
        if not refused:
            return
        names = ", ".join(shown(str(name)) for name in list(refused)[:3])
        raise ContentError(
            "the pickle asks for what no state dict needs; nothing of it was executed. Save only "
            f"model.state_dict() with torch.save, or distrust the file. Received: {names}"
        )

    def spend(self, count: int) -> None:
        """Count work against the budget that keeps a small file from taking hours."""
        self._budget -= count
        if self._budget < 0:
            raise ContentError(
                f"a pickle of more than {_BUDGET} steps is refused; save only model.state_dict()"
            )

    def find(self, module: str, name: str) -> Global:
        """Admit or refuse a global."""
        found = Global(module, name)
        if (module, name) not in self._constructors:
            self._named[found] = None
        return found

    def make(self, kind: Any, arguments: Any) -> Any:
        """Do what stands for making an object of a class: nothing, where it is not admitted."""
        if isinstance(kind, Global) and (kind.module, kind.name) not in self._constructors:
            return Refused(kind)
        return self.call(kind, arguments)

    def call(self, function: Any, arguments: Any) -> Any:
        """Do what stands for calling a global."""
        if isinstance(function, Refused):
            self._called[function.origin] = None
            return function
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise TypeError("a call of what is no global")
        key = (function.module, function.name)
        if key not in self._constructors:
            if key != _PARTIAL:
                self._called[function] = None
            return Refused(function)
        constructor = self._constructors[key]
        return INERT if constructor is None else constructor(self, *arguments)

    # The machine. One method for an opcode, named as in pickletools.

    def _run(self) -> Any:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        read, opcodes = self._stream.read, _OPCODES
        while True:
            opcode = read(1)
            if opcode == b".":
                return self._stack.pop()
            operation = opcodes.get(opcode)
            if operation is None:
                what = f"opcode {opcode!r}" if opcode else "the end of the file"
                raise ValueError(f"{what} inside a pickle")
            self.spend(1)
            operation(self)

    def _read(self, count: int) -> bytes:
        if count < 0 or (count > _LONGEST_LINE and count > self._size - self._stream.tell()):
            raise ValueError(f"{count} bytes declared, beyond the end")
        data = self._stream.read(count)
        if len(data) != count:
            raise ValueError("the file ends inside a pickle")
        return data

    def _read_int(self, count: int, signed: bool = False) -> int:
        return int.from_bytes(self._read(count), "little", signed=signed)

    def _line(self) -> bytes:
        line = self._stream.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise ValueError("a line without end")
        return line[:-1]

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _to_mark(self) -> list[Any]:
        stack = self._stack
        for index in range(len(stack) - 1, -1, -1):
            if stack[index] is _MARK:
                items = stack[index + 1 :]
                del stack[index:]
                self.spend(len(items))
                return items
        raise ValueError("no mark")

    def _last(self, count: int) -> tuple[Any, ...]:
        if count > len(self._stack):
            raise IndexError("the stack is too short")
        items = tuple(self._stack[-count:])
        del self._stack[-count:]
        return items

    def _push_text(self, data: bytes) -> None:
        self._push(data.decode("utf-8", "surrogatepass"))

    def _push_python2_string(self, data: bytes) -> None:
        # The bytes of Python 2, which PyTorch reads as text; arrays of its day are Latin-1.
        try:
            self._push(data.decode("utf-8"))
        except UnicodeDecodeError:
            self._push(data)

    def _int(self) -> None:
        line = self._line()
        self._push(line == b"01" if line in {b"00", b"01"} else int(line))

    def _string(self) -> None:
        line = self._line()
        if len(line) < 2 or line[:1] not in b"'\"" or line[:1] != line[-1:]:
            raise ValueError("a string without quotes")
        self._push_python2_string(line[1:-1].decode("unicode_escape").encode("latin-1", "replace"))

    def _persistent(self) -> None:
        if self._persistent_load is None:
            raise ValueError("a persistent id where none belongs")
        self._push(self._persistent_load(self._stack.pop()))

    def _get(self, index: int) -> None:
        value = self._memo[index]
        self._push(value.built if isinstance(value, Unbuilt) else value)

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Inert):
            raise TypeError("items for what is no list")

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, dict):
            # Nothing else can name a tensor, and hashing nested tuples takes exponential time.
            target.update(
                (key, value)
                for key, value in zip(items[::2], items[1::2], strict=True)
                if type(key) is str
            )
        elif not isinstance(target, Inert):
            raise TypeError("items for what is no dict")

    def _frozen_set(self) -> None:
        self._to_mark()
        self._push(INERT)

    def _make_dict(self) -> None:
        items = self._to_mark()
        self._push({})
        self._set_items(items)

    def _global(self) -> None:
        module, name = self._line().decode("utf-8"), self._line().decode("utf-8")
        self._push(self.find(module, name))

    def _stack_global(self) -> None:
        module, name = self._last(2)
        if type(module) is not str or type(name) is not str:
            raise TypeError("a global without a name")
        self._push(self.find(module, name))

    def _instance(self) -> None:
        module, name = self._line().decode("utf-8"), self._line().decode("utf-8")
        self._push(self.call(self.find(module, name), tuple(self._to_mark())))

    def _object(self) -> None:
        function, *arguments = self._to_mark()
        self._push(self.call(function, tuple(arguments)))

    def _new_with_keywords(self) -> None:
        function, arguments, _ = self._last(3)
        self._push(self.make(function, arguments))

    def _build(self) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Refused):
            if isinstance(state, dict) and {"_parameters", "_modules"} <= state.keys():
                target.state = state
                self._modules = True
        elif self._set_state is not None:
            built = self._set_state(self, target, state)
            if isinstance(target, Unbuilt):
                target.built = self._stack[-1] = built


_OPCODES: dict[bytes, Callable[[Unpickler], Any]] = {
    # Framing: PROTO, FRAME (its length is of no use here)
    b"\x80": lambda u: u._read(1),
    b"\x95": lambda u: u._read(8),
    # Constants and numbers
    b"N": lambda u: u._push(None),
    b"\x88": lambda u: u._push(True),
    b"\x89": lambda u: u._push(False),
    b"I": Unpickler._int,
    b"J": lambda u: u._push(u._read_int(4, signed=True)),
    b"K": lambda u: u._push(u._read_int(1)),
    b"M": lambda u: u._push(u._read_int(2)),
    b"L": lambda u: u._push(int(u._line().rstrip(b"L"))),
    b"\x8a": lambda u: u._push(u._read_int(u._read_int(1), signed=True)),
    b"\x8b": lambda u: u._push(u._read_int(u._read_int(4), signed=True)),
    b"F": lambda u: u._push(float(u._line())),
    b"G": lambda u: u._push(struct.unpack(">d", u._read(8))[0]),
    # Text and bytes
    b"S": Unpickler._string,
    b"T": lambda u: u._push_python2_string(u._read(u._read_int(4))),
    b"U": lambda u: u._push_python2_string(u._read(u._read_int(1))),
    b"V": lambda u: u._push(u._line().decode("raw_unicode_escape")),
    b"X": lambda u: u._push_text(u._read(u._read_int(4))),
    b"\x8c": lambda u: u._push_text(u._read(u._read_int(1))),
    b"\x8d": lambda u: u._push_text(u._read(u._read_int(8))),
    b"B": lambda u: u._push(u._read(u._read_int(4))),
    b"C": lambda u: u._push(u._read(u._read_int(1))),
    b"\x8e": lambda u: u._push(u._read(u._read_int(8))),
    b"\x96": lambda u: u._push(u._read(u._read_int(8))),
    # Containers
    b"]": lambda u: u._push([]),
    b"a": lambda u: u._extend([u._stack.pop()]),
    b"e": lambda u: u._extend(u._to_mark()),
    b"l": lambda u: u._push(u._to_mark()),
    b")": lambda u: u._push(()),
    b"t": lambda u: u._push(tuple(u._to_mark())),
    b"\x85": lambda u: u._push(u._last(1)),
    b"\x86": lambda u: u._push(u._last(2)),
    b"\x87": lambda u: u._push(u._last(3)),
    b"}": lambda u: u._push({}),
    b"d": Unpickler._make_dict,
    b"s": lambda u: u._set_items(list(u._last(2))),
    b"u": lambda u: u._set_items(u._to_mark()),
    b"\x8f": lambda u: u._push([]),  # a set, of what may have no hash here
    b"\x90": lambda u: u._extend(u._to_mark()),
    b"\x91": Unpickler._frozen_set,
    # Stack and memo
    b"0": lambda u: u._stack.pop(),
    b"1": Unpickler._to_mark,
    b"2": lambda u: u._push(u._stack[-1]),
    b"(": lambda u: u._push(_MARK),
    b"g": lambda u: u._get(int(u._line())),
    b"h": lambda u: u._get(u._read_int(1)),
    b"j": lambda u: u._get(u._read_int(4)),
    b"p": lambda u: u._put(int(u._line())),
    b"q": lambda u: u._put(u._read_int(1)),
    b"r": lambda u: u._put(u._read_int(4)),
    b"\x94": lambda u: u._put(len(u._memo)),
    # Objects
    b"c": Unpickler._global,
    b"\x93": Unpickler._stack_global,
    b"i": Unpickler._instance,
    b"o": Unpickler._object,
    b"R": lambda u: u._push(u.call(*u._last(2))),
    b"\x81": lambda u: u._push(u.make(*u._last(2))),
    b"\x92": Unpickler._new_with_keywords,
    b"b": Unpickler._build,
    b"Q": Unpickler._persistent,
}
