"""Pictures are classified as they are trained: in any pose alike where the network promises it, or with an error."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.stats import mannwhitneyu

from ScaleEquivSegLib.bundles import CARD, Bundle, bundled_models, find_bundles, read_bundle
from ScaleEquivSegLib.card import SEAL
from ScaleEquivSegLib.classification import classify, load_classifier, working_picture
from ScaleEquivSegLib.cli import main as command_line
from ScaleEquivSegLib.errors import BadBundle, UnreadableVolume, UnsuitableVolume
from ScaleEquivSegLib.layers.groups import finite_group
from ScaleEquivSegLib.networks import CLASSIFIERS
from ScaleEquivSegLib.segmentation import load_model
from ScaleEquivSegLib.volume import Volume, make_geometry, read_slice, write_volume
from training.__main__ import main
from training.cases import BadData
from training.conduct import Places, carry_out
from training.config import Augmentation, BadConfig, CaseData, Config, load_config
from training.evaluate_pictures import evaluate_pictures
from training.experiment import Experiment, find_experiment, read_experiment, runs_of
from training.export import export_bundle, network_arguments, read_card_text
from training.figures import draw_all
from training.fit import fit
from training.picture_metrics import area_under_curve, figures
from training.picture_samples import PictureAugmenter, PictureExample, PictureTask
from training.pictures import chosen_pictures, find_pictures, with_splits
from training.records import read_records

CONFIGS = Path(__file__).parents[1] / "training" / "configs"
SCHEMA = json.loads((bundled_models() / "card.schema.json").read_text())
FAMILIES = ("plain", "static", "dynamic")
TINY = [
    *("network.arguments.channels=[2, 3]", "augmentation.intensity=0.05", "augmentation.noise=0.02"),
    *("fit.steps=24", "fit.batch=8", "fit.checkpoint_every=6", "fit.learning_rate=0.03"),
]


def blob_and_bars(label: int, random: np.random.Generator, shape: tuple[int, int] = (20, 20)) -> np.ndarray:
    """A picture of a disc, of bars, or of nothing, in noise."""
    y, x = np.indices(shape)
    shown = [np.hypot(y - shape[0] / 2, x - shape[1] / 2) < 6, (x + random.integers(4)) % 4 < 2, x < 0][label]
    return np.clip(120 * shown + random.normal(60, 15, shape), 0, 255).astype(np.uint8)


def save_archive(path: Path, **changes: Any) -> Path:
    """24 pictures of three classes, pairs of which are one group; two of three groups are for training."""
    random, labels = np.random.default_rng(0), np.repeat([0, 1, 2], 8)
    group = np.arange(24) // 2
    arrays = {
        "images": np.stack([blob_and_bars(label, random) for label in labels]),
        "labels": labels.astype(np.uint8),
        "names": np.array([f"case {n}" for n in range(24)]),
        "class_names": np.array(["benign", "malignant", "normal"]),
        "group": group,
        "split": np.where(group % 3 == 2, "val", "train"),
    }
    np.savez(path, **{key: value for key, value in {**arrays, **changes}.items() if value is not None})
    return path


def small_config(folder: Path, family: str = "dynamic", *overrides: str) -> Config:
    """A configuration of ours with a tiny network that looks at 16 pixels a side."""
    card = folder / "tiny.card.yaml"
    card.write_text((CONFIGS / "breast_ultrasound.card.yaml").read_text().replace("size: 64", "size: 16"))
    config = load_config(CONFIGS / f"breast_ultrasound_{family}.yaml", [*TINY, *overrides])
    return replace(config, card=card)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of data, run and bundle of a dynamic classifier."""
    folder = tmp_path_factory.mktemp("pictures")
    data = save_archive(folder / "pictures.npz")
    fit(small_config(folder, "dynamic", f"data.folder={data}"), "test", folder / "run", folder / "bundle")
    return folder


@pytest.fixture
def bundle(trained: Path) -> Bundle:
    return read_bundle(trained / "bundle")


