"""PythonQt's conventions laid over PySide6: properties are attributes, enums are ints, signals
connect by name, and anything PythonQt would refuse or silently ignore raises."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import types
from collections.abc import Callable
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
# Must precede the first import of PySide6: makes every Qt enum an IntEnum, as in PythonQt.
os.environ.setdefault("PYSIDE6_OPTION_PYTHON_ENUM", "2")

from PySide6 import QtCore, QtGui, QtNetwork, QtWidgets
from shiboken6 import Shiboken

_QT_MODULES = (QtCore, QtGui, QtWidgets, QtNetwork)
_ABSENT = object()
_qt_property = QtCore.QObject.property
_qt_set_property = QtCore.QObject.setProperty
_qt_connect = QtCore.QObject.connect
_qt_disconnect = QtCore.QObject.disconnect
_qt_getattribute = QtCore.QObject.__getattribute__


@dataclasses.dataclass(frozen=True)
class Members:
    """The names that Qt's meta-object system knows of a class."""

    properties: tuple[str, ...]
    signals: tuple[str, ...]
    methods: tuple[str, ...]


@functools.cache
def members(cls: Any) -> Members:
    """Read once per class: PySide invalidates a meta-object with the first widget asked for it."""
    meta = cls.staticMetaObject
    methods = [meta.method(index) for index in range(meta.methodCount())]
    return Members(
        tuple(meta.property(index).name() for index in range(meta.propertyCount())),
        tuple(_signature(method) for method in methods if method.methodType() == QtCore.QMetaMethod.Signal),
        tuple(_signature(method) for method in methods),
    )


def _signature(method: QtCore.QMetaMethod) -> str:
    return bytes(method.methodSignature()).decode()


class QtProperty:
    """A Qt property as an attribute; a static method of its name stays reachable on the class."""

    def __init__(self, name: str, original: Any = _ABSENT) -> None:
        self._name, self._original = name, original
        self._being_read: set[int] = set()

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self if self._original is _ABSENT else self._original
        if id(instance) in self._being_read:
            # A virtual getter such as sizeHint looks here for a Python override: there is none.
            return self._original.__get__(instance, owner)
        self._being_read.add(id(instance))
        try:
            return _qt_property(instance, self._name)
        finally:
            self._being_read.discard(id(instance))

    def __set__(self, instance: Any, value: Any) -> None:
        if not _qt_set_property(instance, self._name, value):
            raise AttributeError(f"property '{self._name}' of {type(instance).__name__} refuses {value!r}")


class BoundSignal:
    """One signal of one object: connect, disconnect, emit, or call it to emit."""

    def __init__(self, sender: QtCore.QObject, name: str, original: Any) -> None:
        self._sender, self._name, self._original = sender, name, original

    def connect(self, receiver: Callable[..., Any]) -> bool:
        return connect(self._sender, self._signature(), receiver)

    def disconnect(self, receiver: Callable[..., Any]) -> bool:
        return disconnect(self._sender, self._signature(), receiver)

    def emit(self, *args: Any) -> None:
        self._original.__get__(self._sender, type(self._sender)).emit(*args)

    __call__ = emit

    def _signature(self) -> str:
        # PythonQt takes the overload declared first, which is the one with every argument.
        signals = members(type(self._sender)).signals
        return next(signature for signature in signals if signature.startswith(f"{self._name}("))


class QtSignal:
    """Descriptor that hands out a `BoundSignal` in place of PySide's own."""

    def __init__(self, name: str, original: Any) -> None:
        self._name, self._original = name, original

    def __get__(self, instance: Any, owner: type) -> Any:
        return self._original if instance is None else BoundSignal(instance, self._name, self._original)

    def __set__(self, instance: Any, value: Any) -> None:
        if not isinstance(value, QtCore.SignalInstance):
            raise AttributeError(f"'{self._name}' of '{type(instance).__name__}' cannot be assigned: it is a signal")
        # PySide keeps the bound signal of a Python class on the object.
        instance.__dict__[self._name] = value


