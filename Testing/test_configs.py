"""The configurations that come with the project: their cards can be used, and networks of a task are trained alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ScaleEquivSegLib.bundles import read_bundle
from ScaleEquivSegLib.networks import CLASSIFIERS, build_network
from ScaleEquivSegLib.volume import Volume, make_geometry
from training.cases import LabelledCase, as_listed
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


def without_scales(config: Config) -> Config:
    """What may not differ between the networks of a task."""
    fit = replace(config.fit, scale_axis=None, scale_window=0)
    return replace(config, fit=fit, network=replace(config.network, name="", arguments={}))


@pytest.mark.parametrize("task", ["phantom", "phantom4", "hippocampus", "headneck_ct"])
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
    assert Counter(case.split for case in used) == {"train": 230, "val": 20, "test": 119}
    assert [case.split for case in used[250:]] == ["test"] * 119

    values = Volume(np.array([[[0, 1, 2, 3, 4]]]), make_geometry((5, 1, 1), (1, 1, 1), np.eye(3), (0, 0, 0)))
    task = Task.from_card(read_card_text(config.card))
    assert as_classes(values, config.data, task, {}).array.tolist() == [[[0, 1, 1, 1, 1]]]
