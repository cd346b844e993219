"""The configurations that come with the project: their cards can be used, and networks of a task are trained alike."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ScaleEquivSegLib.bundles import CARD, bundled_models, read_bundle
from ScaleEquivSegLib.card import SEAL
from ScaleEquivSegLib.networks import CLASSIFIERS, build_network
from ScaleEquivSegLib.volume import Volume, make_geometry
from training.cases import LabelledCase, as_listed, read_rows
from training.config import CaseData, Config, load_config
from training.export import export_bundle, network_arguments, read_card_text
from training.preparation import Task, as_classes
from training.splits import with_splits

CONFIGS = Path(__file__).parents[1] / "training" / "configs"
BY_NAME = {p.stem: p for p in sorted(CONFIGS.glob("*.yaml")) if not p.name.endswith(".card.yaml")}


@pytest.mark.parametrize("name", BY_NAME)
def test_a_configuration_builds_its_network_and_its_card_makes_a_bundle(name: str, tmp_path: Path) -> None:
    config = load_config(BY_NAME[name])
    build = CLASSIFIERS.get(config.network.name) or partial(build_network, config.network.name)
    network = build(network_arguments(config, read_card_text(config.card)))
    export_bundle(network, config, "test", {}, tmp_path)
    bundle = read_bundle(tmp_path)
    assert bundle.name == f"{bundle.task}-{config.network.name}"
    if bundle.kind == "segmentation":
        assert Task.from_card(bundle.card).mirrored_classes == bundle.mirrored_classes


EXPORTED = {
    "schema",
    "name",
    "network",
    "parameters",
    "training",
    "metrics",
    "metrics_command",
    "metrics_sources",
    "weights",
    "expected",
    SEAL,
}


@pytest.mark.parametrize("folder", sorted(p.parent.name for p in bundled_models().glob(f"*/{CARD}")))
def test_a_bundled_card_says_what_the_configuration_says_that_it_was_trained_with(folder: str) -> None:
    card = json.loads((bundled_models() / folder / CARD).read_text())
    named = next(word for word in card["training"]["command"].split() if word.endswith(".yaml"))
    config = load_config(BY_NAME[Path(named).stem])
    assert {key: value for key, value in card.items() if key not in EXPORTED} == read_card_text(config.card)
    assert card["network"] == {"name": config.network.name, "arguments": network_arguments(config, card)}
    for part in ("augmentation", "fit"):
        assert card["training"][part] == json.loads(json.dumps(asdict(getattr(config, part))))


def without_scales(config: Config) -> Config:
    """What may not differ between the networks of a task."""
    fit = replace(config.fit, scale_window=0)
    return replace(config, fit=fit, network=replace(config.network, name="", arguments={}))


@pytest.mark.parametrize("task", ["phantom", "phantom4", "hippocampus", "headneck_ct", "brats"])
def test_the_networks_of_a_task_differ_in_nothing_but_the_network(task: str) -> None:
    names = [f"{task}_{network}" for network in ("unet", "se_unet", "dynamic_se_unet")]
    configs = [load_config(BY_NAME[name]) for name in names if name in BY_NAME]
    assert len(configs) >= 2
    assert all(without_scales(config) == without_scales(configs[0]) for config in configs)
    assert len({tuple(config.network.arguments["channels"]) for config in configs}) == 1


@pytest.mark.parametrize("name", [name for name in BY_NAME if name.startswith("brats")])
def test_brats_is_split_as_published_and_its_whole_tumour_is_every_value_but_0(name: str) -> None:
    config = load_config(BY_NAME[name])
    assert isinstance(config.data, CaseData)
    assert config.data.splits
    named = [LabelledCase(f"BraTS20_Training_{n:03d}", (), Path()) for n in range(1, 370)]
    listed = as_listed(named, config.data.splits, Path())
    assert [case.split for case in listed] == ["train"] * 250 + ["test"] * 119
    assert [case.name for case in listed] == [case.name for case in named]
    used = with_splits(listed, config.data.validation)
    held_out = 0 if "published" in name else 20
    counts = {"train": 250 - held_out, "val": held_out, "test": 119}
    assert Counter(case.split for case in used) == {split: n for split, n in counts.items() if n}
    assert [case.split for case in used[250:]] == ["test"] * 119

    values = Volume(np.array([[[0, 1, 2, 3, 4]]]), make_geometry((5, 1, 1), (1, 1, 1), np.eye(3), (0, 0, 0)))
    task = Task.from_card(read_card_text(config.card))
    assert as_classes(values, config.data, task, {}).array.tolist() == [[[0, 1, 1, 1, 1]]]


# What the values of a release mean: core, enhancing tumour and background of both, as DATA.md has them.
RELEASES = {
    "BraTS 2017 to 2021": ({1: "necrosis", 2: "oedema", 4: "enhancing"}, "[[1,4]]", "[0,2]", "[[4]]", "[0,1,2]"),
    "BraTS 2023": ({1: "necrosis", 2: "oedema", 3: "enhancing"}, "[[1,3]]", "[0,2]", "[[3]]", "[0,1,2]"),
    "Decathlon Task01": ({1: "oedema", 2: "necrosis", 3: "enhancing"}, "[[2,3]]", "[0,1]", "[[3]]", "[0,1,2]"),
}


@pytest.mark.parametrize("release", RELEASES)
def test_the_documents_say_for_each_release_of_brats_what_its_values_mean(release: str) -> None:
    meaning, core, beside_core, enhancing, beside_enhancing = RELEASES[release]
    row = f"| {release} | `data.classes={core} data.background={beside_core}` |"
    row += f" `data.classes={enhancing} data.background={beside_enhancing}` |"
    assert row in (CONFIGS.parent / "DATA.md").read_text(encoding="utf-8")
    values = Volume(
        np.array([[[0, *meaning]]]), make_geometry((len(meaning) + 1, 1, 1), (1, 1, 1), np.eye(3), (0, 0, 0))
    )
    for part, classes, background in (("core", core, beside_core), ("enhancing", enhancing, beside_enhancing)):
        overrides = [f"card=brats_{part}.card.yaml", f"data.classes={classes}", f"data.background={background}"]
        config = load_config(BY_NAME["brats_se_unet"], overrides)
        assert isinstance(config.data, CaseData)
        found = as_classes(values, config.data, Task.from_card(read_card_text(config.card)), {}).array.ravel()
        wanted = {"core": {"necrosis", "enhancing"}, "enhancing": {"enhancing"}}[part]
        assert [bool(value) for value in found[1:]] == [name in wanted for name in meaning.values()]
        assert {*config.data.classes[0], *config.data.background} == {0, *meaning}  # another release's are refused


def test_a_table_of_splits_is_found_beside_a_configuration_that_names_it_and_where_one_is_if_typed() -> None:
    named, typed = (load_config(BY_NAME["brats_unet"], of).data for of in ([], ["data.splits=mine.csv"]))
    assert isinstance(named, CaseData)
    assert isinstance(typed, CaseData)
    assert named.splits == CONFIGS / "brats2020.splits.csv"
    assert typed.splits == Path("mine.csv")


def test_the_splits_of_the_hippocampus_are_those_of_the_bundles() -> None:
    rows = read_rows(CONFIGS / "hippocampus.splits.csv")
    cards = list(bundled_models().glob(f"hippocampus-*/{CARD}"))
    assert len(cards) == 3
    for card in cards:
        data = json.loads(card.read_text())["training"]["data"]
        assert data["trained_on"] == [row["case"] for row in rows if row["split"] == "train"]
        assert data["held_out"] == [row["case"] for row in rows if row["split"] == "val"]
