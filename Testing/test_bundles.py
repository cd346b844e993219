"""A bundle is used only if its card and weights are what they should be; a bad one is listed with its reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from safetensors.torch import load_file, save_file

from ScaleEquivSegLib.bundles import CARD, WEIGHTS, bundled_models, file_sha256, find_bundles, read_bundle
from ScaleEquivSegLib.errors import BadBundle
from ScaleEquivSegLib.inference import load_network
from ScaleEquivSegLib.networks import build_network
from ScaleEquivSegLib.networks.unet import parameter_count

SCHEMA = json.loads((bundled_models().parent / "card.schema.json").read_text())
BUNDLED = sorted(path.parent for path in bundled_models().glob(f"*/{CARD}"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of a bundled model that a test may spoil."""
    return Path(shutil.copytree(bundled_models() / "phantom-unet", tmp_path / "spoilt"))


def change_card(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    card = json.loads((folder / CARD).read_text())
    change(card)
    (folder / CARD).write_text(json.dumps(card))


def test_the_phantom_task_comes_with_an_equivariant_network_and_its_baseline() -> None:
    found, refused = find_bundles([bundled_models()])
    assert not refused
    assert {b.is_baseline for b in found if b.task == "phantom"} == {True, False}


@pytest.mark.parametrize("folder", BUNDLED, ids=lambda folder: folder.name)
def test_a_bundled_model_has_a_complete_card_and_loads(folder: Path) -> None:
    card = json.loads((folder / CARD).read_text())
    jsonschema.validate(card, SCHEMA)
    bundle = read_bundle(folder)
    assert bundle.name == folder.name
    load_network(bundle)
    as_trained = build_network(bundle.network, bundle.arguments)  # loading folds some parameters into others
    assert parameter_count(as_trained) == card["parameters"]
    assert card["training"]["command"].startswith("python -m training fit ")
    assert card["metrics"]["dice"] > 0.5


SPOILT_CARDS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a missing key": (lambda card: card.pop("labels"), "'labels' is missing"),
    "a newer schema": (lambda card: card.update(schema=99), "needs a newer ScaleEquivSeg"),
    "a spacing of zero": (lambda card: card.update(spacing=[0, 1, 1]), "positive"),
    "an impossible orientation": (lambda card: card.update(orientation="RRS"), "RRS"),
    "labels out of order": (lambda card: card["labels"].reverse(), "1, 2, 3"),
    "percentiles that fall": (lambda card: card["inputs"][0]["normalisation"].update(percentiles=[9, 1]), "rise"),
    "a label that is no object": (lambda card: card.update(labels=["head"]), "not a valid card"),
}


@pytest.mark.parametrize("spoil", SPOILT_CARDS)
def test_a_spoilt_card_is_listed_with_its_reason(bundle: Path, spoil: str) -> None:
    change, reason = SPOILT_CARDS[spoil]
    change_card(bundle, change)
    found, refused = find_bundles([bundle.parent])
    assert not found
    assert reason in refused[0].reason


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": 1}'])
def test_a_card_that_is_no_card_is_refused(bundle: Path, text: str) -> None:
    (bundle / CARD).write_text(text)
    with pytest.raises(BadBundle, match="card"):
        read_bundle(bundle)


def test_missing_weights_are_noticed_when_bundles_are_listed(bundle: Path) -> None:
    (bundle / WEIGHTS).unlink()
    with pytest.raises(BadBundle, match="copy the whole bundle"):
        read_bundle(bundle)


def test_changed_weights_are_never_loaded(bundle: Path) -> None:
    data = bytearray((bundle / WEIGHTS).read_bytes())
    data[-5] ^= 1
    (bundle / WEIGHTS).write_bytes(data)
    with pytest.raises(BadBundle, match="damaged or foreign"):
        load_network(read_bundle(bundle))


def test_truncated_weights_are_refused_even_if_the_card_vouches_for_them(bundle: Path) -> None:
    weights = bundle / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:1000])
    change_card(bundle, lambda card: card["weights"].update(sha256=file_sha256(weights)))
    with pytest.raises(BadBundle, match="cannot be loaded"):
        load_network(read_bundle(bundle))


def test_weights_of_another_network_are_refused(bundle: Path) -> None:
    other = load_file(bundled_models() / "phantom-se_unet" / WEIGHTS)
    save_file(other, bundle / WEIGHTS)
    change_card(bundle, lambda card: card["weights"].update(sha256=file_sha256(bundle / WEIGHTS)))
    with pytest.raises(BadBundle, match="cannot be loaded"):
        load_network(read_bundle(bundle))


@pytest.mark.parametrize("axis", [{"count": 0}, {"ratio": 0}, {"first": -1}, {"step": 2}])
def test_an_impossible_scale_axis_is_refused(bundle: Path, axis: dict[str, float]) -> None:
    change_card(bundle, lambda card: card["network"]["arguments"].update(scale_axis=axis))
    with pytest.raises(BadBundle, match="cannot be loaded"):
        load_network(read_bundle(bundle))


def test_an_unknown_network_is_refused(bundle: Path) -> None:
    change_card(bundle, lambda card: card["network"].update(name="transformer"))
    with pytest.raises(BadBundle, match="transformer"):
        load_network(read_bundle(bundle))


def test_arguments_the_network_does_not_take_are_refused(bundle: Path) -> None:
    change_card(bundle, lambda card: card["network"]["arguments"].update(exec="rm"))
    with pytest.raises(BadBundle, match="cannot be loaded"):
        load_network(read_bundle(bundle))