_links: dict[tuple[int, str], list[tuple[Any, Any]]] = {}


def normalized(signature: str) -> str:
    return bytes(QtCore.QMetaObject.normalizedSignature(signature)).decode()


def resolve_signal(sender: QtCore.QObject, signature: str) -> str:
    """The Qt signature behind a name as Slicer writes it; unknown signals raise."""
    wanted = normalized(signature)
    wanted = getattr(type(sender), "mrml_signals", {}).get(wanted, wanted)
    if wanted not in members(type(sender)).signals:
        raise ValueError(f"{type(sender).__name__} has no signal '{signature}'")
    return wanted


def resolve_slot(receiver: QtCore.QObject, signature: str) -> Callable[..., Any]:
    """The method behind a slot or signal signature of `receiver`; unknown ones raise."""
    wanted = normalized(signature)
    known = wanted in getattr(type(receiver), "mrml_slots", ())
    wanted = getattr(type(receiver), "mrml_signals", {}).get(wanted, wanted)
    if not known and wanted not in members(type(receiver)).methods:
        raise ValueError(f"{type(receiver).__name__} has no slot '{signature}'")
    slot: Callable[..., Any] = getattr(receiver, wanted.partition("(")[0])
    return slot


def connect(sender: QtCore.QObject, signal: Any, receiver: Any, slot: Any = None) -> bool:
    """`sender.connect("clicked()", f)` or `sender.connect("clicked()", widget, "hide()")`."""
    if isinstance(signal, QtCore.QObject):
        # PySide's own QTimer.singleShot calls timer.connect(timer, "2timeout()", f).
        return connect(signal, receiver.removeprefix("2"), slot)
    signature = resolve_signal(sender, signal)
    target = receiver if slot is None else resolve_slot(receiver, slot)
    if not callable(target):
        raise TypeError(f"'{signal}' cannot be connected to {target!r}: it is not callable")
    link = _qt_connect(sender, QtCore.SIGNAL(signature), _with_fewer_arguments(target, signature))
    if not link:
        raise ValueError(f"{type(sender).__name__} did not connect '{signal}'")
    _links.setdefault((Shiboken.getCppPointer(sender)[0], signature), []).append((target, link))
    return True


def disconnect(sender: QtCore.QObject, signal: str, receiver: Any, slot: str | None = None) -> bool:
    signature = resolve_signal(sender, signal)
    target = receiver if slot is None else resolve_slot(receiver, slot)
    links = _links.get((Shiboken.getCppPointer(sender)[0], signature), [])
    mine = [entry for entry in links if entry[0] == target]
    for entry in mine:
        links.remove(entry)
    return any([_qt_disconnect(link) for _, link in mine])


def disconnect_all(sender: QtCore.QObject, signal: str) -> None:
    for _, link in _links.pop((Shiboken.getCppPointer(sender)[0], resolve_signal(sender, signal)), []):
        _qt_disconnect(link)


def _with_fewer_arguments(target: Callable[..., Any], signature: str) -> Callable[..., Any]:
    """PythonQt drops the arguments that a Python function does not take; other callables get them all."""
    accepted = _positional_arguments(target)
    if accepted is None and inspect.isbuiltin(target):
        return _builtin_slot(target)

    def call(*args: Any) -> None:
        target(*args[:accepted])

    return call


def _builtin_slot(target: Any) -> Callable[..., Any]:
    """A method of Qt takes as many of the arguments as its longest fitting overload."""
    known = members(type(target.__self__)).methods
    lists = [m.partition("(")[2][:-1] for m in known if m.startswith(f"{target.__name__}(")]
    counts = [len(arguments.split(",")) if arguments else 0 for arguments in lists]

    def call(*args: Any) -> None:
        target(*args[: max((n for n in counts if n <= len(args)), default=len(args))])

    return call


def _positional_arguments(target: Callable[..., Any]) -> int | None:
    function = getattr(target, "__func__", target)
    code = getattr(function, "__code__", None)
    if code is None or code.co_flags & inspect.CO_VARARGS:
        return None
    return int(code.co_argcount) - int(inspect.ismethod(target))


