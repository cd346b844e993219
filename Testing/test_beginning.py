"""A training that begins with the weights of a bundle instead of random ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ScaleEquivSegLib.bundles import read_bundle
from ScaleEquivSegLib.cli import main as command_line
from ScaleEquivSegLib.errors import BadBundle, OutputExists
from training.cases import BadData
from training.config import BadConfig, load_config
from training.evaluate import evaluate
from training.fit import fit

CONFIGS = Path(__file__).parents[1] / "training" / "configs"
TINY = [
    "data.train=2",
    "data.validation=1",
    "data.size=[32, 32, 32]",
    "data.scale=[0.5, 0.5]",
    "fit.crop=[12, 12, 12]",
    "network.arguments={channels: [2, 4]}",
    "fit.steps=2",
    "fit.checkpoint_every=1",
]
STILL = ["fit.learning_rate=1e-12", "fit.weight_decay=0"]


def run(folder: Path, *more: str, config: str = "phantom_unet") -> Path:
    """A fit in a folder; returns its bundle."""
    settings = load_config(CONFIGS / f"{config}.yaml", [*TINY, *more])
    fit(settings, "the command", folder / "run", folder / "bundle")
    return folder / "bundle"


def trained(bundle: Path) -> dict[str, torch.Tensor]:
    """The weights that training changes; the statistics of the normalisation are taken anew."""
    weights = load_file(bundle / "weights.safetensors")
    return {name: weight for name, weight in weights.items() if "running" not in name and "batches" not in name}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle to begin with."""
    return run(tmp_path_factory.mktemp("first"), "fit.seed=5")


def test_a_training_begins_with_the_weights_of_a_bundle_and_its_card_names_it(first: Path, tmp_path: Path) -> None:
    bundle = run(tmp_path, *STILL, f"start={first}")
    assert trained(bundle).keys() == trained(first).keys()
    for name, weight in trained(bundle).items():
        torch.testing.assert_close(weight, trained(first)[name], atol=1e-6, rtol=0)
    training = read_bundle(bundle).card["training"]
    assert training["start"] == {"name": "phantom-unet", "sha256": read_bundle(first).sha256}
    assert "start" not in read_bundle(first).card["training"]


def test_channels_that_the_bundle_does_not_have_begin_by_chance(
    first: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = run(tmp_path, *STILL, f"start={first}", config="phantom4_unet")
    said = capfd.readouterr().out.splitlines()[0].split(", but for ")
    (entry,) = (name for name, weight in trained(bundle).items() if weight.shape != trained(first)[name].shape)
    assert said == [f"begun with {first}", entry]
    for name in trained(bundle).keys() - {entry}:
        torch.testing.assert_close(trained(bundle)[name], trained(first)[name], atol=1e-6, rtol=0)


def test_a_run_that_has_begun_needs_the_bundle_no_more(first: Path, tmp_path: Path) -> None:
    shutil.copytree(first, tmp_path / "start")
    undisturbed = run(tmp_path / "undisturbed", f"start={tmp_path / 'start'}")
    shutil.copytree(tmp_path / "undisturbed" / "run", tmp_path / "stopped" / "run")
    (tmp_path / "stopped" / "run" / "last.ckpt").unlink()  # there is the checkpoint before
    shutil.rmtree(tmp_path / "start")
    finished = run(tmp_path / "stopped", f"start={tmp_path / 'start'}")
    for name in ("weights.safetensors", "card.json"):
        assert (finished / name).read_bytes() == (undisturbed / name).read_bytes()
    with pytest.raises(OutputExists, match="start was start, and is None"):
        run(tmp_path / "stopped")


def test_what_a_bundle_was_trained_on_cannot_be_held_out_by_those_that_begin_with_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert command_line(["phantom", str(data), "--count", "4", "--size", "20", "18", "16"]) == 0

    def split(*splits: str) -> str:
        rows = [f"phantom_{n:06d},{split}" for n, split in enumerate(splits)]
        (data / "cases.csv").write_text("\n".join(["case,split", *rows]), encoding="utf-8")
        return f"data={{folder: {data}}}"

    def of_cases(folder: Path, setting: str, *more: str) -> Path:
        settings = [each for each in TINY if not each.startswith("data.")]
        config = load_config(CONFIGS / "phantom_unet.yaml", [*settings, setting, *more])
        fit(config, "test", folder / "run", folder / "bundle")
        return folder / "bundle"

    before = of_cases(tmp_path / "before", split("train", "train", "val", "test"))
    setting = split("val", "test", "train", "val")
    with pytest.raises(BadConfig, match="was trained on cases that are to validate: phantom_000000"):
        of_cases(tmp_path / "after", setting, f"start={before}")
    after = of_cases(tmp_path / "after", split("test", "test", "train", "val"), f"start={before}")
    training = read_bundle(after).card["training"]
    assert training["data"]["trained_on"] == [f"phantom_{n:06d}" for n in range(3)]
    assert training["start"].keys() == {"name", "sha256"}
    with pytest.raises(BadData, match="of split 'test' the network was trained on phantom_000000, phantom_000001"):
        evaluate(after, data, "test")


def test_a_bundle_that_cannot_be_begun_with_is_refused(first: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"another network .* of \d+ weights only \d+ fit"):
        run(tmp_path / "other", f"start={first}", "network.arguments={channels: [3, 5, 7]}")
    card = json.loads((first / "card.json").read_text())
    shutil.copytree(first, tmp_path / "changed")
    (tmp_path / "changed" / "card.json").write_text(json.dumps({**card, "task": "another"}))
    with pytest.raises(BadBundle):
        run(tmp_path / "broken", f"start={tmp_path / 'changed'}")
    assert not (tmp_path / "broken" / "run" / "config.yaml").exists()
