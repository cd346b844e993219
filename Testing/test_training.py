"""Training produces bundles that the engine runs, remembers how, and goes on where it was stopped."""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ScaleEquivSegLib.bundles import bundled_models, read_bundle
from ScaleEquivSegLib.card import SEAL, seal_of
from ScaleEquivSegLib.cli import main as command_line
from ScaleEquivSegLib.comparison import dice
from ScaleEquivSegLib.errors import BadBundle, UnavailableDevice, UnwritableOutput
from ScaleEquivSegLib.layers.maps import ScaleAxis
from ScaleEquivSegLib.layers.mixture import dynamic_layers, load_balance
from ScaleEquivSegLib.networks import build_network
from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom
from ScaleEquivSegLib.scaling import magnified, magnified_labels
from ScaleEquivSegLib.segmentation import Settings, load_model, segment
from ScaleEquivSegLib.volume import read_volume, write_volume
from test_bundles import change_card
from training.__main__ import main, parse
from training.config import BadConfig, CaseData, ComputeConfig, FitConfig, load_config, read_settings
from training.evaluate import evaluate
from training.experiment import EXPERIMENTS, read_experiment, runs_of
from training.export import check_card_text, export_bundle, note_measurements
from training.fit import fit
from training.preparation import Task, phantom_examples
from training.processes import trainer_on
from training.task import SegmentationTask, annealed, random_window

CONFIGS = Path(__file__).parents[1] / "training" / "configs"
ALIKE = ["data.scale=[1.0, 1.0]", "data.size=[64, 64, 64]"]
TWO_PHANTOMS = ["data.train=2", "data.validation=1", *ALIKE, "fit.crop=[32, 32, 32]"]


def test_a_fit_learns_two_phantoms_by_heart_and_exports_a_bundle_the_engine_runs(tmp_path: Path) -> None:
    # Validation on the training seeds, shown as they are: this is about learning at all.
    again = ["data.first_validation_seed=0", "augmentation.intensity=0.0"]
    overrides = [*TWO_PHANTOMS, *again, "fit.steps=80", "fit.learning_rate=0.02"]
    config = load_config(CONFIGS / "phantom_unet.yaml", overrides)
    metrics = fit(config, "python -m training fit test", tmp_path / "run", tmp_path / "bundle")
    assert metrics["dice"] > 0.6
    card = json.loads((tmp_path / "bundle" / "card.json").read_text())
    assert card["metrics"] == metrics
    assert card["training"]["command"] == "python -m training fit test"
    assert card["training"]["fit"]["steps"] == 80

    assert command_line(["phantom", str(tmp_path / "data"), "--seed", "0"]) == 0
    change_card(tmp_path / "bundle", lambda card: card.update(postprocessing=[]))  # as while it trains
    figures = evaluate(tmp_path / "bundle", tmp_path / "data", split="test")
    assert figures["cases"] == 1
    assert figures["dice.mean@1"] == pytest.approx(metrics["dice"], abs=0.02)
    assert {"dice.Head@1", "dice.Body@1"} <= set(figures)


def test_generated_phantoms_have_the_size_that_is_asked_for() -> None:
    config = load_config(CONFIGS / "phantom_unet.yaml", ["data.size=[20, 24, 28]"])
    task = Task.from_card(read_bundle(bundled_models() / "phantom-unet").card)
    (example,) = phantom_examples(1, 3, config.data, task)
    assert example.image.shape == (1, 20, 24, 28)


def test_dynamic_layers_begin_with_an_even_mixture_and_pay_for_kernels_they_neglect() -> None:
    config = load_config(CONFIGS / "phantom_unet.yaml", ["network.name=dynamic_se_unet", "fit.steps=100"])
    assert [annealed(config.fit, step) for step in (0, 25, 50, 100)] == [30, 15.5, 1, 1]

    torch.manual_seed(0)
    network = build_network("dynamic_se_unet", {"in_channels": 1, "classes": 3, "channels": (4, 4)})
    for layer in dynamic_layers(network):
        torch.nn.init.normal_(layer.get_parameter("attention.last.conv.bias"), std=30.0)
    task = SegmentationTask(network, config.fit).train()
    batch = {"image": torch.randn(1, 1, 8, 8, 8), "label": torch.randint(3, (1, 1, 8, 8, 8))}
    batch["unlabelled"] = torch.zeros(1, 3, dtype=torch.bool)
    task.on_train_batch_start(batch, 0)
    assert {float(layer.attention.get_buffer("temperature")) for layer in dynamic_layers(network)} == {30.0}
    task.training_step(batch, 0).backward()
    with torch.no_grad():
        unevenness = float(load_balance(network))
        free = SegmentationTask(network, replace(config.fit, load_balance=0.0)).train()
        difference = float(task.training_step(batch, 0)) - float(free.training_step(batch, 0))
    assert unevenness > 0.1
    assert difference == pytest.approx(config.fit.load_balance * unevenness, rel=1e-2)


