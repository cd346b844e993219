"""A bundle is used only if its card and weights are what they should be; a bad one is listed with its reason."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from safetensors.torch import load_file, save_file

from ScaleEquivSegLib import inference, networks
from ScaleEquivSegLib.bundles import (
    CARD,
    CLASSIFIERS,
    NETWORKS,
    WEIGHTS,
    bundle_named,
    bundled_models,
    find_bundles,
    read_bundle,
)
from ScaleEquivSegLib.card import _KINDS, SEAL, seal_of
from ScaleEquivSegLib.errors import BadBundle, OutOfMemory
from ScaleEquivSegLib.inference import load_network
from ScaleEquivSegLib.networks import BUILDERS, build_network
from ScaleEquivSegLib.networks.unet import parameter_count

SCHEMA = json.loads((bundled_models() / "card.schema.json").read_text())
BUNDLED = sorted(path.parent for path in bundled_models().glob(f"*/{CARD}"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of a bundled model that a test may spoil."""
    return Path(shutil.copytree(bundled_models() / "phantom-unet", tmp_path / "spoilt"))


def change_card(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a card as somebody who means to: without its seal."""
    card = json.loads((folder / CARD).read_text())
    card.pop(SEAL, None)
    change(card)
    (folder / CARD).write_text(json.dumps(card))


def vouch_for_weights(folder: Path) -> None:
    """Put the hash of the weights that are there into the card."""
    found = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    change_card(folder, lambda card: card["weights"].update(sha256=found))


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
    assert card[SEAL] == seal_of(card)
    load_network(bundle)
    as_trained = build_network(bundle.network, bundle.arguments)  # loading folds some parameters into others
    assert parameter_count(as_trained) == card["parameters"]
    assert card["training"]["command"].startswith("python -m training fit ")
    assert card["metrics"].get("dice.mean@1", card["metrics"].get("dice", 0)) > 0.5


def arguments(card: dict[str, Any]) -> dict[str, Any]:
    return card["network"]["arguments"]


SPOILT_CARDS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a missing key": (lambda card: card.pop("labels"), "'labels' is missing"),
    "a missing inner key": (lambda card: card["weights"].pop("sha256"), "'sha256' is missing in 'weights'"),
    "a newer schema": (lambda card: card.update(schema=99), "needs a newer ScaleEquivSeg"),
    "a spacing of zero": (lambda card: card.update(spacing=[0, 1, 1]), "'spacing'[0] must be at least"),
    "a spacing of two numbers": (lambda card: card.update(spacing=[1, 1]), "number of entries of 'spacing'"),
    "a spacing that is true": (lambda card: card.update(spacing=[True, 1, 1]), "type number, not True"),
    "an impossible orientation": (lambda card: card.update(orientation="RRS"), "RRS"),
    "labels out of order": (lambda card: card["labels"].reverse(), "1, 2, 3"),
    "labels of one name": (lambda card: card["labels"][1].update(name="Head"), "2 labels have the name 'Head'"),
    "an opposite that is no label": (lambda card: card["labels"][0].update(opposite="Foot"), "'Head' has the opposite"),
    "one piece of no label": (
        lambda card: card.update(postprocessing=[{"step": "largest_piece", "labels": ["Head", "Foot"]}]),
        "names the label 'Foot'",
    ),
    "an unknown step": (
        lambda card: card.update(postprocessing=[{"step": "smooth", "labels": ["Head"]}]),
        "must not be 'smooth'",
    ),
    "an opposite that does not know it": (lambda card: card["labels"][0].update(opposite="Body"), "'Head' has the"),
    "inputs of one name": (
        lambda card: (card["inputs"].append(card["inputs"][0]), arguments(card).update(in_channels=2)),
        "2 inputs have the name 'T1'",
    ),
    "no normalisation": (lambda card: card["inputs"][0].update(normalisation={}), "at least 1, not 0"),
    "two normalisations": (
        lambda card: card["inputs"][0]["normalisation"].update(hounsfield=[0, 1]),
        "at most 1, not 2",
    ),
    "percentiles that fall": (lambda card: card["inputs"][0]["normalisation"].update(percentiles=[9, 1]), "rise"),
    "a label that is no object": (lambda card: card.update(labels=["head"]), "type object, not 'head'"),
    "a label that is a number": (lambda card: card["labels"][0].update(name=7), "type string, not 7"),
    "a colour of 256": (lambda card: card["labels"][0].update(color=[0, 256, 0]), "at most 255, not 256"),
    "a term of two strings": (lambda card: card["labels"][0]["terminology"].update(type=["1", "SCT"]), "entries"),
    "a term with a separator": (
        lambda card: card["labels"][0]["terminology"].update(type=["1^2", "SCT", "Head"]),
        "must match",
    ),
    "a path for a name": (lambda card: card.update(name="../../phantom"), "'name' must not be '../../phantom'"),
    "a name that ends its line": (lambda card: card.update(name="phantom\n"), "must match"),
    "a label that ends its line": (lambda card: card["labels"][0].update(name="Head\nspace: RAS"), "must match"),
    "a label that is no text": (lambda card: card["labels"][0].update(name="\ud800"), "must match"),
    "an unknown network": (lambda card: card["network"].update(name="transformer"), "'transformer' is unknown"),
    "other weights": (lambda card: card["weights"].update(file="../other"), "has the key 'file'"),
    "an argument no network takes": (lambda card: arguments(card).update(exec="rm"), "has the key 'exec'"),
    "a misspelt key": (lambda card: card.update(postprocesing=[]), "does not know; remove it"),
    "a class too many": (lambda card: arguments(card).update(classes=9), "a class for each label"),
    "a huge network": (lambda card: arguments(card).update(channels=[10**9, 10**9]), "at most 1024"),
    "a huge kernel": (lambda card: arguments(card).update(basis={"kernel_size": 999}), "at most 9"),
    "no scale": (lambda card: arguments(card).update(scale_axis={"count": 0}), "at least 1"),
    "a ratio of zero": (lambda card: arguments(card).update(scale_axis={"ratio": 0}), "at least"),
    "an unknown axis": (lambda card: arguments(card).update(scale_axis={"step": 2}), "has the key 'step'"),
}


@pytest.mark.parametrize("spoil", SPOILT_CARDS)
def test_a_spoilt_card_is_listed_with_its_reason(bundle: Path, spoil: str) -> None:
    change, reason = SPOILT_CARDS[spoil]
    change_card(bundle, change)
    found, refused = find_bundles([bundle.parent])
    assert not found
    assert reason in refused[0].reason


def rules_in(schema: Any) -> Iterator[dict[str, Any]]:
    """Every part of a schema that says what a value must be."""
    if isinstance(schema, dict):
        yield schema
        for key in ("properties", "$defs"):
            for rules in schema.get(key, {}).values():
                yield from rules_in(rules)
        for key in ("items", "additionalProperties", "if", "then", "else"):
            yield from rules_in(schema.get(key))


def test_the_reader_knows_every_word_of_the_schema() -> None:
    words = {word for rules in rules_in(SCHEMA) for word in rules}
    assert words <= {
        *("$schema", "title", "description", "$defs", "$ref", "type", "required", "properties", "additionalProperties"),
        *("items", "minItems", "maxItems", "minProperties", "maxProperties", "pattern", "minimum", "maximum"),
        *("if", "then", "else"),
    }
    assert {rules["type"] for rules in rules_in(SCHEMA) if "type" in rules} <= set(_KINDS)
    patterns = [rules["pattern"] for rules in rules_in(SCHEMA) if rules.get("type") == "string"]
    assert all(pattern.startswith("^") and pattern.endswith("$") for pattern in patterns)


def test_cards_may_name_exactly_the_networks_there_are() -> None:
    assert set(NETWORKS) == set(BUILDERS)
    assert set(CLASSIFIERS) == set(networks.CLASSIFIERS)
    described = SCHEMA["properties"]["network"]["properties"]["name"]["description"]
    assert all(name in described for name in NETWORKS)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"schema": 1}',
        b'{"schema": NaN}',
        b'{"schema": 1, "spacing": 1e999}',
        b'{"schema": 1, "schema": 1}',
        b'\xef\xbb\xbf{"schema": 1}',
        b'{"schema": "\xff"}',
        b"1" * 10_000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b" " * 2**20 + b"{}",
        b"{" + b",".join(b'"%d":0' % (n % 80_000) for n in range(80_001)) + b"}",
    ],
    ids=range(15),
)
def test_a_card_that_is_no_card_is_refused(bundle: Path, text: bytes) -> None:
    (bundle / CARD).write_bytes(text)
    with pytest.raises(BadBundle, match="card"):
        read_bundle(bundle)


def test_a_card_of_more_than_16_mebibytes_is_not_read(bundle: Path) -> None:
    text = (bundle / CARD).read_bytes()
    (bundle / CARD).write_bytes(text + b" " * 2**24)
    with pytest.raises(BadBundle, match="larger than 16 MiB"):
        read_bundle(bundle)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "1" + "0" * 30])
def test_a_number_that_no_computation_could_use_is_refused(bundle: Path, number: str) -> None:
    change_card(bundle, lambda card: card.update(metrics={"dice": 0.125}))
    text = (bundle / CARD).read_text()
    read_bundle(bundle)
    (bundle / CARD).write_text(text.replace("0.125", number))
    with pytest.raises(BadBundle, match=r"finite number|too large a number"):
        read_bundle(bundle)


def test_a_card_changed_after_export_is_refused_until_its_seal_is_removed(bundle: Path) -> None:
    text = (bundle / CARD).read_text()
    (bundle / CARD).write_text(text.replace("1.0,", "1.5,", 1))
    with pytest.raises(BadBundle, match="changed after export"):
        read_bundle(bundle)
    change_card(bundle, lambda card: None)
    assert read_bundle(bundle).spacing == (1.5, 1.0, 1.0)


def test_a_card_written_in_another_way_keeps_its_seal(bundle: Path) -> None:
    card = json.loads((bundle / CARD).read_text())
    (bundle / CARD).write_text(json.dumps(dict(reversed(card.items()))))
    assert read_bundle(bundle).card == card


def test_missing_weights_are_noticed_when_bundles_are_listed(bundle: Path) -> None:
    (bundle / WEIGHTS).unlink()
    with pytest.raises(BadBundle, match="copy the whole bundle"):
        read_bundle(bundle)


def test_changed_weights_are_noticed_when_bundles_are_listed(bundle: Path) -> None:
    flip(bundle / WEIGHTS, -5)
    with pytest.raises(BadBundle, match="damaged or foreign"):
        read_bundle(bundle)


def test_weights_changed_since_they_were_listed_are_never_loaded(bundle: Path) -> None:
    listed = read_bundle(bundle)
    flip(bundle / WEIGHTS, -5)
    with pytest.raises(BadBundle, match="damaged or foreign"):
        load_network(listed)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def with_header(weights: Path, header: object, tensors: bytes) -> None:
    text = json.dumps(header).encode()
    weights.write_bytes(len(text).to_bytes(8, "little") + text + tensors)


@pytest.mark.parametrize(
    ("header", "size", "reason"),
    [
        ([], 0, "JSON object"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, 9, "describes 8 bytes"),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, 8, "where 'a' is"),
        ({"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}, 8, "where 'a' is"),
        ({"a": {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}}, 8, "where 'a' is"),
        ({"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}, 8, "where 'a' is"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, 8, "leave gaps"),
        ({"a": [0, 8]}, 8, "where 'a' is"),
    ],
    ids=range(8),
)
def test_weights_with_a_wrong_header_are_refused_even_if_the_card_vouches_for_them(
    bundle: Path, header: object, size: int, reason: str
) -> None:
    with_header(bundle / WEIGHTS, header, bytes(size))
    vouch_for_weights(bundle)
    with pytest.raises(BadBundle, match=reason):
        read_bundle(bundle)


@pytest.mark.parametrize("length", [0, 7, 8, 1000, -1])
def test_truncated_weights_are_refused_even_if_the_card_vouches_for_them(bundle: Path, length: int) -> None:
    (bundle / WEIGHTS).write_bytes((bundle / WEIGHTS).read_bytes()[:length])
    vouch_for_weights(bundle)
    with pytest.raises(BadBundle, match="cannot be used"):
        read_bundle(bundle)


def test_weights_of_another_network_are_refused(bundle: Path) -> None:
    shutil.copy(bundled_models() / "phantom-se_unet" / WEIGHTS, bundle)
    vouch_for_weights(bundle)
    with pytest.raises(BadBundle, match="cannot be loaded"):
        load_network(read_bundle(bundle))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e3])
def test_weights_that_give_no_finite_network_are_refused(bundle: Path, value: float) -> None:
    weights = load_file(bundle / WEIGHTS)
    next(tensor for name, tensor in weights.items() if name.endswith("running_var"))[0] = value  # < 0: a root of it
    save_file(weights, bundle / WEIGHTS)
    vouch_for_weights(bundle)
    with pytest.raises(BadBundle, match="not all finite"):
        load_network(read_bundle(bundle))


def test_a_jet_that_fits_no_scale_axis_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundled_models() / "phantom-se_unet", tmp_path / "spoilt"))
    change_card(folder, lambda card: arguments(card).update(jet={"scales": 2}))
    with pytest.raises(BadBundle, match="2 widths does not fit"):
        load_network(read_bundle(folder))


def test_arguments_of_another_network_are_refused(bundle: Path) -> None:
    change_card(bundle, lambda card: arguments(card).update(kernels=2))
    with pytest.raises(BadBundle, match="cannot be loaded"):
        load_network(read_bundle(bundle))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), OutOfMemory),
        (ImportError("cannot import name 'part'"), ImportError),
    ],
)
def test_what_the_machine_lacks_is_not_taken_for_a_damaged_bundle(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: type[Exception]
) -> None:
    def lacking(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(inference, "build_network", lacking)
    with pytest.raises(told):
        load_network(read_bundle(bundle))


def test_a_network_larger_than_its_weights_is_refused_before_it_takes_memory(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_card(bundle, lambda card: arguments(card).update(channels=[1024] * 8))  # 2 GiB
    built_on = []
    monkeypatch.setattr("torch.nn.init.kaiming_uniform_", lambda weight, **_: built_on.append(weight.device.type))
    with pytest.raises(BadBundle, match="cannot be loaded"):
        load_network(read_bundle(bundle))
    assert set(built_on) == {"meta"}


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_loaded_as_it_was_saved(bundle: Path, name: str) -> None:
    settings = {"channels": [2, 4], "in_channels": 1, "classes": 3}
    settings |= {"scale_axis": {"count": 2}} if name == "pyramid_unet" else {}
    change_card(bundle, lambda card: card.update(network={"name": name, "arguments": settings}))
    network = build_network(name, settings).eval()
    save_file({key: tensor.contiguous() for key, tensor in network.state_dict().items()}, bundle / WEIGHTS)
    vouch_for_weights(bundle)
    image = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        found, wanted = load_network(read_bundle(bundle))(image), network(image)
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_file_that_leads_out_of_its_bundle_is_refused(bundle: Path, name: str) -> None:
    outside = shutil.move(bundle / name, bundle.parent / name)
    link(bundle / name, outside)
    _, refused = find_bundles([bundle.parent])
    assert "leads out of the bundle" in refused[0].reason


def test_a_folder_that_leads_out_of_the_one_searched_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "searched").mkdir()
    link(tmp_path / "searched" / "bundle", bundle)
    found, refused = find_bundles([tmp_path / "searched"])
    assert not found
    assert "add the folder that it leads to" in refused[0].reason


def link(path: Path, target: str | Path) -> None:
    try:
        path.symlink_to(target)
    except OSError:
        pytest.skip("links need a privilege on this system")


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_what_is_no_file_is_not_waited_for(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    os.mkfifo(bundle / name) if hasattr(os, "mkfifo") else (bundle / name).mkdir()
    with pytest.raises(BadBundle, match="has no file"):
        read_bundle(bundle)


def test_a_link_to_nothing_is_listed_as_refused(bundle: Path) -> None:
    (bundle / CARD).unlink()
    link(bundle / CARD, bundle / "nowhere")
    found, refused = find_bundles([bundle.parent])
    assert not found
    assert len(refused) == 1


def test_of_two_bundles_with_one_name_the_first_is_found_and_the_other_refused(bundle: Path) -> None:
    found, refused = find_bundles([bundled_models(), bundle.parent])
    assert [b.folder.parent for b in found] == [bundled_models()] * len(BUNDLED)
    assert [bad.folder for bad in refused] == [bundle]
    assert f"as {bundled_models() / 'phantom-unet'} has" in refused[0].reason


def test_a_bundle_goes_by_the_name_on_its_card_whatever_its_folder_is_called(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_card(bundle, lambda card: card.update(name="my-net"))
    assert bundle_named("my-net", folders=[bundle.parent]).folder == bundle
    assert bundle_named(bundle).name == "my-net"
    monkeypatch.chdir(bundle.parent)
    (bundle.parent / "phantom-unet").mkdir()
    assert bundle_named("phantom-unet").folder == bundled_models() / "phantom-unet"
    with pytest.raises(BadBundle, match=r"no file card\.json"):
        bundle_named(Path.cwd())
    for nothing in ("", "spoilt-net"):
        with pytest.raises(BadBundle, match=f"There is no bundle '{nothing}'"):
            bundle_named(nothing)
    (bundle / WEIGHTS).unlink()
    with pytest.raises(BadBundle, match=WEIGHTS):
        bundle_named("spoilt", folders=[bundle.parent.absolute()])


def test_a_folder_that_is_not_there_is_listed_as_refused(tmp_path: Path) -> None:
    found, (refused,) = find_bundles([tmp_path / "gone"])
    assert not found
    assert "cannot be searched" in refused.reason


def test_bundles_are_listed_without_torch_or_safetensors() -> None:
    program = (
        "import sys; from ScaleEquivSegLib.bundles import bundled_models, find_bundles; "
        "assert find_bundles([bundled_models()])[0]; "
        "sys.exit(not {'torch', 'safetensors', 'jsonschema'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