def picture(shape: tuple[int, int] = (20, 20), spacing: tuple[float, float] = (1.0, 1.0), thin: int = 2) -> Volume:
    """Of the rows and columns that a slice has, the slice lying across i, j or k."""
    array = blob_and_bars(1, np.random.default_rng(5), shape)
    size, spacings = [shape[1], shape[0]], list(spacing)
    size.insert(thin, 1)
    spacings.insert(thin, 2.0)
    geometry = make_geometry((size[0], size[1], size[2]), spacings, np.eye(3), (5, 6, 7))
    return Volume(array.reshape(geometry.shape), geometry)


# From a configuration to a bundle


def test_the_networks_of_the_task_are_of_equal_size_and_trained_alike() -> None:
    configs = [load_config(CONFIGS / f"breast_ultrasound_{family}.yaml") for family in FAMILIES]
    assert all(replace(config, network=configs[0].network) == configs[0] for config in configs)
    sizes = []
    for config in configs:
        network = CLASSIFIERS[config.network.name](network_arguments(config, read_card_text(config.card)))
        sizes.append(sum(parameter.numel() for parameter in network.parameters()))
    assert max(sizes) < 1.05 * min(sizes)


def test_the_experiment_compares_the_networks_of_the_configurations() -> None:
    experiment = read_experiment(find_experiment("breast"))
    assert len(experiment.seeds) == 5
    for run in runs_of(experiment, seeds=[0]):
        config = load_config(experiment.base, run.variant.overrides)
        ours = load_config(CONFIGS / f"breast_ultrasound_{run.variant.name.split()[0]}.yaml")
        assert (config.network, config.fit, config.data) == (ours.network, ours.fit, ours.data)
        assert (config.augmentation == ours.augmentation) == ("+" not in run.variant.name)


def test_a_fit_tells_shapes_apart_and_exports_a_bundle_that_the_engine_runs(trained: Path) -> None:
    metrics = read_bundle(trained / "bundle").card["metrics"]
    assert metrics["auc.malignant"] > 0.8
    measured = evaluate_pictures(trained / "bundle", trained / "pictures.npz", "val", trained / "cases.csv")
    assert measured.pop("cases") == 8
    assert measured == pytest.approx(metrics, abs=2e-4)
    heading, first, *rest = (trained / "cases.csv").read_text().split()[0:1] + (
        (trained / "cases.csv").read_text().splitlines()[1:]
    )
    assert heading == "case,class,benign,malignant,normal"
    assert len(rest) == 7
    assert sum(float(cell) for cell in first.split(",")[2:]) == pytest.approx(1)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(trained: Path, tmp_path: Path, monkeypatch: Any) -> None:
    config = small_config(trained, "dynamic", f"data.folder={trained / 'pictures.npz'}")

    class Stopped(Exception):
        pass

    def stop(module: Any, batch: Any, index: int) -> None:
        if module.global_step == 15:
            raise Stopped

    with monkeypatch.context() as at_step_15:
        at_step_15.setattr("training.picture_task.ClassificationTask.on_train_batch_end", lambda *a: stop(a[0], *a[2:]))
        with pytest.raises(Stopped):
            fit(config, "test", tmp_path / "run", tmp_path / "bundle")
    fit(config, "test", tmp_path / "run", tmp_path / "bundle")
    assert read_bundle(tmp_path / "bundle").sha256 == read_bundle(trained / "bundle").sha256


def test_no_pose_changes_what_a_bundle_answers(bundle: Bundle) -> None:
    model, seen = load_classifier(bundle), picture((20, 27), (0.9, 0.7))
    expected = list(classify(seen, model, "cpu").probabilities.values())
    group = finite_group("p4m")
    for element in range(group.order):
        array = group.act_on_image(element, torch.from_numpy(seen.array[0].copy())).numpy()
        spacing = (0.9, 0.7, 1) if array.shape == (20, 27) else (0.7, 0.9, 1)
        geometry = make_geometry((array.shape[1], array.shape[0], 1), spacing, np.eye(3), (0, 0, 0))
        found = classify(Volume(array[None], geometry), model, "cpu")
        assert list(found.probabilities.values()) == pytest.approx(expected, abs=1e-5)
    assert max(expected) < 1 - 1e-3  # not so sure that nothing could change it


# What a network is shown


