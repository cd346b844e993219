"""What the worker is asked, one JSON object a line, read strictly: every line is a known request or a `BadRequest`.

`{"type": "segment", "id", "bundle": folder, "inputs": [file, ...], "output": file}`, and any field of `Settings`.
`{"type": "cancel", "id"}` stops that request, running or waiting. `{"type": "quit"}` stops all and ends the worker.
"""

from __future__ import annotations

import os
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .card import strict_json
from .errors import BadRequest

PROTOCOL = 2
"""The number of this form of requests and replies; the worker's `ready` says it."""
LINE_BYTES_AT_MOST = 2**20
KEYS = ("type", "id", "bundle", "inputs", "output")

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class SegmentRequest:
    """Segment volumes with a bundle; the settings are unchecked until the module that has them is loaded."""

    id: str
    bundle: Path
    inputs: tuple[Path, ...]
    output: Path
    settings: Mapping[str, Any]


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


def segment_request(message: Mapping[str, Any]) -> SegmentRequest:
    """A message as the only request that takes time."""
    if message["type"] != "segment":
        raise BadRequest(f"unknown request {ascii(message['type'])[:60]}; known are segment, cancel and quit.")
    inputs = message.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise BadRequest("a segment request needs 'inputs', a list of one or more files.")
    return SegmentRequest(
        id=message["id"],
        bundle=_path(message.get("bundle"), "bundle"),
        inputs=tuple(_path(entry, "inputs") for entry in inputs),
        output=_path(message.get("output"), "output"),
        settings={key: value for key, value in message.items() if key not in KEYS},
    )


def _path(value: Any, key: str) -> Path:
    try:
        if isinstance(value, str) and value and b"\0" not in os.fsencode(value):
            return Path(value)
    except UnicodeEncodeError:
        pass
    raise BadRequest(f"a segment request needs '{key}', the path of a file or folder, not {ascii(value)[:60]}.")


def settings_from(values: Mapping[str, Any], kind: type[Settings]) -> Settings:
    """An instance of a dataclass with these values, of which each must be a field and of the field's type."""
    hints = get_type_hints(kind)
    for key, value in values.items():
        if key not in hints:
            raise BadRequest(f"unknown key {ascii(key)[:60]}; known are {', '.join([*KEYS, *hints])}.")
        if not _is_a(value, hints[key]):
            raise BadRequest(f"'{key}' must not be {ascii(value)[:60]}; it must be {_described(hints[key])}.")
    return kind(**values)


def _is_a(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        return any(_is_a(value, choice) for choice in get_args(hint))
    if get_origin(hint) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(hint))
    if hint is int:
        return type(value) is int and value >= 0
    return type(value) in (int, float) if hint is float else type(value) is hint


def _described(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(_described, get_args(hint)))
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    names = {str: "a string", bool: "true or false", int: "a whole number, not negative", float: "a number"}
    return names.get(hint, "null")
