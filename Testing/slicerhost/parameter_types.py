"""What a typed parameter may be: the validators of `slicer.parameterNodeWrapper` and how a value of
each type is written into a parameter node and read back."""

# Slicer chose these names.

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import json
import pathlib
import typing
from collections.abc import Callable, Iterable
from typing import Any

import slicer


@dataclasses.dataclass(frozen=True)
class Default:
    value: Any


@dataclasses.dataclass(frozen=True)
class Decimals:
    value: int


@dataclasses.dataclass(frozen=True)
class SingleStep:
    value: float


class Validator:
    """Base of the annotations that refuse a value."""

    def accepts(self, value: Any) -> bool:
        raise NotImplementedError

    def validate(self, value: Any) -> None:
        if not self.accepts(value):
            raise ValueError(f"{value!r} is refused by {self}")


@dataclasses.dataclass(frozen=True)
class Minimum(Validator):
    minimum: float

    def accepts(self, value: Any) -> bool:
        return bool(value >= self.minimum)


@dataclasses.dataclass(frozen=True)
class Maximum(Validator):
    maximum: float

    def accepts(self, value: Any) -> bool:
        return bool(value <= self.maximum)


@dataclasses.dataclass(frozen=True)
class WithinRange(Validator):
    minimum: float
    maximum: float

    def accepts(self, value: Any) -> bool:
        return bool(self.minimum <= value <= self.maximum)


@dataclasses.dataclass(frozen=True)
class Choice(Validator):
    choices: Any

    def accepts(self, value: Any) -> bool:
        return value in self.choices


@dataclasses.dataclass(frozen=True)
class Exclude(Validator):
    excludedValues: Any

    def accepts(self, value: Any) -> bool:
        return value not in self.excludedValues


class ObservedList(collections.abc.MutableSequence):
    """What a list parameter reads as: editing it writes the parameter. It is no `list`, as in Slicer."""

    def __init__(self, values: Iterable[Any], save: Callable[[list[Any]], None]) -> None:
        self._values, self._save = list(values), save

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        return self._values[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._values[index] = value
        self._save(self._values)

    def __delitem__(self, index: Any) -> None:
        del self._values[index]
        self._save(self._values)

    def insert(self, index: int, value: Any) -> None:
        self._values.insert(index, value)
        self._save(self._values)

    def __eq__(self, other: object) -> bool:
        return self._values == (other._values if isinstance(other, ObservedList) else other)

    def __repr__(self) -> str:
        return f"ObservedList({self._values})"


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One declared parameter: its type, default, validators and hints for its widget."""

    name: str
    type: Any
    default: Any
    validators: tuple[Validator, ...] = ()
    hints: tuple[Any, ...] = ()

    def find(self, annotation: type) -> Any:
        return next((a for a in (*self.validators, *self.hints) if isinstance(a, annotation)), None)

    def read(self, node: Any) -> Any:
        if is_node_type(self.type):
            return node.GetNodeReference(self.name)
        if is_node_list(self.type):
            count = int(node.GetParameter(f"{self.name}_len") or 0)
            nodes = [node.GetNodeReference(f"{self.name}_{n}") for n in range(count)]
            return ObservedList(nodes, lambda values: self.write(node, values))
        text = node.GetParameter(self.name)
        if typing.get_origin(self.type) is list:
            return ObservedList(json.loads(text), lambda values: self.write(node, values))
        if issubclass(self.type, enum.Enum):
            return self.type[text]
        return text == "True" if self.type is bool else self.type(text)

    def write(self, node: Any, value: Any) -> None:
        self._check(value)
        if is_node_type(self.type):
            # An empty parameter marks "no node" as a choice that was made.
            node.SetParameter(self.name, "")
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
        elif is_node_list(self.type):
            # As many references as there are nodes, and none left over from a longer list.
            known = int(node.GetParameter(f"{self.name}_len") or 0)
            for number, each in enumerate([*value, *[None] * (known - len(value))]):
                node.SetNodeReferenceID(f"{self.name}_{number}", each.GetID() if each is not None else None)
            node.SetParameter(f"{self.name}_len", str(len(value)))
            node.SetParameter(self.name, "")
        elif typing.get_origin(self.type) is list:
            node.SetParameter(self.name, json.dumps(list(value)))
        else:
            node.SetParameter(self.name, value.name if isinstance(value, enum.Enum) else str(value))

    def _check(self, value: Any) -> None:
        node_type = is_node_type(self.type)
        if value is None and not node_type:
            raise ValueError(f"parameter '{self.name}' must not be None")
        is_list = typing.get_origin(self.type) is list
        expected = (list, ObservedList) if is_list else (int, float) if self.type is float else self.type
        if value is not None and not isinstance(value, expected):
            raise TypeError(f"parameter '{self.name}' is {self.type}, not {type(value).__name__}: {value!r}")
        elements = (*typing.get_args(self.type), type(None)) if is_node_list(self.type) else typing.get_args(self.type)
        if is_list and not all(isinstance(v, elements) for v in value):
            raise TypeError(f"parameter '{self.name}' is {self.type}: {value!r}")
        for validator in self.validators:
            validator.validate(value)


def is_node_type(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


def is_node_list(kind: Any) -> bool:
    return typing.get_origin(kind) is list and is_node_type(typing.get_args(kind)[0])


def _own_default(kind: Any) -> Any:
    if is_node_type(kind):
        return None
    if typing.get_origin(kind) is list:
        return []
    return next(iter(kind)) if issubclass(kind, enum.Enum) else kind()


def _is_supported(kind: Any) -> bool:
    if typing.get_origin(kind) is list:
        return typing.get_args(kind) in ((str,), (int,), (float,), (bool,)) or is_node_list(kind)
    simple = (bool, int, float, str, pathlib.Path)
    return is_node_type(kind) or kind in simple or (isinstance(kind, type) and issubclass(kind, enum.Enum))


def declared_parameters(cls: type) -> dict[str, Parameter]:
    """The parameters of a decorated class, from its annotations and class-level defaults."""
    parameters = {}
    for name, annotation in typing.get_type_hints(cls, include_extras=True).items():
        annotated = typing.get_origin(annotation) is typing.Annotated
        kind, *extras = typing.get_args(annotation) if annotated else (annotation,)
        if not _is_supported(kind):
            raise TypeError(f"parameter '{name}' of {cls.__name__} has an unsupported type: {kind}")
        defaults = [extra.value for extra in extras if isinstance(extra, Default)]
        value = getattr(cls, name) if hasattr(cls, name) else defaults[0] if defaults else _own_default(kind)
        validators = tuple(extra for extra in extras if isinstance(extra, Validator))
        hints = tuple(extra for extra in extras if isinstance(extra, (Decimals, SingleStep)))
        if len(validators) + len(hints) + len(defaults) != len(extras):
            raise TypeError(f"parameter '{name}' of {cls.__name__} has an unknown annotation: {extras}")
        parameters[name] = Parameter(name, kind, value, validators, hints)
    return parameters
