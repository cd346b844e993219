"""A bundle's card as text: strict JSON, the form that card.schema.json describes, and the seal against later changes.
Errors are ValueErrors that say what is wrong; who knows the file says where."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SCHEMA = 1
SEAL = "card_sha256"

_KINDS: Mapping[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def parse_card(data: bytes) -> dict[str, Any]:
    """Read a card and check its seal and its form."""
    card = strict_json(data)
    if not isinstance(card, dict):
        raise ValueError("it must be a JSON object")
    schema = card.get("schema")
    if schema != SCHEMA:
        raise ValueError(
            f"it has schema {_shown(schema)} and this version reads schema {SCHEMA}; "
            "a newer bundle needs a newer ScaleEquivSeg"
        )
    if SEAL in card and card[SEAL] != seal_of(card):
        raise ValueError(
            "it was changed after export; copy the bundle again, or remove the key "
            f"'{SEAL}' if you changed it on purpose"
        )
    check_form(card)
    return card


def check_form(card: Mapping[str, Any]) -> None:
    """Refuse a card that is not as card.schema.json describes it."""
    rules = json.loads((models_folder() / "card.schema.json").read_text(encoding="utf-8"))
    _check(card, rules, rules["$defs"], "the card")


def seal_of(card: Mapping[str, Any]) -> str:
    """The hash of everything a card says but the seal itself; card.schema.json defines it."""
    said = {key: value for key, value in card.items() if key != SEAL}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def models_folder() -> Path:
    """The folder of the bundled models and the cards' schema: a resource in Slicer, beside the code in a package."""
    resource = Path(__file__).resolve().parents[1] / "Resources" / "Models"
    return resource if resource.is_dir() else Path(__file__).resolve().parent / "models"


def strict_json(data: bytes) -> Any:
    """JSON as its standard has it: UTF-8 without a mark, no NaN, no key twice; and no number of more than 64 bits."""
    return json.loads(
        data.decode("utf-8"),
        object_pairs_hook=_without_doubles,
        parse_int=_short,
        parse_float=_finite,
        parse_constant=_finite,
    )


def _without_doubles(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"the key {_shown(key)} stands there twice")
        content[key] = value
    return content


def _short(text: str) -> int:
    if len(text) > 18:
        raise ValueError(f"{text:.20}... is too large a number")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.20} is not a finite number")
    return number


def _check(value: Any, rules: Mapping[str, Any], shared: Mapping[str, Any], place: str) -> None:
    """Hold a value against the part of JSON Schema that card.schema.json uses: Slicer has no package for it."""
    if "$ref" in rules:
        rules = shared[rules["$ref"].removeprefix("#/$defs/")]
    kind = rules.get("type")
    if kind is None:
        return
    if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "boolean"):
        raise ValueError(f"{place} must be of the type {kind}, not {_shown(value)}")
    if isinstance(value, dict):
        _check_object(value, rules, shared, place)
    elif isinstance(value, list):
        _check_limits(len(value), rules.get("minItems"), rules.get("maxItems"), f"the number of entries of {place}")
        for index, entry in enumerate(value):
            _check(entry, rules.get("items", {}), shared, f"{place}[{index}]")
    elif isinstance(value, str):
        if not re.fullmatch(rules["pattern"], value):
            raise ValueError(f"{place} must not be {_shown(value)}; it must match {rules['pattern']}")
    else:
        _check_limits(value, rules.get("minimum"), rules.get("maximum"), place)


def _check_object(value: Mapping[str, Any], rules: Mapping[str, Any], shared: Mapping[str, Any], place: str) -> None:
    for key in rules.get("required", ()):
        if key not in value:
            raise ValueError(f"the key '{key}' is missing in {place}")
    limits = rules.get("minProperties"), rules.get("maxProperties")
    _check_limits(len(value), *limits, f"the number of keys of {place}")
    others = rules.get("additionalProperties", {})
    for key, entry in value.items():
        known = rules.get("properties", {}).get(key, others)
        if known is False:
            raise ValueError(f"{place} has the key {_shown(key)}, which this version does not know; remove it")
        name = key if key.isidentifier() else _shown(key)
        _check(entry, known, shared, f"'{name}'" if place == "the card" else f"{place}.{name}")
    if "if" in rules:
        _check_object(value, rules["then" if _fits(value, rules["if"], shared) else "else"], shared, place)


def _fits(value: Mapping[str, Any], rules: Mapping[str, Any], shared: Mapping[str, Any]) -> bool:
    try:
        _check_object(value, rules, shared, "")
    except ValueError:
        return False
    return True


def _check_limits(value: float, low: float | None, high: float | None, place: str) -> None:
    if low is not None and value < low:
        raise ValueError(f"{place} must be at least {low}, not {_shown(value)}")
    if high is not None and value > high:
        raise ValueError(f"{place} must be at most {high}, not {_shown(value)}")


def _shown(value: Any) -> str:
    """A value in a message: short, and in characters that any terminal prints."""
    text = ascii(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}..."
