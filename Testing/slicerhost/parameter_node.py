"""`@parameterNodeWrapper`: typed attributes over a real parameter node, bound to widgets both ways.
Stricter than Slicer's: an undeclared attribute or parameter name raises."""

# Slicer chose these names.

from __future__ import annotations

import dataclasses
import enum
import pathlib
import types
from collections.abc import Callable
from typing import Any, ClassVar

import shiboken6
import slicer.util
import vtk
from PySide6 import QtWidgets

from . import parameter_types
from .ctk_widgets import WIDGETS as CTK
from .mrml_widgets import qMRMLNodeComboBox
from .parameter_types import Parameter, declared_parameters, is_node_type

PROPERTY = "SlicerParameterName"


@dataclasses.dataclass(frozen=True)
class Binding:
    """How one widget shows one parameter."""

    changed: Any
    read: Callable[[], Any]
    write: Callable[[Any], None]


def bind(widget: Any, parameter: Parameter) -> Binding:
    """The binding for exactly this class of widget, as Slicer matches them; other pairs raise."""
    kind, cls = parameter.type, type(widget)
    if kind is bool and cls in (QtWidgets.QCheckBox, QtWidgets.QPushButton):
        widget.setCheckable(True)
        return Binding(widget.toggled, lambda: widget.checked, widget.setChecked)
    if kind is int and cls in (QtWidgets.QSlider, QtWidgets.QSpinBox):
        return _number(widget, parameter, (-(2**31), 2**31 - 1))
    if kind is float and cls in (QtWidgets.QDoubleSpinBox, CTK["ctkSliderWidget"]):
        return _number(widget, parameter, (float("-inf"), float("inf")))
    if cls is QtWidgets.QComboBox and (choice := parameter.find(parameter_types.Choice)):
        return _combo_box(widget, {str(value): value for value in choice.choices})
    if cls is QtWidgets.QComboBox and isinstance(kind, type) and issubclass(kind, enum.Enum):
        label = getattr(kind, "label", lambda member: member.name)
        return _combo_box(widget, {label(member): member for member in kind})
    return _bind_text_or_node(widget, parameter)


def _bind_text_or_node(widget: Any, parameter: Parameter) -> Binding:
    kind, cls = parameter.type, type(widget)
    if kind is str and cls is QtWidgets.QLineEdit:
        return Binding(widget.textChanged, lambda: widget.text, lambda value: _set_if_new(widget, "text", value))
    if kind is str and cls is QtWidgets.QTextEdit:
        return Binding(widget.textChanged, widget.toPlainText, lambda value: _set_if_new(widget, "plainText", value))
    if kind is pathlib.Path and cls is CTK["ctkPathLineEdit"]:
        return _path(widget, "currentPath", widget.currentPathChanged)
    if kind is pathlib.Path and cls is CTK["ctkDirectoryButton"]:
        return _path(widget, "directory", widget.directoryChanged)
    if is_node_type(kind) and cls is qMRMLNodeComboBox:
        widget.nodeTypes = [kind.__name__]
        return Binding(widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode)
    raise RuntimeError(f"{cls.__name__} '{widget.objectName}' cannot show parameter '{parameter.name}' of type {kind}")


def _set_if_new(widget: Any, name: str, value: Any) -> None:
    # Writing an equal text would move the cursor of a field that is being typed into.
    if getattr(widget, name) != value:
        setattr(widget, name, value)


def _path(widget: Any, name: str, changed: Any) -> Binding:
    read = lambda: pathlib.Path(getattr(widget, name))  # noqa: E731
    return Binding(changed, read, lambda value: _set_if_new(widget, name, str(value)))


def _number(widget: Any, parameter: Parameter, widest: tuple[float, float]) -> Binding:
    for hint in parameter.hints:
        setattr(widget, "decimals" if isinstance(hint, parameter_types.Decimals) else "singleStep", hint.value)
    limits = parameter.find(parameter_types.WithinRange)
    lower = limits or parameter.find(parameter_types.Minimum)
    upper = limits or parameter.find(parameter_types.Maximum)
    if type(widget) in (QtWidgets.QSlider, CTK["ctkSliderWidget"]) and not (lower and upper):
        raise RuntimeError(f"'{widget.objectName}' is a slider: parameter '{parameter.name}' needs both bounds")
    widget.setRange(lower.minimum if lower else widest[0], upper.maximum if upper else widest[1])
    return Binding(widget.valueChanged, lambda: widget.value, widget.setValue)


def _combo_box(widget: Any, entries: dict[str, Any]) -> Binding:
    values = list(entries.values())
    widget.clear()
    widget.addItems(list(entries))
    return Binding(
        widget.currentIndexChanged,
        lambda: values[widget.currentIndex],
        lambda value: widget.setCurrentIndex(values.index(value)),
    )


