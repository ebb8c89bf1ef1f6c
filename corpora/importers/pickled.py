"""The arrays inside CIFAR's Python batches, read without unpickling.

A pickle is a program for a stack machine that may call anything. Here that program is only *read*: `pickletools.genops`
splits it into operations, and the few that make containers, texts and numbers are followed. A name that would be looked
up (`numpy.ndarray`) stays an inert text, a call stays an inert record of what would have been called, and any operation
or name beyond the ones in CIFAR's own files ends the reading. Nothing is imported, nothing is called.
See docs/decisions/0004-cifar-without-unpickling.md.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_ARRAY_MAKERS = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
_NAMES = {*_ARRAY_MAKERS, "numpy ndarray", "numpy dtype", "_codecs encode"}
_MARK = object()


class NotPlainData(ValueError):
    """The file asks for more than plain data; the message says what."""


@dataclass
class _Name:
    text: str


@dataclass
class _Call:
    name: str
    arguments: tuple[Any, ...]
    state: Any = None


def read_plain(data: bytes) -> Any:
    """The value that a pickle of dicts, lists, texts, numbers and uint8 arrays describes; texts as bytes or str.

    Raises NotPlainData for everything else.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for operation, argument, _ in pickletools.genops(data):
            if operation.name == "STOP":
                return _plain(stack.pop(), {})
            follow = _OPERATIONS.get(operation.name)
            if follow is None:
                raise NotPlainData(f"it uses the pickle operation {operation.name}, which plain data does not need")
            follow(stack, memo, argument)
    except NotPlainData:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        raise NotPlainData(f"it is damaged or no pickle: {error}") from error
    raise NotPlainData("it is cut off")


def _push(stack: list[Any], memo: dict[int, Any], value: Any) -> None:
    stack.append(value)


def _push_raw(stack: list[Any], memo: dict[int, Any], value: str) -> None:
    """Python 2's byte strings; pickletools shows them as Latin-1."""
    stack.append(value.encode("latin-1"))


def _constant(make: Callable[[], Any]) -> Callable[..., None]:
    return lambda stack, memo, argument: stack.append(make())


def _name(stack: list[Any], memo: dict[int, Any], text: str) -> None:
    if text not in _NAMES:
        raise NotPlainData(f'it names "{text.replace(" ", ".")}", which plain data does not need')
    stack.append(_Name(text))


def _call(stack: list[Any], memo: dict[int, Any], argument: Any) -> None:
    arguments, name = stack.pop(), stack.pop()
    if not isinstance(name, _Name) or not isinstance(arguments, tuple):
        raise NotPlainData("it calls something that is no name")
    match name.text, arguments:
        case "_codecs encode", (str(text), "latin1"):  # how Python 3 writes bytes for Python 2
            stack.append(text.encode("latin-1"))
        case _:
            stack.append(_Call(name.text, arguments))


def _build(stack: list[Any], memo: dict[int, Any], argument: Any) -> None:
    state = stack.pop()
    if not isinstance(stack[-1], _Call):
        raise NotPlainData("it sets the state of something that is no array")
    stack[-1].state = state


def _since_mark(stack: list[Any]) -> list[Any]:
    place = len(stack) - 1
    while stack[place] is not _MARK:
        place -= 1
        if place < 0:
            raise IndexError("no mark")
    values = stack[place + 1 :]
    del stack[place:]
    return values


def _appends(stack: list[Any], memo: dict[int, Any], argument: Any) -> None:
    values = _since_mark(stack)
    stack[-1].extend(values)


def _append(stack: list[Any], memo: dict[int, Any], argument: Any) -> None:
    value = stack.pop()
    stack[-1].append(value)


def _set_items(stack: list[Any], memo: dict[int, Any], argument: Any) -> None:
    values = _since_mark(stack)
    stack[-1].update(zip(values[::2], values[1::2], strict=True))


def _set_item(stack: list[Any], memo: dict[int, Any], argument: Any) -> None:
    value, key = stack.pop(), stack.pop()
    stack[-1][key] = value


def _tuple_of(count: int) -> Callable[..., None]:
    def make(stack: list[Any], memo: dict[int, Any], argument: Any) -> None:
        values = tuple(stack[-count:])
        del stack[-count:]
        stack.append(values)

    return make


def _put(stack: list[Any], memo: dict[int, Any], argument: int) -> None:
    memo[int(argument)] = stack[-1]


def _memoize(stack: list[Any], memo: dict[int, Any], argument: Any) -> None:
    memo[len(memo)] = stack[-1]


_OPERATIONS: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda stack, memo, argument: None),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _push_raw),
    **dict.fromkeys(
        (
            "BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
            "INT", "LONG", "LONG1", "BININT", "BININT1", "BININT2",
        ),
        _push,
    ),
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "EMPTY_DICT": _constant(dict),
    "EMPTY_LIST": _constant(list),
    "EMPTY_TUPLE": _constant(tuple),
    "MARK": _constant(lambda: _MARK),
    "DICT": lambda stack, memo, argument: stack.append(dict(_pairs(_since_mark(stack)))),
    "LIST": lambda stack, memo, argument: stack.append(_since_mark(stack)),
    "TUPLE": lambda stack, memo, argument: stack.append(tuple(_since_mark(stack))),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    "MEMOIZE": _memoize,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda stack, memo, argument: stack.append(memo[int(argument)])),
    "GLOBAL": _name,
    "STACK_GLOBAL": lambda stack, memo, argument: _name(stack, memo, " ".join((stack.pop(-2), stack.pop()))),
    "REDUCE": _call,
    "BUILD": _build,
}  # fmt: skip


def _pairs(values: list[Any]) -> Any:
    return zip(values[::2], values[1::2], strict=True)


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """The value with its records of array calls turned into arrays; shared parts stay shared, loops are refused."""
    if not isinstance(value, dict | list | tuple | _Call | _Name):
        return value
    if id(value) in done:
        if done[id(value)] is _MARK:
            raise NotPlainData("it contains itself")
        return done[id(value)]
    done[id(value)] = _MARK
    if isinstance(value, dict):
        result: Any = {key: _plain(item, done) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        result = type(value)(_plain(item, done) for item in value)
    else:
        result = _array(value)
    done[id(value)] = result
    return result


def _array(value: Any) -> npt.NDArray[np.uint8]:
    """The uint8 array that a record of a call and its state describes."""
    match value:
        case _Call(name, _, (_, tuple(shape), _Call("numpy dtype") as kind, fortran, data)) if name in _ARRAY_MAKERS:
            if kind.arguments[:1] not in {("u1",), (b"u1",)} or not isinstance(data, bytes):
                raise NotPlainData("it holds an array that is not of bytes")
            return np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")
    raise NotPlainData(f"it holds {value}, which is no array")