@pytest.mark.parametrize("name", ["dynamic_se_unet", "pyramid_unet", "published_se_unet"])
def test_every_network_can_be_trained_and_run_as_a_bundle(name: str, tmp_path: Path) -> None:
    arguments = "{}" if name == "published_se_unet" else "{channels: [4, 4], scale_axis: {ratio: 1.41, count: 2}}"
    overrides = [*TWO_PHANTOMS, f"network.name={name}", f"network.arguments={arguments}", "fit.steps=2"]
    config = load_config(CONFIGS / "phantom_unet.yaml", overrides)
    fit(config, "test", tmp_path / "run", tmp_path / "bundle")
    model = load_model(read_bundle(tmp_path / "bundle"))
    phantom = make_phantom(PhantomSpec(seed=1, size=(30, 24, 20)))
    assert segment(phantom.channels, model, Settings("cpu")).labels.array.shape == (20, 24, 30)


def test_an_exported_card_is_sealed_and_one_that_cannot_be_used_is_refused_at_once(tmp_path: Path) -> None:
    config = load_config(CONFIGS / "phantom_unet.yaml", ["network.arguments={channels: [2, 2]}"])
    network = build_network("unet", {"in_channels": 1, "classes": 3, "channels": [2, 2]})
    export_bundle(network, config, "test", {"dice": 0.5, "dice.Nothing": math.nan}, tmp_path / "bundle")
    card = read_bundle(tmp_path / "bundle").card
    assert card[SEAL] == seal_of(card)
    assert card["metrics"] == {"dice": 0.5}

    text = tmp_path / "text.yaml"
    text.write_text(config.card.read_text().replace("orientation: RAS", "orientation: RRS"))
    with pytest.raises(BadBundle, match="RRS"):
        export_bundle(network, replace(config, card=text), "test", {}, tmp_path / "unusable")
    assert not (tmp_path / "unusable").exists()