def test_the_central_square_is_shown_in_millimetres_whichever_axis_is_thin(bundle: Bundle) -> None:
    wide = picture((16, 24))
    square = Volume(wide.array[:, :, 4:20], make_geometry((16, 16, 1), (1, 1, 2), np.eye(3), (0, 0, 0)))
    shown = working_picture(square, bundle)
    assert shown.shape == (1, 16, 16)
    assert torch.allclose(working_picture(wide, bundle), shown, atol=1e-5)
    assert torch.allclose(working_picture(picture((16, 24), thin=0), bundle), shown, atol=1e-5)
    assert torch.allclose(working_picture(picture((16, 24), thin=1), bundle), shown, atol=1e-5)
    # As many pixels, each half as wide: the square is now the whole width.
    narrow = working_picture(picture((16, 24), spacing=(0.5, 1.0)), bundle)
    assert not torch.allclose(narrow, shown, atol=0.1)


def test_what_lies_outside_the_square_is_told(bundle: Bundle) -> None:
    model = load_classifier(bundle)
    assert classify(picture((20, 20)), model, "cpu").warnings == ()
    (told,) = classify(picture((20, 40)), model, "cpu").warnings
    assert told.startswith("50% of the picture")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda p: np.full_like(p, 7.0), "same value everywhere"),
        (lambda p: np.where(p == p.max(), np.nan, p), "NaN or infinite"),
        (lambda p: np.concatenate([p, p]), "20 x 20 x 2"),
        (lambda p: p[:, :1], "20 x 1 x 1"),
    ],
)
def test_a_picture_that_cannot_be_classified_is_refused(
    bundle: Bundle, spoil: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    array = spoil(picture().array.astype(np.float32))
    geometry = make_geometry((array.shape[2], array.shape[1], array.shape[0]), (1, 1, 1), np.eye(3), (0, 0, 0))
    with pytest.raises(UnsuitableVolume, match=reason):
        classify(Volume(array, geometry), load_classifier(bundle), "cpu")


def test_weights_that_answer_with_no_number_are_an_error(bundle: Bundle) -> None:
    model = load_classifier(bundle)
    with torch.no_grad():
        model.network.lifting.norm.running_var.fill_(-1)
    with pytest.raises(BadBundle, match="no number"):
        classify(picture(), model, "cpu")


# PNG


def test_a_png_in_grey_or_in_equal_colours_is_the_picture_of_a_nrrd(tmp_path: Path) -> None:
    pixels = picture((20, 27)).array[0]
    grey = sitk.GetImageFromArray(pixels)
    sitk.WriteImage(grey, str(tmp_path / "grey.png"))
    sitk.WriteImage(sitk.Compose(grey, grey, grey), str(tmp_path / "colours.PNG"))
    write_volume(picture((20, 27)), tmp_path / "picture.nrrd")
    for name in ("grey.png", "colours.PNG", "picture.nrrd"):
        assert np.array_equal(read_slice(tmp_path / name).array, pixels[None])


def test_a_png_in_colours_or_cut_short_is_refused(tmp_path: Path) -> None:
    grey = sitk.GetImageFromArray(picture((60, 60)).array[0])
    sitk.WriteImage(sitk.Compose(grey, grey, 255 - grey), str(tmp_path / "colours.png"))
    with pytest.raises(UnsuitableVolume, match="grey"):
        read_slice(tmp_path / "colours.png")
    data = (tmp_path / "colours.png").read_bytes()
    for kept in (0, 20, len(data) // 2, len(data) - 40):
        (tmp_path / "cut.png").write_bytes(data[:kept])
        with pytest.raises(UnreadableVolume, match=r"cut\.png"):
            read_slice(tmp_path / "cut.png")


# Cards and doors


def test_the_card_of_a_classification_is_what_the_schema_describes(bundle: Bundle) -> None:
    jsonschema.validate(dict(bundle.card), SCHEMA)
    assert [each.name for each in bundle.classes] == ["benign", "malignant", "normal"]
    assert (bundle.kind, bundle.size, bundle.labels) == ("classification", 16, ())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda card: card.pop("kind"), "'labels' is missing"),
        (lambda card: card.pop("classes"), "'classes' is missing"),
        (lambda card: card.update(kind="detection"), "must not be 'detection'"),
        (lambda card: card.update(spacing=[1, 1, 1]), "has the key 'spacing'"),
        (lambda card: card.update(size=10**6), "at most 1024"),
        (lambda card: card["classes"][0].update(name="normal"), "2 classes have the name 'normal'"),
        (lambda card: card["network"].update(name="unet"), "'unet' is unknown for classification"),
        (lambda card: card["network"]["arguments"].update(classes=4), "a class for each"),
        (lambda card: card["network"]["arguments"].update(group="O_h"), "must not be 'O_h'"),
        (lambda card: card["inputs"].append({**card["inputs"][0], "name": "other"}), "takes one picture"),
    ],
)
def test_a_spoilt_card_of_a_classification_is_listed_with_its_reason(
    trained: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    shutil.copytree(trained / "bundle", tmp_path / "spoilt")
    card = json.loads((tmp_path / "spoilt" / CARD).read_text())
    card.pop(SEAL)
    change(card)
    (tmp_path / "spoilt" / CARD).write_text(json.dumps(card))
    found, (refused,) = find_bundles([tmp_path])
    assert not found
    assert reason in refused.reason


def test_a_huge_classifier_is_refused_before_its_memory_is_taken(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "bundle", tmp_path / "huge")
    card = json.loads((tmp_path / "huge" / CARD).read_text())
    card.pop(SEAL)
    card["network"]["arguments"].update(channels=[1024] * 8, kernels=32)  # 150 GiB
    (tmp_path / "huge" / CARD).write_text(json.dumps(card))
    with pytest.raises(BadBundle, match="cannot be loaded"):
        load_classifier(read_bundle(tmp_path / "huge"))


def test_each_door_sends_a_bundle_of_the_other_kind_away(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volume(picture(), tmp_path / "picture.nrrd")
    image, folder = str(tmp_path / "picture.nrrd"), str(bundle.folder)
    for command in (
        ["segment", image, "-o", str(tmp_path / "labels.nrrd"), "--bundle", folder],
        ["segment", "--cases", str(tmp_path), "-o", str(tmp_path / "results"), "--bundle", folder],
        ["scale-sweep", image, "--bundle", folder],
        ["compare", image, image, "--bundle", folder],
    ):
        assert command_line(command) == BadBundle.exit_code
        assert "is a model for classification, not for segmentation; use it with `classify`" in capsys.readouterr().err
    with pytest.raises(BadBundle, match="for classification"):
        load_model(bundle)
    assert command_line(["classify", image, "--bundle", "phantom-unet"]) == BadBundle.exit_code
    assert "is a model for segmentation" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picture.nrrd"]


def test_classify_prints_probabilities_and_writes_them_with_where_they_come_from(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(picture().array[0]), str(tmp_path / "a.png"))
    write_volume(picture((30, 20)), tmp_path / "b.nii")
    images = [str(tmp_path / "a.png"), str(tmp_path / "b.nii")]
    table, text = tmp_path / "out.csv", tmp_path / "out.json"
    command = ["classify", *images, "--bundle", str(bundle.folder), "-o", str(table), "--json", str(text)]
    assert command_line(command) == 0
    said = json.loads(text.read_text())
    assert list(said) == images
    assert said[images[0]]["sha256"] == bundle.sha256
    assert said[images[0]]["bundle_version"] == bundle.version
    assert sum(value for key, value in said[images[1]].items() if key.startswith("probability.")) == pytest.approx(1)
    assert len(table.read_text().splitlines()) == 3
    assert "benign" in capsys.readouterr().out
    assert command_line(command) == 7  # nothing is overwritten

    (tmp_path / "bad.png").write_bytes(b"no picture")
    partial = ["classify", images[0], str(tmp_path / "bad.png"), "--bundle", str(bundle.folder)]
    assert command_line([*partial, "-o", str(tmp_path / "partial.csv")]) == UnreadableVolume.exit_code
    assert not (tmp_path / "partial.csv").exists()


def test_models_lists_and_checks_a_classification(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line(["models", "list", str(bundle.folder.parent), "--json", str(tmp_path / "list.json")]) == 0
    entry = next(e for e in json.loads((tmp_path / "list.json").read_text())["bundles"] if e["name"] == bundle.name)
    assert (entry["kind"], entry["classes"]) == ("classification", ["benign", "malignant", "normal"])
    assert command_line(["models", "check", str(bundle.folder)]) == 0


# Pictures to train on


CLASSES = ("benign", "malignant", "normal")


def test_a_table_of_files_is_read_as_an_archive_is(tmp_path: Path) -> None:
    of_archive = find_pictures(save_archive(tmp_path / "pictures.npz"), CLASSES)
    rows = ["case,file,class,split,group"]
    for number, each in enumerate(of_archive):
        sitk.WriteImage(sitk.GetImageFromArray(each.volume.array[0]), str(tmp_path / f"{number}.png"))
        rows.append(f"{each.name},{number}.png,{each.of_class},{each.split},{each.group}")
    (tmp_path / "files").mkdir()
    for path in tmp_path.glob("*.png"):
        path.rename(tmp_path / "files" / path.name)
    (tmp_path / "files" / "cases.csv").write_text("\n".join(rows))
    of_table = find_pictures(tmp_path / "files", CLASSES)
    for one, other in zip(of_archive, of_table, strict=True):
        assert (one.name, one.of_class, one.split, one.group) == (other.name, other.of_class, other.split, other.group)
        assert np.array_equal(one.volume.array, other.volume.array)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"split": np.array(["train", "val"] * 12)}, "group 0: its pictures are in the splits train and val"),
        ({"class_names": np.array(["benign", "malignant", "cyst"])}, "its class 'cyst' is not in the card"),
        ({"names": np.array(["twice"] * 24)}, "case twice: it is there 24 times"),
        ({"labels": np.zeros(3)}, "as long as the number of images"),
        ({"labels": None}, "no array labels"),
    ],
)
def test_pictures_that_cannot_be_used_are_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadData, match=reason):
        find_pictures(save_archive(tmp_path / "pictures.npz", **changes), CLASSES)