class _Wrapper:
    """The methods every wrapped class gets."""

    allParameters: ClassVar[dict[str, Parameter]] = {}

    def __init__(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._bindings: dict[int, tuple[dict[str, tuple[Binding, Any]], int]] = {}
        self._showing = False
        for name in self.allParameters:
            self.getValue(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.allParameters:
            self.setValue(name, value)
        elif name in ("parameterNode", "_bindings", "_showing") or hasattr(type(self), name):
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(f"{type(self).__name__} declares no parameter '{name}'")

    def _parameter(self, name: str) -> Parameter:
        if name not in self.allParameters:
            raise ValueError(f"{type(self).__name__} declares no parameter '{name}', only {list(self.allParameters)}")
        return self.allParameters[name]

    def getValue(self, name: str) -> Any:
        parameter = self._parameter(name)
        # Closing the scene empties a singleton node: its parameters then start over.
        if not self.parameterNode.HasParameter(name):
            parameter.write(self.parameterNode, parameter.default)
        return parameter.read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        with slicer.util.NodeModify(self.parameterNode):
            self._parameter(name).write(self.parameterNode, value)

    def default(self, name: str) -> Any:
        return parameter_types.Default(self._parameter(name).default)

    def dataType(self, name: str) -> Any:
        return self._parameter(name).type

    def connectGui(self, gui: Any) -> None:
        # No tag is returned, as in Slicer: what is to be disconnected needs connectParametersToGui.
        widgets = gui.findChildren(QtWidgets.QWidget) if isinstance(gui, QtWidgets.QWidget) else vars(gui).values()
        named = ((widget.property(PROPERTY), widget) for widget in widgets)
        self.connectParametersToGui({name: widget for name, widget in named if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        bound = {}
        for name, widget in mapping.items():
            binding = bind(widget, self._parameter(name))
            binding.write(self.getValue(name))
            edited = self._writer(name, binding)
            binding.changed.connect(edited)
            bound[name] = (binding, edited)
        widgets = list(mapping.values())
        observer = self.parameterNode.AddObserver(
            vtk.vtkCommand.ModifiedEvent, lambda *_: self._show(bound) if all(map(shiboken6.isValid, widgets)) else None
        )
        tag = max(self._bindings, default=-1) + 1
        self._bindings[tag] = (bound, observer)
        return tag

    def _writer(self, name: str, binding: Binding) -> Callable[[], None]:
        def edited() -> None:
            if not self._showing:
                self.setValue(name, binding.read())

        return edited

    def _show(self, bound: dict[str, tuple[Binding, Any]]) -> None:
        if self._showing:
            return
        self._showing = True
        try:
            for name, (binding, _) in bound.items():
                binding.write(self.getValue(name))
        finally:
            self._showing = False

    def disconnectGui(self, tag: int | None) -> None:
        if tag is None or tag not in self._bindings:
            return
        bound, observer = self._bindings.pop(tag)
        self.parameterNode.RemoveObserver(observer)
        for binding, edited in bound.values():
            binding.changed.disconnect(edited)

    def StartModify(self) -> int:
        return int(self.parameterNode.StartModify())

    def EndModify(self, was_modifying: int) -> int:
        return int(self.parameterNode.EndModify(was_modifying))

    def AddObserver(self, event: Any, callback: Callable[..., Any], priority: float = 0.0) -> int:
        return int(self.parameterNode.AddObserver(event, callback, priority))

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def parameterNodeWrapper(cls: type | None = None) -> Any:
    """The class decorator, written with or without parentheses."""
    if cls is None:
        return parameterNodeWrapper
    parameters = declared_parameters(cls)
    for name in parameters:
        if hasattr(_Wrapper, name) or name == "parameterNode":
            raise ValueError(f"'{name}' is reserved in a parameterNodeWrapper")
    members: dict[str, Any] = {name: value for name, value in vars(cls).items() if name not in parameters}
    members = {name: value for name, value in members.items() if name not in ("__dict__", "__weakref__")}
    for name in parameters:
        members[name] = property(lambda self, name=name: self.getValue(name))
    return type(cls.__name__, (_Wrapper, *cls.__bases__), members | {"allParameters": parameters})


def isParameterNodeWrapper(candidate: Any) -> bool:
    return issubclass(candidate if isinstance(candidate, type) else type(candidate), _Wrapper)


def wrapper_module() -> types.ModuleType:
    """The importable `slicer.parameterNodeWrapper`."""
    module = types.ModuleType("slicer.parameterNodeWrapper")
    for exported in (parameterNodeWrapper, isParameterNodeWrapper):
        setattr(module, exported.__name__, exported)
    for name in (
        "Default",
        "Choice",
        "WithinRange",
        "Minimum",
        "Maximum",
        "Exclude",
        "Validator",
        "Decimals",
        "SingleStep",
    ):
        setattr(module, name, getattr(parameter_types, name))
    module.SlicerParameterNamePropertyName = PROPERTY
    return module