def test_weights_that_are_no_numbers_make_no_bundle(tmp_path: Path) -> None:
    config = load_config(CONFIGS / "phantom_unet.yaml", ["network.arguments={channels: [2, 2]}"])
    network = build_network("unet", {"in_channels": 1, "classes": 3, "channels": [2, 2]})
    (name, values), *_ = network.named_parameters()
    with torch.no_grad():
        values.view(-1)[0] = math.inf
    with pytest.raises(BadBundle, match=f"{name} of the network have values that are NaN or infinite"):
        export_bundle(network, config, "test", {}, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_is_measured_at_several_scales_each_on_its_own_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line(["phantom", str(tmp_path / "data"), "--seed", "200000", "--size", "48", "48", "48"]) == 0
    bundle, table = bundled_models() / "phantom-unet", tmp_path / "figures.json"
    arguments = ["evaluate", "--bundle", bundle, "--data", tmp_path / "data", "--scales", "0.5,1,1.5", "--json", table]
    monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
    main()
    figures = json.loads(table.read_text())
    names = [f"{metric}.{label}" for metric in ("dice", "hd95") for label in ("mean", "Head", "Body")]
    names.append("dice.worst_case")
    assert set(figures) == {"cases", *(f"{name}@{scale}" for name in names for scale in ("0.5", "1", "1.5"))}
    assert "x0.5" in capsys.readouterr().out

    # What the table says at x1.5 is what one gets by magnifying the files beforehand.
    for kind in ("images", "labels"):
        path = tmp_path / "data" / kind / "phantom_200000.nrrd"
        volume = read_volume(path)
        write_volume(magnified(volume, 1.5) if kind == "images" else magnified_labels(volume, 1.5, 2), path)
    again = evaluate(bundle, tmp_path / "data", None)
    for name in names:
        assert again[f"{name}@1"] == pytest.approx(figures[f"{name}@1.5"], abs=1e-6)
    assert again["hd95.mean@1"] != pytest.approx(figures["hd95.mean@1"])
    assert 0 < figures["hd95.mean@1"] < 10


def test_training_sees_every_window_of_the_scale_axis_and_inference_all_of_it() -> None:
    whole = ScaleAxis(1.0, 2.0, 4)
    windows = {random_window(whole, FitConfig(scale_window=2), step) for step in range(50)}
    assert windows == {ScaleAxis(first, 2.0, 2) for first in (1.0, 2.0, 4.0)}

    network = build_network("pyramid_unet", {"in_channels": 1, "classes": 3, "scale_axis": asdict(whole)})
    task = SegmentationTask(network, FitConfig(scale_window=2))
    with task._random_window():
        assert network.axis == random_window(whole, task.fit_config, 0)
    assert network.axis == whole


@pytest.mark.parametrize(
    ("name", "arguments", "shown"),
    [
        ("unet", {}, (0, 12)),
        ("se_unet", {"scale_axis": {"first": 1.0, "ratio": 2.0, "count": 2}}, (0, 12)),
        ("se_unet", {"scale_axis": {"first": 0.5, "ratio": 2.0, "count": 2}}, (3, 9)),
        ("published_se_unet", {}, (0, 12)),
    ],
)
def test_who_trains_on_finer_scales_is_shown_the_middle_of_image_and_labels(
    name: str, arguments: dict[str, Any], shown: tuple[int, int]
) -> None:
    task = SegmentationTask(build_network(name, {"in_channels": 1, "classes": 3, **arguments}), FitConfig())
    places = torch.stack(torch.meshgrid(*3 * [torch.arange(12)], indexing="ij"))[None]
    first, last = shown
    assert torch.equal(task._within_budget(places), places[..., first:last, first:last, first:last])


def validated(task: SegmentationTask, *cases: tuple[torch.Tensor, torch.Tensor, list[int]]) -> dict[str, float]:
    """The figures that a validation on whole images logs."""
    logged: dict[str, float] = {}
    task.log = lambda name, value, **how: logged.update({name: float(value)})  # type: ignore[method-assign]
    task.trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=lambda sums, reduce_op: sums))  # type: ignore[assignment]
    with torch.inference_mode():
        for image, label, missing in cases:
            unlabelled = torch.zeros(1, 3, dtype=torch.bool)
            unlabelled[0, missing] = True
            task.validation_step({"image": image[None], "label": label[None, None], "unlabelled": unlabelled}, 0)
        task.on_validation_epoch_end()
    return logged