def test_whole_groups_are_held_out_where_the_data_name_no_split(tmp_path: Path) -> None:
    pictures = with_splits(find_pictures(save_archive(tmp_path / "pictures.npz", split=None), CLASSES), 0.25)
    assert Counter(each.split for each in pictures) == {"train": 18, "val": 6}
    held_out = {each.group for each in pictures if each.split == "val"}
    assert held_out.isdisjoint(each.group for each in pictures if each.split == "train")


def test_settings_that_pictures_do_not_know_and_too_few_of_them_are_refused(tmp_path: Path) -> None:
    archive = save_archive(tmp_path / "pictures.npz")
    assert len(chosen_pictures(CaseData(archive, train=5), CLASSES, 0)[0]) == 5
    with pytest.raises(BadData, match=r"data\.train asks for 99"):
        chosen_pictures(CaseData(archive, train=99), CLASSES, 0)
    with pytest.raises(BadConfig, match="know folder, train and validation alone"):
        chosen_pictures(CaseData(archive, native_voxels=True), CLASSES, 0)


@pytest.mark.parametrize(
    ("how", "poses"), [(Augmentation("none"), 1), (Augmentation("left_right"), 2), (Augmentation("all", True), 8)]
)
def test_samples_are_moved_always_and_turned_and_mirrored_as_asked(how: Augmentation, poses: int) -> None:
    augment = PictureAugmenter(how)
    found = {tuple(augment._pose(np.random.default_rng(seed)).round().ravel().tolist()) for seed in range(100)}
    assert len(found) == poses
    image = torch.zeros(1, 16, 16)
    image[0, 8, 8] = 1
    plain = PictureAugmenter(replace(how, intensity=0.0, noise=0.0, mirror="none", quarter_turns=False))
    samples = [plain(PictureExample(image, 2), np.random.default_rng(seed)) for seed in range(20)]
    assert all(sample["label"] == 2 for sample in samples)
    assert len({int(sample["image"].argmax()) for sample in samples}) > 4


