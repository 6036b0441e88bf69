"""Pickles as data: an interpreter that can build containers and nothing else.

Python's own unpickler imports what a pickle names, calls it, and allocates what a pickle declares.
Here a global is only looked up in a table of the caller's, a call reaches only that table's
functions, every object takes its cost from the room that the file's size gives, and nothing is
hashed but text and small numbers. Imports nothing outside this package.
"""

import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from converters.checkpoint.content import ContentError, Room, refused, shown
from converters.checkpoint.spans import Span

_LONGEST_LINE = 4096
_LONGEST_TEXT = 1024  # bytes; what is longer is no name but data, and stays in the file
_LONGEST_NUMBER = 256  # bytes
_LARGEST_KEY = 1 << 31  # of the numbers that name parameters in the state of an optimizer
_MARK = object()
# Bytes that things take, with the containers that hold them.
_SLOT, _NUMBER, _LIST, _DICT, _ITEM, _OBJECT, _GAP = 9, 40, 88, 88, 130, 160, 8


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle refers to; never the thing itself."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Inert:
    """Stands for an object that is not needed and takes any state."""

    __slots__ = ()


class Object(Inert):
    """Stands for an object that is not made: of what, and what it was to be made of.

    Attributes:
        origin: The class, or the function that was to be called.
        parts: Arguments, items and states, in which there may be tensors.
        state: Its attributes if it is a module (`torch.nn.Module`), which is known by having
            parameters and modules in it; else None.
    """

    __slots__ = ("origin", "parts", "state")

    def __init__(self, origin: Global, *parts: Any):
        self.origin = origin
        self.parts = [part for part in parts if part != ()]
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
        size: Bytes in the stream from its start; nothing longer than what is left is read.
        constructors: By global, the function that stands for calling it, given the unpickler and
            the call's arguments. None: the global is known, and what is made of it is not needed.
        room: What objects may take.
        persistent_load: Resolves a persistent id.
        set_state: Gives an object that a constructor made its state; for an `Unbuilt` one it
            returns what takes its place. Default: states are ignored.

    Attributes:
        room: What is left of it.
        made: For the constructors: what they made that has to be accounted for.
    """

    def __init__(
        self,
        stream: BinaryIO,
        size: int,
        constructors: Mapping[tuple[str, str], Callable[..., Any] | None],
        room: Room,
        *,
        persistent_load: Callable[[Any], Any] | None = None,
        set_state: Callable[[Any, Any, Any], Any] | None = None,
    ):
        self.room = room
        self.made: list[Any] = []
        self._stream = stream
        self._size = size
        self._constructors = constructors
        self._persistent_load = persistent_load
        self._set_state = set_state
        self._unknown: dict[Global, None] = {}
        self._modules: set[Global] = set()

    def load(self) -> Any:
        """Interpret one pickle.

        A class or function that is not known is a name and no more: what is made of it is an
        `Object`, which holds what it was to be made of.

        Returns:
            None, booleans, numbers, text, bytes, lists, tuples, dicts (items with keys of text and
            small numbers only; fractions are all 0.0) and what the constructors returned.

        Raises:
            ContentError: A damaged pickle, or more than the room has place for.
        """
        try:
            return self._run()
        except (IndexError, KeyError, TypeError, ValueError, AttributeError, struct.error) as error:
            what = f"{type(error).__name__} {shown(str(error))}"
            if self.unknown:
                what = str(error) if isinstance(error, ContentError) else what
                raise refused(self.unknown, what) from None
            if isinstance(error, ContentError):
                raise
            raise ContentError(
                f"a damaged pickle, or not one of PyTorch's; get the file again. Received: {what}"
            ) from None

    @property
    def unknown(self) -> list[str]:
        """What is not known, by name, but for classes of modules: these are expected."""
        return [shown(str(name)) for name in self._unknown if name not in self._modules]

    def find(self, module: str, name: str) -> Global:
        """Make the name of a global."""
        self.room.take(3 * _OBJECT)
        found = Global(module, name)
        if (module, name) not in self._constructors:
            self._unknown[found] = None
        return found

    def call(self, function: Any, arguments: Any) -> Any:
        """Do what stands for calling a global."""
        if isinstance(function, Object):  # a partial, a method that was got before
            self.room.take(_OBJECT)
            return Object(function.origin, function, arguments)
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise TypeError("a call of what is no global")
        self.room.take(_OBJECT + _SLOT * len(arguments))
        constructor = self._constructors.get((function.module, function.name))
        if constructor is None:
            return Object(function, arguments)
        return constructor(self, *arguments)

    # The machine. One method for an opcode, named as in pickletools.

    def _run(self) -> Any:
        self._stack: list[Any] = []
        self._memo: list[Any] = []
        self._scattered: dict[int, Any] = {}  # the memo of whoever numbers as they like
        read, opcodes, room = self._stream.read, _OPCODES, self.room
        while True:
            opcode = read(1)
            if opcode == b".":
                return self._stack.pop()
            operation, cost = opcodes.get(opcode, (None, 0))
            if operation is None:
                what = f"opcode {opcode!r}" if opcode else "the end of the file"
                raise ValueError(f"{what} inside a pickle")
            room.left -= cost
            if room.left < 0:
                room.take(0)  # which says it
            operation(self)

    def _read(self, count: int) -> bytes:
        if count > _LONGEST_LINE and count > self._left():
            raise ValueError(f"{count} bytes declared, beyond the end")
        data = self._stream.read(count)
        if len(data) != count:
            raise ValueError("the file ends inside a pickle")
        return data

    def _left(self) -> int:
        return self._size - self._stream.tell()

    def _read_int(self, count: int, signed: bool = False) -> int:
        return int.from_bytes(self._read(count), "little", signed=signed)

    def _long(self, count: int) -> None:
        if not 0 <= count <= _LONGEST_NUMBER:
            raise ValueError(f"a number of {count} bytes")
        self.room.take(count)
        self._push(self._read_int(count, signed=True))

    def _line(self) -> bytes:
        line = self._stream.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise ValueError("a line without end")
        return line[:-1]

    def _number(self) -> int:
        line = self._line()
        if len(line) > _LONGEST_NUMBER:
            raise ValueError(f"a number of {len(line)} digits")
        return int(line.rstrip(b"L"))

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _push_string(self, value: str | bytes) -> None:
        self.room.take(sys.getsizeof(value))
        self._stack.append(value)

    def _to_mark(self) -> list[Any]:
        stack = self._stack
        for index in range(len(stack) - 1, -1, -1):
            if stack[index] is _MARK:
                items = stack[index + 1 :]
                del stack[index:]
                self.room.take(_SLOT * len(items))
                return items
        raise ValueError("no mark")

    def _last(self, count: int) -> tuple[Any, ...]:
        if count > len(self._stack):
            raise IndexError("the stack is too short")
        items = tuple(self._stack[-count:])
        del self._stack[-count:]
        return items

    def _span(self, count: int) -> Span:
        place = self._stream.tell()
        if not 0 <= count <= self._size - place:
            raise ValueError(f"{count} bytes declared, beyond the end")
        self.room.take(_OBJECT)
        self._stream.seek(count, 1)
        return Span(self._stream, place, count)

    def _push_text(self, count: int) -> None:
        if count > _LONGEST_TEXT:
            self._push(self._span(count))
        else:
            self._push_string(self._read(count).decode("utf-8", "surrogatepass"))

    def _push_bytes(self, count: int) -> None:
        if count > _LONGEST_TEXT:
            self._push(self._span(count))
        else:
            self._push_string(self._read(count))

    def _push_python2(self, count: int) -> None:
        if count > _LONGEST_TEXT:
            self._push(self._span(count))
        else:
            self._push_python2_string(self._read(count))

    def _push_python2_string(self, data: bytes) -> None:
        # The bytes of Python 2, which PyTorch reads as text; arrays of its day are Latin-1.
        try:
            self._push_string(data.decode("utf-8"))
        except UnicodeDecodeError:
            self._push_string(data)

    def _int(self) -> None:
        line = self._line()
        if len(line) > _LONGEST_NUMBER:
            raise ValueError(f"a number of {len(line)} digits")
        self._push(line == b"01" if line in {b"00", b"01"} else int(line))

    def _float(self) -> None:
        self._line()
        self._push(0.0)

    def _binary_float(self) -> None:
        self._read(8)
        self._push(0.0)  # nothing asks for its value

    def _string(self) -> None:
        line = self._line()
        if len(line) < 2 or line[:1] not in b"'\"" or line[:1] != line[-1:]:
            raise ValueError("a string without quotes")
        self._push_python2_string(line[1:-1].decode("unicode_escape").encode("latin-1", "replace"))

    def _unicode(self) -> None:
        self._push_string(self._line().decode("raw_unicode_escape"))

    def _persistent(self) -> None:
        if self._persistent_load is None:
            raise ValueError("a persistent id where none belongs")
        self._push(self._persistent_load(self._stack.pop()))

    def _get(self, index: int) -> None:
        memo = self._memo
        value = memo[index] if 0 <= index < len(memo) else self._scattered[index]
        if value is _MARK:
            raise KeyError(index)
        self._push(value.built if isinstance(value, Unbuilt) else value)

    def _put(self, index: int) -> None:
        memo, value = self._memo, self._stack[-1]
        if index == len(memo):
            memo.append(value)
        elif 0 <= index < len(memo):
            memo[index] = value
        elif 0 <= index - len(memo) <= _GAP:  # picklers skip a number, and begin at 1
            self.room.take(_GAP * _SLOT)
            memo.extend([_MARK] * (index - len(memo)))
            memo.append(value)
        elif 0 <= index < 1 << 32:
            self.room.take(_ITEM)
            self._scattered[index] = value
        else:
            raise KeyError(index)

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, Object):
            self.room.take(_LIST)
            target.parts.append(items)
        elif not isinstance(target, Inert):
            raise TypeError("items for what is no list")

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, dict):
            self.room.take(_ITEM * len(items) // 2 + (0 if target else _DICT))
            # No other key can name a tensor, and hashing nested tuples takes exponential time.
            target.update(
                (key, value)
                for key, value in zip(items[::2], items[1::2], strict=True)
                if type(key) is str or (type(key) is int and 0 <= key < _LARGEST_KEY)
            )
        elif isinstance(target, Object):
            self.room.take(_LIST)
            target.parts.append(items[1::2])
        elif not isinstance(target, Inert):
            raise TypeError("items for what is no dict")

    def _frozen_set(self) -> None:
        self._push(tuple(self._to_mark()))

    def _make_dict(self) -> None:
        items = self._to_mark()
        self._push({})
        self._set_items(items)

    def _global(self) -> None:
        module, name = self._line().decode("utf-8"), self._line().decode("utf-8")
        self.room.take(sys.getsizeof(module) + sys.getsizeof(name))
        self._push(self.find(module, name))

    def _stack_global(self) -> None:
        module, name = self._last(2)
        if type(module) is not str or type(name) is not str:
            raise TypeError("a global without a name")
        self._push(self.find(module, name))

    def _instance(self) -> None:
        self._global()
        kind = self._stack.pop()
        self._push(self.call(kind, tuple(self._to_mark())))

    def _object(self) -> None:
        function, *arguments = self._to_mark()
        self._push(self.call(function, tuple(arguments)))

    def _new_with_keywords(self) -> None:
        function, arguments, keywords = self._last(3)
        made = self.call(function, arguments)
        if isinstance(made, Object):
            made.parts.append(keywords)
        self._push(made)

    def _build(self) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Object):
            target.parts.append(state)
            if isinstance(state, dict) and {"_parameters", "_modules"} <= state.keys():
                target.state = state
                self._modules.add(target.origin)
        elif self._set_state is not None:
            built = self._set_state(self, target, state)
            if isinstance(target, Unbuilt):
                target.built = self._stack[-1] = built


_Operation = Callable[[Unpickler], Any]
# By opcode what it does, and what that takes where it is known before.
_OPCODES: dict[bytes, tuple[_Operation, int]] = {
    # Framing: PROTO, FRAME (its length is of no use here)
    b"\x80": (lambda u: u._read(1), 0),
    b"\x95": (lambda u: u._read(8), 0),
    # Constants and numbers
    b"N": (lambda u: u._push(None), _SLOT),
    b"\x88": (lambda u: u._push(True), _SLOT),
    b"\x89": (lambda u: u._push(False), _SLOT),
    b"I": (Unpickler._int, _NUMBER + _LONGEST_NUMBER // 2),
    b"J": (lambda u: u._push(u._read_int(4, signed=True)), _NUMBER),
    b"K": (lambda u: u._push(u._read_int(1)), _SLOT),
    b"M": (lambda u: u._push(u._read_int(2)), _NUMBER),
    b"L": (lambda u: u._push(u._number()), _NUMBER + _LONGEST_NUMBER // 2),
    b"\x8a": (lambda u: u._long(u._read_int(1)), _NUMBER),
    b"\x8b": (lambda u: u._long(u._read_int(4)), _NUMBER),
    b"F": (Unpickler._float, _SLOT),
    b"G": (Unpickler._binary_float, _SLOT),
    # Text and bytes
    b"S": (Unpickler._string, _SLOT),
    b"T": (lambda u: u._push_python2(u._read_int(4)), _SLOT),
    b"U": (lambda u: u._push_python2(u._read_int(1)), _SLOT),
    b"V": (Unpickler._unicode, _SLOT),
    b"X": (lambda u: u._push_text(u._read_int(4)), _SLOT),
    b"\x8c": (lambda u: u._push_text(u._read_int(1)), _SLOT),
    b"\x8d": (lambda u: u._push_text(u._read_int(8)), _SLOT),
    b"B": (lambda u: u._push_bytes(u._read_int(4)), _SLOT),
    b"C": (lambda u: u._push_bytes(u._read_int(1)), _SLOT),
    b"\x8e": (lambda u: u._push_bytes(u._read_int(8)), _SLOT),
    b"\x96": (lambda u: u._push_bytes(u._read_int(8)), _SLOT),
    # Containers
    b"]": (lambda u: u._push([]), _LIST),
    b"a": (lambda u: u._extend([u._stack.pop()]), _SLOT),
    b"e": (lambda u: u._extend(u._to_mark()), 0),
    b"l": (lambda u: u._push(u._to_mark()), _LIST),
    b")": (lambda u: u._push(()), _SLOT),
    b"t": (lambda u: u._push(tuple(u._to_mark())), _LIST),
    b"\x85": (lambda u: u._push(u._last(1)), _LIST),
    b"\x86": (lambda u: u._push(u._last(2)), _LIST),
    b"\x87": (lambda u: u._push(u._last(3)), _LIST),
    b"}": (lambda u: u._push({}), _DICT),
    b"d": (Unpickler._make_dict, _DICT),
    b"s": (lambda u: u._set_items(list(u._last(2))), 0),
    b"u": (lambda u: u._set_items(u._to_mark()), 0),
    b"\x8f": (lambda u: u._push([]), _LIST),  # a set, of what may have no hash here
    b"\x90": (lambda u: u._extend(u._to_mark()), 0),
    b"\x91": (Unpickler._frozen_set, _LIST),
    # Stack and memo
    b"0": (lambda u: u._stack.pop(), 0),
    b"1": (Unpickler._to_mark, 0),
    b"2": (lambda u: u._push(u._stack[-1]), _SLOT),
    b"(": (lambda u: u._push(_MARK), _SLOT),
    b"g": (lambda u: u._get(u._number()), _SLOT),
    b"h": (lambda u: u._get(u._read_int(1)), _SLOT),
    b"j": (lambda u: u._get(u._read_int(4)), _SLOT),
    b"p": (lambda u: u._put(u._number()), _SLOT),
    b"q": (lambda u: u._put(u._read_int(1)), _SLOT),
    b"r": (lambda u: u._put(u._read_int(4)), _SLOT),
    b"\x94": (lambda u: u._put(len(u._memo)), _SLOT),
    # Objects
    b"c": (Unpickler._global, _SLOT),
    b"\x93": (Unpickler._stack_global, _SLOT),
    b"i": (Unpickler._instance, _SLOT),
    b"o": (Unpickler._object, _SLOT),
    b"R": (lambda u: u._push(u.call(*u._last(2))), _SLOT),
    b"\x81": (lambda u: u._push(u.call(*u._last(2))), _SLOT),
    b"\x92": (Unpickler._new_with_keywords, _LIST),
    b"b": (Unpickler._build, _SLOT),
    b"Q": (Unpickler._persistent, _SLOT),
}