@pytest.mark.parametrize("name", ["se_unet", "published_se_unet"])
def test_validation_sees_whole_images_without_holding_the_maps_of_a_whole_image(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    small = {"channels": (4, 4)} if name == "se_unet" else {}
    network = build_network(name, {"in_channels": 2, "classes": 3, **small}).eval()
    image, label = torch.randn(2, 14, 40, 18), torch.randint(3, (14, 40, 18))
    with torch.inference_mode():
        at_once = network(image[None]).argmax(1)[0]
    wanted = [dice((at_once == value).numpy(), (label == value).numpy()) for value in (1, 2)]
    if name == "se_unet":
        monkeypatch.setattr(type(network), "forward", None)
    logged = validated(SegmentationTask(network, FitConfig()), (image, label, []))
    assert [logged["val_dice_1"], logged["val_dice_2"]] == pytest.approx(wanted, abs=1e-3)
    assert logged["val_dice"] == pytest.approx(sum(wanted) / 2, abs=1e-3)


def test_validation_counts_a_class_that_is_not_there_as_evaluation_does() -> None:
    task = SegmentationTask(build_network("unet", {"in_channels": 1, "classes": 3, "channels": (2, 2)}), FitConfig())
    task._found = lambda image: image[0].numpy().astype(int)  # type: ignore[method-assign]
    label = torch.tensor([0, 1, 1, 0]).reshape(1, 1, 4)
    right, wrong = label[None].float(), torch.tensor([0.0, 1.0, 1.0, 2.0]).reshape(1, 1, 1, 4)
    assert validated(task, (right, label, []))["val_dice_2"] == 1
    assert validated(task, (right, label, []), (wrong, label, []))["val_dice_2"] == 0.5
    logged = validated(task, (right, label, [2]), (wrong, label, [2]))
    assert math.isnan(logged["val_dice_2"])
    assert logged["val_dice"] == logged["val_dice_1"] == 1


def test_every_configuration_can_be_read() -> None:
    for path in CONFIGS.glob("*.yaml"):
        if not path.name.endswith(".card.yaml"):
            config = load_config(path, ["fit.steps=3"])
            assert config.fit.steps == 3
            assert config.card.exists()


@pytest.mark.parametrize("override", ["fit.stepz=3", "network.layers=4"])
def test_a_setting_that_does_not_exist_is_refused_by_name(override: str) -> None:
    with pytest.raises(BadConfig, match=override.partition("=")[0]):
        load_config(CONFIGS / "phantom_unet.yaml", [override])


@pytest.mark.parametrize(
    ("setting", "must"),
    [
        ("fit.batch=0", "at least 1"),
        ("fit.steps=0", "at least 1"),
        ("fit.checkpoint_every=-1", "at least 1"),
        ("fit.crop=[32, 0, 32]", "at least 1"),
        ("fit.scale_window=-1", "at least 0"),
        ("fit.learning_rate=0", "a number above 0"),
        ("fit.learning_rate=.nan", "a number above 0"),
        ("augmentation.scale=[0, 1]", "a number above 0"),
        ("augmentation.scale=[2, 1]", "in order, the smaller number first"),
        ("augmentation.noise=-0.1", "a number from 0"),
        ("augmentation.scaled=2", "a number from 0 to 1"),
        ("compute.nodes=0", "at least 1"),
        ("data={folder: x, validation: 1.5}", "a number from 0 to 1"),
    ],
)
def test_a_number_that_cannot_be_is_refused_by_name(setting: str, must: str) -> None:
    key = "data.validation" if setting.startswith("data=") else setting.partition("=")[0]
    with pytest.raises(BadConfig, match=f"^{key} is .*, and must be {must}$"):
        load_config(CONFIGS / "phantom_unet.yaml", [setting])


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001", "1E-03"])
def test_a_number_may_be_written_in_any_usual_way(text: str) -> None:
    overrides = [f"fit.learning_rate={text}", f"network.arguments.dropout={text}"]
    config = load_config(CONFIGS / "phantom_unet.yaml", overrides)
    assert config.fit.learning_rate == config.network.arguments["dropout"] == 0.001


def test_a_file_has_the_settings_of_its_base_but_for_its_own(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "card: a\nnetwork: {name: unet, arguments: {channels: [2], jet: 1}}\nfit: {steps: 3}"
    )
    (tmp_path / "mine.yaml").write_text("base: base.yaml\nnetwork: {name: se_unet, arguments: {channels: [4]}}")
    (tmp_path / "more.yaml").write_text("base: mine.yaml\nfit: {batch: 8}")
    assert read_settings(tmp_path / "more.yaml", ["fit.seed=2"]) == {
        "card": "a",
        "network": {"name": "se_unet", "arguments": {"channels": [4], "jet": 1}},
        "fit": {"steps": 3, "batch": 8, "seed": 2},
    }
    (tmp_path / "mine.yaml").write_text("base: elsewhere.yaml")
    with pytest.raises(BadConfig, match=r"elsewhere\.yaml cannot be read"):
        read_settings(tmp_path / "more.yaml")
    (tmp_path / "mine.yaml").write_text("base: more.yaml")
    with pytest.raises(BadConfig, match=r"more\.yaml is a base of itself"):
        read_settings(tmp_path / "more.yaml")


@pytest.mark.parametrize("text", ["data #2", "2024", "no", "[a]", "a: b", "1e-3"])
def test_what_is_typed_for_a_path_or_a_name_is_taken_as_it_is(text: str) -> None:
    config = load_config(CONFIGS / "hippocampus_unet.yaml", [f"data.folder={text}", f"name={text}", f"start={text}"])
    assert isinstance(config.data, CaseData)
    assert (config.data.folder, config.name, config.start) == (Path(text), text, Path(text))


@pytest.mark.parametrize("text", ["", "null", "~"])
def test_nothing_may_be_typed_for_a_path_that_need_not_be(text: str) -> None:
    config = load_config(CONFIGS / "brats_unet.yaml", [f"data.splits={text}"])
    assert isinstance(config.data, CaseData)
    assert config.data.splits is None


def test_a_key_that_stands_twice_is_refused_and_one_that_is_merged_is_not(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("fit: {steps: 3}\nname: a\nfit: {batch: 1}")
    with pytest.raises(BadConfig, match=r"mine\.yaml is no YAML: fit is there more than once"):
        read_settings(path)
    path.write_text("a: &a {steps: 3, batch: 2}\nfit: {<<: *a, steps: 4}")
    assert read_settings(path)["fit"] == {"steps": 4, "batch": 2}


@pytest.mark.parametrize("accelerator", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_by_name(accelerator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(
        UnavailableDevice, match=rf"compute\.accelerator is {accelerator}, and .* set it to auto or cpu"
    ):
        trainer_on(ComputeConfig(accelerator=accelerator))


def test_more_gpus_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(UnavailableDevice, match="this machine has 2 GPUs"):
        trainer_on(ComputeConfig(devices=4))


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--scales", "0.5,abc"),
        ("--classes", "1,b"),
        ("--background", "x"),
        ("--scale-axis", "1,2"),
        ("--scale-axis", "1,2,0"),
    ],
)
def test_a_list_that_is_none_is_refused_with_its_form(
    option: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(["evaluate", "--bundle", "b", "--data", "d", option, text])
    assert f"{option}: '{text}' is not of the form " in capsys.readouterr().err


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(BadConfig, match="key=value"):
        load_config(CONFIGS / "phantom_unet.yaml", ["fit.steps"])


CARD = (CONFIGS / "phantom.card.yaml").as_posix()


@pytest.mark.parametrize(
    ("text", "settings", "reason"),
    [
        (None, [], "cannot be read"),
        ("card: [", [], "no YAML"),
        ("- card", [], "no settings"),
        ("card: CARD", [], "missing setting(s) network"),
        ("card: CARD.gone\nnetwork: {name: unet, arguments: {}}", [], "there is no card"),
        ("card: CARD\nnetwork: {name: vnet, arguments: {}}", [], "the network 'vnet' is unknown"),
        ("card: CARD\nnetwork: {name: unet, arguments: {depth: 3}}", [], "'depth'"),
        ("card: CARD\nfit: {seed: 1}", ["fit.seed.more=1"], "inside seed"),
        ("card: CARD\nnetwork: {name: unet, arguments: {}}", ["fit.steps=[1"], "no YAML"),
        ("card: CARD\nnetwork: {name: unet, arguments: {}}", ["data={folder: 3}"], "data.folder is 3"),
        ("card: CARD\nnetwork: {name: unet, arguments: {}}", ["data={folder: null}"], "data.folder=FOLDER"),
        ("card: CARD\nnetwork: {name: unet, arguments: {}}", [], "name the folder of the cases: data.folder=FOLDER"),
        (
            "card: CARD\nnetwork: {name: unet, arguments: {}}",
            ["data.train=5"],
            "name the folder of the cases: data.folder=",
        ),
    ],
)
def test_a_configuration_that_cannot_be_used_is_one_line_with_the_reason(
    text: str | None,
    settings: list[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if text:
        Path("mine.yaml").write_text(text.replace("CARD", CARD))
    monkeypatch.setattr("sys.argv", ["training", "fit", "mine.yaml", *settings, "--bundle", "bundle"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == BadConfig.exit_code
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    assert reason in line
    assert not Path("bundle").exists()


@pytest.mark.parametrize(
    ("was", "becomes", "settings", "reason"),
    [
        ("", "", ["name=MyHippo"], "'name' must not be 'MyHippo'; it must match"),
        ("licence: Apache-2.0\ntraining", "training", [], "the key 'licence' is missing in the card"),
        ("[221, 130, 101]", "[300, 130, 101]", [], "'labels'[0].color[0] must be at most 255"),
        ("1.0.0", "1.0", [], "'version' must be of the type string"),
        ("1.0.0", "2020-01-01", [], "date"),
        ("task: phantom", "task: a phantom", [], "'name' must not be 'a phantom-unet'"),
        ("limits:", "limit:", [], "the key 'limits' is missing in the card"),
        ("percentiles:", "percentile:", [], "the key 'percentile', which this version does not know"),
        ("\nlabels:", "\nlabel:", [], "the key 'label', which this version does not know"),
        ("\ninputs:", "\ninput:", [], "the key 'inputs' is missing in the card"),
        ("orientation: RAS", "orientation: RASX", [], "'orientation' must not be 'RASX'"),
        ("orientation: RAS", "orientation: RRS", [], "the orientation RRS must name one of R/L"),
        ("[1.0, 1.0, 1.0]", "1.0", [], "'spacing' must be of the type array"),
        ('["123037004", "SCT", "Anatomical Structure"]', '["123037004", "SCT"]', [], "must be at least 3"),
    ],
)
def test_a_card_that_cannot_be_used_is_refused_before_anything_is_read(
    was: str, becomes: str, settings: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Path(CARD).read_text(encoding="utf-8")
    assert was in text
    (tmp_path / "mine.yaml").write_text(text.replace(was, becomes))
    config = load_config(CONFIGS / "phantom_unet.yaml", [f"card={tmp_path / 'mine.yaml'}", *settings])
    monkeypatch.setattr("training.fit.examples", None)
    with pytest.raises(BadConfig, match=f"mine.yaml and the settings make no card.*{re.escape(reason)}"):
        fit(config, "test", tmp_path / "run", tmp_path / "bundle")
    assert not (tmp_path / "run").exists()


def test_a_place_where_no_bundle_can_be_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "bundle"):
        with pytest.raises(UnwritableOutput, match=r"cannot be written: .*file: Not a directory"):
            fit(load_config(CONFIGS / "phantom_unet.yaml"), "test", tmp_path / "run", place)
    assert not (tmp_path / "run").exists()


def test_every_network_of_the_experiments_may_be_in_a_card() -> None:
    for path in EXPERIMENTS.glob("*.yaml"):
        if not path.name.endswith(".base.yaml"):
            for run in runs_of(read_experiment(path), seeds=[0]):
                check_card_text(run.config(Path("cases")), "test")


def test_an_experiment_that_cannot_be_used_ends_the_command_with_a_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["training", "experiment", "scale_curves", "--list"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == BadConfig.exit_code
    assert "there is no experiment scale_curves; known: ablation, breast," in capsys.readouterr().err


@pytest.mark.parametrize(("name", "channels"), [("phantom_unet", 1), ("phantom4_unet", 4)])
def test_a_card_says_what_was_measured_and_what_a_volume_costs_and_stays_sealed(
    name: str, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(CONFIGS / f"{name}.yaml", ["network.arguments={channels: [2, 2]}"])
    network = build_network("unet", {"in_channels": channels, "classes": 3, "channels": [2, 2]})
    export_bundle(network, config, "test", {}, tmp_path)
    monkeypatch.setattr("training.benchmarks.volumes.SMALL", (12, 12, 12))
    note_measurements(tmp_path, {"dice.mean@1": 0.51239, "dice.Nothing@1": math.nan}, "python -m training evaluate")
    card = read_bundle(tmp_path).card
    assert card["metrics"] == {"dice.mean@1": 0.5124}
    assert card["metrics_command"] == "python -m training evaluate"
    assert card["expected"]["size"] == [12, 12, 12]
    assert card["expected"]["seconds"] >= 0
    assert card[SEAL] == seal_of(card)


def test_where_memory_cannot_be_measured_figures_are_noted_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(CONFIGS / "phantom_unet.yaml", ["network.arguments={channels: [2, 2]}"])
    network = build_network("unet", {"in_channels": 1, "classes": 3, "channels": [2, 2]})
    export_bundle(network, config, "test", {}, tmp_path)
    monkeypatch.setattr("training.benchmarks.memory.FORGET_PEAK", tmp_path / "only on Linux")
    note_measurements(tmp_path, {"dice.mean@1": 0.5}, "python -m training evaluate")
    card = read_bundle(tmp_path).card
    assert card["metrics"] == {"dice.mean@1": 0.5}
    assert "expected" not in card
