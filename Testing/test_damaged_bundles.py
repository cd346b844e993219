"""Bundles damaged at random, always in the same way: each is refused with its reason, or is what it was."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ScaleEquivSegLib.bundles import CARD, WEIGHTS, Bundle, bundled_models, find_bundles, read_bundle
from ScaleEquivSegLib.card import SEAL
from ScaleEquivSegLib.errors import BadBundle
from ScaleEquivSegLib.inference import load_network

ORIGINAL = bundled_models() / "phantom-unet"
OTHER = bundled_models() / "phantom-se_unet"
SCHEMA = jsonschema.Draft202012Validator(json.loads((bundled_models() / "card.schema.json").read_text()))

Files = dict[str, bytes]
Damage = Callable[[Files, random.Random], None]


def flip_bits(files: Files, name: str, rng: random.Random) -> None:
    data = bytearray(files[name])
    for _ in range(rng.choice([1, 1, 1, 8, 100])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    files[name] = bytes(data)


def cut_or_add(files: Files, rng: random.Random) -> None:
    name = rng.choice([CARD, WEIGHTS])
    data = files[name]
    place = rng.randrange(len(data))
    files[name] = rng.choice([data[:place], data[place:], data + rng.randbytes(place), data[:place] + data, b""])


def swap_files(files: Files, rng: random.Random) -> None:
    name, source = rng.choice([(CARD, OTHER / CARD), (WEIGHTS, OTHER / WEIGHTS), (CARD, ORIGINAL / WEIGHTS)])
    files[name] = source.read_bytes()


def spoil_text(files: Files, rng: random.Random) -> None:
    """What no JSON library writes."""
    text = files[CARD]
    place = rng.randrange(len(text))
    inserted = rng.choice([b"\xff", b"\xed\xa0\x80", b"\0", b'"', b"[" * 50_000, b'{"a":' * 50_000, b"NaN", b"\\ud800"])
    number = rng.choice([b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"1" + b"0" * 400, b"1e-999", b"01", b"1_0"])
    files[CARD] = rng.choice(
        [
            text[:place] + inserted + text[place:],
            text.replace(b"1.0,", number + b",", 1),
            text.replace(b"{", b'{"schema": 1, ', 1),
            text.replace(b'"value": 1', b'"value": 1, "value": 2', 1),
            b"\xef\xbb\xbf" + text,
            text.decode().encode("utf-16"),
        ]
    )


ODD_VALUES = (
    *(None, True, False, 0, -1, 1, 2, 3, 7, 10**9, 10**17, 10**30, 0.0, -0.5, 1e-300, 1e308, "", "x", "x" * 100_000),
    *("../..", "a\nb", "a\0", "\ud800", "unet", "se_unet", [], {}, [[]], {"a": 1}, [1, 2, 3], ["1", "2", "3"]),
    *([0.5] * 3, [1e-9] * 3, [8, 16, 32, 64], ["x"] * 10_000, {"count": 2}, {"first": 1e-9}, {"order": 3}),
)
ODD_KEYS = ("file", "scale_axis", "jet", "basis", "kernels", "dropout", "interaction", "taper", "", "\ud800", "schema")


def change_value(files: Files, rng: random.Random) -> None:
    """Well-formed JSON with something odd somewhere."""
    card = json.loads(files[CARD])
    for _ in range(rng.choice([1, 1, 2])):
        parent, key = rng.choice(list(places(card)))
        action = rng.randrange(6)
        if action == 0:
            del parent[key]
        elif action == 1 and isinstance(parent, dict):
            parent[rng.choice(ODD_KEYS)] = rng.choice(ODD_VALUES)
        elif action == 2 and isinstance(parent, list):
            parent.append(parent[key])
        else:
            parent[key] = rng.choice(ODD_VALUES)
    files[CARD] = json.dumps(card).encode()


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value, as what holds it and the key."""
    for key, entry in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(entry, dict | list):
            yield from places(entry)


DAMAGES: dict[str, Damage] = {
    "bits of the card": lambda files, rng: flip_bits(files, CARD, rng),
    "bits of the weights": lambda files, rng: flip_bits(files, WEIGHTS, rng),
    "lengths": cut_or_add,
    "files": swap_files,
    "text": spoil_text,
    "values": change_value,
}


def damaged_bundles(damage: Damage, count: int, folder: Path, sealed: bool) -> Iterator[Path]:
    """Folders with a bundle of which something is not as it was; without seals, somebody meant it."""
    rng = random.Random(count)
    for number in range(count):
        files = {name: (ORIGINAL / name).read_bytes() for name in (CARD, WEIGHTS)}
        if not sealed:
            card = json.loads(files[CARD])
            del card[SEAL]
            files[CARD] = json.dumps(card).encode()
        damage(files, rng)
        if not sealed:
            before = hashlib.sha256((ORIGINAL / WEIGHTS).read_bytes()).hexdigest().encode()
            files[CARD] = files[CARD].replace(before, hashlib.sha256(files[WEIGHTS]).hexdigest().encode())
        bundle = folder / str(number)
        bundle.mkdir()
        for name, data in files.items():
            (bundle / name).write_bytes(data)
        yield bundle
        shutil.rmtree(bundle)


def bundle_or_reason(folder: Path) -> Bundle | str:
    """What the list of bundles says of the only one in a folder."""
    found, refused = find_bundles([folder])
    assert len(found) + len(refused) == 1
    return found[0] if found else refused[0].reason


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_refused_or_says_what_it_said(damage: str, tmp_path: Path) -> None:
    original = read_bundle(ORIGINAL)
    refused = 0
    for folder in damaged_bundles(DAMAGES[damage], 80, tmp_path, sealed=True):
        outcome = bundle_or_reason(tmp_path)
        if isinstance(outcome, Bundle):
            unsealed = {key: value for key, value in original.card.items() if key != SEAL}
            assert unsealed == {key: value for key, value in outcome.card.items() if key != SEAL}
            assert (folder / WEIGHTS).read_bytes() == original.weights.read_bytes()
        else:
            assert len(outcome) < 1000
            assert outcome.isprintable()
            refused += 1
    assert refused > 60


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bundle_that_its_card_vouches_for_is_refused_or_loads(damage: str, tmp_path: Path) -> None:
    outcomes = set()
    for folder in damaged_bundles(DAMAGES[damage], 60, tmp_path, sealed=False):
        try:
            load_network(read_bundle(folder))
            outcomes.add("loads")
        except BadBundle:
            outcomes.add("refused")
    # Half of a character, or NaN, may end up in what a card says of its training, where anything may stand.
    assert outcomes == {"refused"} | ({"loads"} if damage.startswith(("bits", "values", "text")) else set())


def test_the_reader_refuses_what_the_published_schema_does_and_nothing_else(tmp_path: Path) -> None:
    beyond = (
        "in this order",
        "have the name",
        "must rise",
        "orientation",
        "is unknown",
        "a class for each",
        "too large",
    )
    refused = 0
    for folder in damaged_bundles(change_value, 300, tmp_path, sealed=False):
        card = json.loads((folder / CARD).read_bytes())
        outcome = bundle_or_reason(tmp_path)
        if isinstance(outcome, Bundle):
            assert SCHEMA.is_valid(card)
        elif not any(text in outcome for text in beyond):
            refused += 1
            assert not SCHEMA.is_valid(card) or ".0" in outcome or "e+" in outcome or "a\\n" in outcome, outcome
    assert refused > 100
