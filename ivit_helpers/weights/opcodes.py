"""What a pickle does, found out before torch reads it: each opcode in turn, without making a tensor or calling anything.

torch's restricted unpickler never runs code of a file. It does let a file of a few hundred bytes take any amount of memory or time:
by calls such as bytearray(10**12), by nested tuples as keys, or by tensors that reach beyond their storage. What real checkpoints
consist of is little, and only that passes here.
"""

import pickle
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ivit_helpers.weights.archives import Archive
from ivit_helpers.weights.calls import CALLS, ITEM_BYTES, Made, Named, Storage, dtype_bytes, whole
from ivit_helpers.weights.regular import NAME_LENGTH, printable, shown

OPCODES = 2**19
"""The 6B network's pickle has 20,000"""
COPIES = 2**20
"""Items of containers that a pickle copies. Without a limit 16 MiB of opcodes copy one large list a million times."""
KEYS = 2**31
"""A whole number that is a key is smaller. Much larger ones may all have one hash, and a million of those take hours."""
LITERALS = {"NONE": None, "NEWFALSE": False, "NEWTRUE": True, "EMPTY_TUPLE": ()}
VALUES = ("BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "LONG1")
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
CONTAINERS = ("collections.OrderedDict", "yacs.config.CfgNode")
SETS = ("set", "frozenset")


class Ordered(dict[Any, Any]):
    """In place of an ordered dict, whose attributes a pickle may set."""


def _refuse(reason: str) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(reason)


def _kind(value: object) -> str:
    return (
        "function"
        if isinstance(value, Named)
        else value.kind
        if isinstance(value, Made)
        else type(value).__name__.lower()
    )


def _neither(what: str) -> pickle.UnpicklingError:
    return _refuse(f"it {what}, which is neither a tensor nor a plain container")


def _check_key(key: object) -> None:
    if not isinstance(key, str) and not (type(key) is int and abs(key) < KEYS):
        raise _refuse("it has a key that is neither a text nor a small whole number")
    if isinstance(key, str) and key and not printable(key):
        raise _refuse(f"it has a name that is longer than {NAME_LENGTH} characters or cannot be printed: {shown(key)}")


@dataclass
class Scan:
    """One pickle of one archive, opcode by opcode, as torch's unpickler takes them."""

    archive: Archive
    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)
    """The stacks under each mark"""
    memo: dict[int, Any] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)
    copies: int = 0

    def run(self) -> None:
        """Raises UnpicklingError for what no checkpoint holds, and ValueError, IndexError or KeyError for a damaged pickle."""
        steps: dict[str, Callable[[Any], None]] = {
            "PROTO": self._protocol, "GLOBAL": self._global, "NEWOBJ": self._new, "REDUCE": self._reduce, "BUILD": self._build,
            "BINPERSID": self._storage, "APPEND": self._append, "APPENDS": self._append_all, "SETITEM": self._set,
            "SETITEMS": self._set_all, "MARK": self._mark, "TUPLE": self._tuple, "BINGET": self._get, "LONG_BINGET": self._get,
            "BINPUT": self._put, "LONG_BINPUT": self._put, "EMPTY_LIST": lambda _: self.stack.append([]),
            "EMPTY_DICT": lambda _: self.stack.append({}),
        }  # fmt: skip
        for number, (opcode, argument, _) in enumerate(pickletools.genops(self.archive.pickle)):
            name = opcode.name
            if number == OPCODES:
                raise _refuse(f"its pickle has more than {OPCODES:,} opcodes")
            if name == "STOP":
                self.stack.pop()
                return
            if name in VALUES:
                self.stack.append(argument)
            elif name in LITERALS:
                self.stack.append(LITERALS[name])
            elif name in TUPLES:
                self.stack[-TUPLES[name] :] = [self._last(TUPLES[name])]
            elif name in steps:
                steps[name](argument)
            else:
                raise _refuse(
                    f"its pickle protocol is not 2, the one that torch.save writes by itself (it has the opcode {name})"
                )

    def _last(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise IndexError("the pickle takes what it did not put")
        return tuple(self.stack[-count:])

    def _copied(self, count: int) -> None:
        self.copies += count
        if self.copies > COPIES:
            raise _refuse(f"it copies more than {COPIES:,} items of its containers")

    def _protocol(self, number: int) -> None:
        if number not in (2, 3):
            raise _refuse("its pickle protocol is not 2, the one that torch.save writes by itself")

    def _mark(self, _: object) -> None:
        self.below.append(self.stack)
        self.stack = []

    def _marked(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def _tuple(self, _: object) -> None:
        items = tuple(self._marked())
        self.stack.append(items)

    def _get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def _put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def _append(self, _: object) -> None:
        self._extend([self.stack.pop()])

    def _append_all(self, _: object) -> None:
        self._extend(self._marked())

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise _refuse("it appends to what is not a list")
        self.stack[-1].extend(items)

    def _set(self, _: object) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _set_all(self, _: object) -> None:
        self._update(self._marked())

    def _update(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict) or len(items) % 2:
            raise _refuse("it sets items of what is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            _check_key(key)
            self.stack[-1][key] = value

    def _global(self, written: str) -> None:
        name = written.replace(" ", ".", 1)
        name = next(
            (name.removeprefix(module) for module in ("builtins.", "__builtin__.") if name.startswith(module)), name
        )
        named = Named(name)
        if name not in (*CONTAINERS, *SETS, *CALLS, *ITEM_BYTES) and dtype_bytes(named) is None:
            raise _neither(f"names {name if printable(name) else shown(name)}")
        self.stack.append(named)

    def _new(self, _: object) -> None:
        arguments, cls = self.stack.pop(), self.stack.pop()
        if not (isinstance(cls, Named) and cls.name in CONTAINERS and arguments == ()):
            raise _neither(f"makes a new {cls.name if isinstance(cls, Named) else 'object'}")
        self.stack.append(Ordered())

    def _build(self, _: object) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is not Ordered:
            raise _neither(f"changes or calls a {_kind(target)}")
        # Any other attribute could take the place of a method.
        if not isinstance(state, dict) or not all(isinstance(name, str) and name.startswith("_") for name in state):
            raise _refuse("it sets attributes that are not private ones of an ordered dict")
        self._copied(len(state))

    def _storage(self, _: object) -> None:
        match self.stack.pop():
            case ("storage", Named(name), str(key), str(), int(count)) if name in ITEM_BYTES and whole(count):
                found = Storage(key, ITEM_BYTES[name], count * ITEM_BYTES[name])
            case _:
                raise _refuse("it names a storage as torch.save does not")
        if self.archive.records.get(f"data/{key}") != found.nbytes:
            raise ValueError(f"its record data/{shown(key)} is missing or not of the length that its pickle says")
        if self.storages.setdefault(key, found) != found:
            raise _refuse("it names one storage in two ways")
        self.stack.append(found)

    def _reduce(self, _: object) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Named) or not isinstance(arguments, tuple):
            raise _neither(f"changes or calls a {_kind(function)}")
        if function.name in CONTAINERS and arguments == ():
            self.stack.append(Ordered())
        elif function.name in SETS and len(arguments) == 1 and type(arguments[0]) is list:
            self._copied(len(arguments[0]))
            for item in arguments[0]:
                _check_key(item)
            self.stack.append(Made("set"))
        elif (made := CALLS.get(function.name)) and (kind := made(arguments)):
            self._copied(sum(len(item) for item in arguments if isinstance(item, tuple | str)))
            self.stack.append(Made(kind))
        else:
            raise _neither(f"calls {function.name} as torch.save does not")
