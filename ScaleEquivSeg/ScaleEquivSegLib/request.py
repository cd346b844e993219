"""What the worker is asked, one JSON object a line, read strictly: every line is a known request or a `BadRequest`.

A request has a `type` and an `id`; the other keys are the fields of the dataclass of its type, here in `REQUESTS`, and
where that has `settings` any field of `Settings`. A region of interest has the form of `Box.as_values`.
`{"type": "cancel", "id"}` stops that request, running or waiting. `{"type": "quit"}` stops all and ends the worker.
"""

from __future__ import annotations

import os
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .bundles import LARGEST_LABEL
from .card import strict_json
from .errors import BadRegion, BadRequest
from .roi import Box
from .scaling import check_scales

PROTOCOL = 4
"""The number of this form of requests and replies; the worker's `ready` says it."""
LINE_BYTES_AT_MOST = 2**20

T = TypeVar("T")


@dataclass(frozen=True)
class SegmentRequest:
    """Segment volumes with a bundle; the settings are unchecked until the module that has them is loaded."""

    id: str
    bundle: Path
    inputs: tuple[Path, ...]
    output: Path
    settings: Mapping[str, Any]
    roi: Box | None = None


@dataclass(frozen=True)
class SweepRequest:
    """Segment volumes at several scales and compare with the unscaled result and, if given, with reference labels."""

    id: str
    bundle: Path
    inputs: tuple[Path, ...]
    scales: tuple[float, ...]
    settings: Mapping[str, Any]
    reference: Path | None = None
    roi: Box | None = None

    def __post_init__(self) -> None:
        try:
            check_scales(self.scales)
        except ValueError as error:
            raise BadRequest(f"'scales' {error}.") from error


@dataclass(frozen=True)
class CompareRequest:
    """Compare two files of labels on one grid and write the map of where they agree; b may be the reference."""

    id: str
    a: Path
    b: Path
    names: Mapping[int, str]
    output: Path
    against_reference: bool = False

    def __post_init__(self) -> None:
        if not all(1 <= value <= LARGEST_LABEL for value in self.names):
            raise BadRequest(f"'names' must be of values from 1 to {LARGEST_LABEL}.")
        if len(set(self.names.values())) < len(self.names) or not all(self.names.values()):
            raise BadRequest("'names' must be different from each other, and none may be empty.")


@dataclass(frozen=True)
class DevicesRequest:
    """List the devices there are to compute on."""

    id: str


Request = SegmentRequest | SweepRequest | CompareRequest | DevicesRequest

REQUESTS: Mapping[str, type[Request]] = {
    "segment": SegmentRequest,
    "sweep": SweepRequest,
    "compare": CompareRequest,
    "devices": DevicesRequest,
}


def lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a stream, of one that is too long only the beginning: nobody fills the memory with one."""
    while line := stream.readline(LINE_BYTES_AT_MOST):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = stream.readline(LINE_BYTES_AT_MOST)
        yield line


def read_message(line: bytes) -> dict[str, Any]:
    """A line as a message: an object with a type and an id, which is empty if none was given."""
    try:
        message = strict_json(line)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"not a request: {line[:100]!a}; {str(error)[:200]}.") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise BadRequest(f"not a request: {line[:100]!a}; send an object with a type.")
    message.setdefault("id", "")
    if not isinstance(message["id"], str) or len(message["id"]) > 200:
        raise BadRequest("the id of a request must be a string of at most 200 characters.")
    return message


def request_from(message: Mapping[str, Any]) -> Request:
    """A message as one of the requests that take time."""
    if message["type"] not in REQUESTS:
        known = ", ".join([*REQUESTS, "cancel"])
        raise BadRequest(f"unknown request {ascii(message['type'])[:60]}; known are {known} and quit.")
    kind = REQUESTS[message["type"]]
    names = {field.name for field in fields(kind)}
    values = {key: value for key, value in message.items() if key != "type"}
    if "settings" in names:
        own = names - {"settings"}
        values = {key: value for key, value in values.items() if key in own} | {
            "settings": {key: value for key, value in values.items() if key not in own}
        }
    return instance_from(values, kind)


def instance_from(values: Mapping[str, Any], kind: type[T]) -> T:
    """An instance of a dataclass with these values, of which each must be a field and of the field's type."""
    hints = get_type_hints(kind)
    for key in values:
        if key not in hints:
            raise BadRequest(f"unknown key {ascii(key)[:60]}; known are {', '.join(hints)}.")
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in values and field.default is MISSING:
            raise BadRequest(f"the key '{field.name}' is missing; it must be {_described(hints[field.name])}.")
    read = {}
    for key, value in values.items():
        try:
            read[key] = _read(value, hints[key])
        except BadRegion as error:
            raise BadRequest(f"'{key}': {error}") from error
        except ValueError:
            described = _described(hints[key])
            raise BadRequest(f"'{key}' must not be {ascii(value)[:60]}; it must be {described}.") from None
    return kind(**read)


def _read(value: Any, hint: Any) -> Any:
    """JSON as a value of a type; a ValueError says that it is none."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):  # only ever something or nothing
        return None if value is None else _read(value, parts[0])
    if origin is tuple:
        return tuple(_read(entry, parts[0]) for entry in _checked(value, isinstance(value, list) and len(value) > 0))
    if origin is Mapping:
        _checked(value, isinstance(value, dict))
        return {_key(key, parts[0]): _read(entry, parts[1]) for key, entry in value.items()}
    if hint is Box:
        return Box.from_values(value)
    if hint is Path:
        return Path(_checked(value, _is_path(value)))
    return _checked(value, hint is Any or _is_plain(value, hint))


def _checked(value: Any, good: bool) -> Any:
    if not good:
        raise ValueError
    return value


def _key(key: str, kind: type) -> Any:
    """Keys are strings in JSON; a whole number is one in its only spelling."""
    return int(_checked(key, key.isascii() and key.isdigit() and key == str(int(key)))) if kind is int else key


def _is_path(value: Any) -> bool:
    try:
        return isinstance(value, str) and value != "" and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def _is_plain(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(hint))
    if hint is int:
        return type(value) is int and value >= 0
    return type(value) in (int, float) if hint is float else type(value) is hint


def _described(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_described, parts))
    if origin is Literal:
        return " or ".join(map(str, parts))
    if origin is tuple:
        return f"a list of one or more, each {_described(parts[0])}"
    if origin is Mapping:
        return f"an object, each value {_described(parts[1])}"
    names = {
        str: "a string",
        bool: "true or false",
        int: "a whole number, not negative",
        float: "a number",
        Path: "the path of a file or folder",
        Box: "a region of interest",
    }
    return names.get(hint, "null" if hint is types.NoneType else "anything")