def _set_attribute(self: Any, name: str, value: Any) -> None:
    found = inspect.getattr_static(type(self), name, _ABSENT)
    if isinstance(found, (QtProperty, QtSignal, property)):
        found.__set__(self, value)
    elif isinstance(found, QtCore.Property):
        QtProperty(name).__set__(self, value)
    elif _may_hold(type(self), name, found):
        self.__dict__[name] = value
    elif found is _ABSENT and name.encode() in [bytes(p) for p in self.dynamicPropertyNames()]:
        _qt_set_property(self, name, value)
    elif found is _ABSENT:
        raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")
    else:
        raise AttributeError(f"'{name}' of '{type(self).__name__}' cannot be assigned: it is a method")


def _may_hold(cls: type, name: str, found: Any) -> bool:
    """A stand-in's declared private state, or anything new on a Python subclass written in a module."""
    if cls.__dict__.get("stand_in"):
        return name.startswith("_") and found is not _ABSENT
    is_python_class = not cls.__module__.startswith(("PySide6", "Shiboken"))
    return is_python_class and (found is _ABSENT or not _belongs_to_qt(found))


def _belongs_to_qt(found: Any) -> bool:
    return isinstance(found, (types.BuiltinMethodType, types.MethodDescriptorType)) or hasattr(found, "__objclass__")


def _get_attribute(self: Any, name: str) -> Any:
    # PySide resolves these two in C, before it looks at the class.
    if name == "connect" or name == "disconnect":
        return types.MethodType(connect if name == "connect" else disconnect, self)
    return _qt_getattribute(self, name)


def _get_dynamic_property(self: Any, name: str) -> Any:
    if not name.startswith("__") and name.encode() in [bytes(p) for p in self.dynamicPropertyNames()]:
        return _qt_property(self, name)
    raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")


def stand_in(cls: type) -> type:
    """Class decorator for a stand-in widget: as strict as a C++ class of Slicer."""
    cls.stand_in = True
    _wrap_signals(cls)
    return cls


def _wrap_signals(cls: type) -> None:
    for name, value in list(vars(cls).items()):
        if isinstance(value, QtCore.Signal):
            setattr(cls, name, QtSignal(name, value))


def _lay_over(cls: Any) -> None:
    inherited = members(cls.__mro__[1]).properties if cls is not QtCore.QObject else ()
    for name in members(cls).properties:
        own = vars(cls).get(name, _ABSENT)
        if name in inherited and own is _ABSENT:
            continue
        setattr(cls, name, QtProperty(name, own))
    _wrap_signals(cls)
    cls.__setattr__ = _set_attribute
    cls.__getattribute__ = _get_attribute
    cls.__getattr__ = _get_dynamic_property


def install() -> None:
    """Lay the conventions over every QObject class of PySide6, once per process."""
    if isinstance(vars(QtWidgets.QAbstractButton)["text"], QtProperty):
        return
    if not isinstance(QtCore.QProcess.NotRunning, int):
        raise RuntimeError("PySide6 was imported before the stand-in host: its enums are not ints")
    # PySide fills its modules on first access, so `vars` would show a part only.
    every = [getattr(module, name) for module in _QT_MODULES for name in dir(module)]
    classes = {value for value in every if isinstance(value, type)}
    for cls in sorted(classes, key=lambda c: len(c.__mro__)):
        if issubclass(cls, QtCore.QObject):
            _lay_over(cls)
    base: Any = QtCore.QObject
    base.connect, base.disconnect = connect, disconnect
    base.name = QtProperty("objectName")


def qt_module() -> types.ModuleType:
    """The flat `qt` module as scripted modules import it."""
    module = types.ModuleType("qt", "PySide6 under PythonQt's conventions")
    for source in _QT_MODULES:
        for name in dir(source):
            if name.startswith("Q"):
                setattr(module, name, getattr(source, name))
    return module