# Measuring


@pytest.mark.parametrize("seed", range(5))
def test_the_area_under_the_curve_is_that_of_every_pair_with_and_without_ties(seed: int) -> None:
    random = np.random.default_rng(seed)
    positive = random.random(40) < 0.3
    for scores in (random.random(40), random.integers(0, 4, 40).astype(float)):
        pairs = scores[positive][:, None] - scores[~positive][None]
        brute = float((pairs > 0).mean() + 0.5 * (pairs == 0).mean())
        assert area_under_curve(scores, positive) == pytest.approx(brute, abs=1e-12)
        rank_sum = mannwhitneyu(scores[positive], scores[~positive]).statistic
        assert area_under_curve(scores, positive) == pytest.approx(rank_sum / pairs.size, abs=1e-12)


def test_balanced_accuracy_weighs_classes_alike_and_a_class_without_cases_does_not_count() -> None:
    probabilities = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.7, 0.3, 0], [0.6, 0.4, 0]])
    measured = figures(probabilities, np.array([0, 0, 0, 1]), CLASSES)
    assert measured["accuracy"] == 0.75
    assert measured["balanced_accuracy"] == 0.5
    assert measured["auc.benign"] == measured["auc.mean"] == 1
    assert np.isnan(measured["auc.normal"])


def test_evaluate_knows_the_kind_of_a_bundle(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["training", "evaluate", "--bundle", trained / "bundle", "--data", trained / "pictures.npz"]
    monkeypatch.setattr("sys.argv", [*map(str, command), "--split", "val", "--json", str(tmp_path / "figures.json")])
    main()
    assert {"accuracy", "balanced_accuracy", "auc.malignant", "cases"} <= set(
        json.loads((tmp_path / "figures.json").read_text())
    )
    monkeypatch.setattr("sys.argv", [*map(str, command), "--scales", "0.5,1"])
    with pytest.raises(SystemExit):
        main()
    assert "classification is measured with" in capsys.readouterr().err
    with pytest.raises(BadData, match="no picture of split 'test'; its splits: train, val"):
        evaluate_pictures(trained / "bundle", trained / "pictures.npz", "test")


# Experiments


def test_an_experiment_on_pictures_leaves_records_from_which_tables_and_a_picture_are_drawn(
    trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "base.yaml").write_text(
        f"card: {(trained / 'tiny.card.yaml').as_posix()}\n"
        "network: {name: plain_classifier, arguments: {channels: [2, 3]}}\n"
        "data: {folder: null}\n"
        "fit: {steps: 4, batch: 4, checkpoint_every: 2}\n"
    )
    (tmp_path / "tiny.yaml").write_text(
        "base: base.yaml\nreference: plain\nseeds: [0, 1]\nvariants:\n  - name: plain\n  - name: static\n"
        "    overrides: [network.name=static_classifier]\n"
    )
    experiment: Experiment = read_experiment(tmp_path / "tiny.yaml")
    said: list[str] = []
    places = Places(trained / "pictures.npz", tmp_path / "records", tmp_path / "runs")
    assert carry_out(runs_of(experiment), places, said.append) == []
    record = read_records(tmp_path / "records")[0]
    assert (len(record.cases), record.training_cases) == (8, 16)
    assert f"auc.mean {record.means['auc.mean@1']:.4f}" in said[1]
    assert [row["label"] for row in record.rows] == list(CLASSES)
    assert record.rows[0]["true"] == [name in ("case 4", "case 5") for name in record.cases]

    written = draw_all(tmp_path / "records", tmp_path / "figures")
    assert sorted(path.name for path in written) == ["tiny.csv", "tiny.md", "tiny_nall.png"]
    text = (tmp_path / "figures" / "tiny.md").read_text()
    assert "| static |" in text.partition("Mean AUC less that of plain")[2]


def test_the_card_of_the_task_can_be_used() -> None:
    task = PictureTask.from_card(read_card_text(CONFIGS / "breast_ultrasound.card.yaml"))
    assert task.classes == CLASSES


def test_a_bundle_of_each_family_can_be_exported_and_loaded(tmp_path: Path) -> None:
    for family in FAMILIES:
        config = small_config(tmp_path, family)
        network = CLASSIFIERS[config.network.name](network_arguments(config, read_card_text(config.card)))
        export_bundle(network, config, "test", {}, tmp_path / family)
        answer = classify(picture(), load_classifier(read_bundle(tmp_path / family)), "cpu")
        assert answer.most_probable in CLASSES
