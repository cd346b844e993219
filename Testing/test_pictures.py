"""Classifiers are trained on labelled pictures and measured: data, samples, runs, figures, experiments."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

from ScaleEquivSegLib.bundles import read_bundle
from ScaleEquivSegLib.networks import CLASSIFIERS
from ScaleEquivSegLib.volume import Geometry, Volume, write_volume
from small_pictures import CLASSES, CONFIGS, FAMILIES, answers_in_every_pose, picture, save_archive, small_config
from test_bundles import change_card
from training.__main__ import main
from training.cases import BadData
from training.conduct import Places, carry_out
from training.config import Augmentation, BadConfig, CaseData, load_config
from training.evaluate_pictures import evaluate_pictures, measured_pictures
from training.experiment import Experiment, find_experiment, read_experiment, runs_of
from training.export import network_arguments, read_card_text
from training.figures import draw_all
from training.fit import fit
from training.picture_metrics import area_under_curve, figures
from training.picture_samples import PictureAugmenter, PictureExample, PictureTask, picture_examples
from training.picture_tables import auc_difference
from training.pictures import chosen_pictures, find_pictures
from training.records import read_records
from training.splits import with_splits


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of data, run and bundle of a dynamic classifier."""
    folder = tmp_path_factory.mktemp("pictures")
    data = save_archive(folder / "pictures.npz")
    fit(small_config(folder, "dynamic", f"data.folder={data}"), "test", folder / "run", folder / "bundle")
    return folder


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
    heading, *rows = (trained / "cases.csv").read_text().splitlines()
    assert heading == "case,class,benign,malignant,normal"
    assert [sum(float(cell) for cell in row.split(",")[2:]) for row in rows] == pytest.approx([1] * 8)


def test_no_pose_changes_what_a_trained_bundle_answers(trained: Path) -> None:
    answers = answers_in_every_pose(read_bundle(trained / "bundle"))
    assert np.abs(answers - answers[0]).max() < 1e-5
    assert answers[0].max() < 1 - 1e-3  # not so sure that nothing could change it


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


# Pictures to train on


def test_a_table_of_files_is_read_as_an_archive_is_whatever_the_order_of_classes(tmp_path: Path) -> None:
    changes = {"class_names": np.array(CLASSES[::-1]), "labels": np.repeat([2, 1, 0], 8)}
    of_archive = find_pictures(save_archive(tmp_path / "pictures.npz", **changes), CLASSES)
    assert [each.of_class for each in of_archive] == [name for name in CLASSES for _ in range(8)]
    rows = ["split;case;class;group;file"]
    for number, each in enumerate(of_archive):
        write_volume(each.volume, tmp_path / "table" / f"{number}.nrrd")
        rows.append(f"{each.split};{each.name};{each.of_class};{each.group};{number}.nrrd")
    (tmp_path / "table" / "cases.csv").write_text("\n".join(rows))
    of_table = find_pictures(tmp_path / "table", CLASSES)
    for one, other in zip(of_archive, of_table, strict=True):
        assert (one.name, one.of_class, one.split, one.group) == (other.name, other.of_class, other.split, other.group)
        assert np.array_equal(one.volume.array, other.volume.array)


def test_everything_that_is_wrong_with_the_files_of_a_table_is_told_at_once(tmp_path: Path) -> None:
    good = picture().array.astype(np.float32)
    spoilt = {
        "nan": np.where(good == good.max(), np.nan, good),
        "flat": np.full_like(good, 7),
        "thick": np.concatenate([good, good]),
        "good": good,
    }
    for name, array in spoilt.items():
        write_volume(Volume(array, Geometry(array.shape, np.eye(4))), tmp_path / f"{name}.nrrd")
    rows = [f"{name},{name}.nrrd,benign,{'val' if name == 'good' else 'train'}" for name in spoilt]
    table = tmp_path / "cases.csv"
    table.write_text("\n".join(["case,file,class,split", *rows]))
    config = small_config(tmp_path, "plain", f"data.folder={table}")
    with pytest.raises(BadData) as told:
        picture_examples(config, PictureTask.from_card(read_card_text(config.card)))
    reasons = ("case nan: .*1 of 400 voxels", "case flat: .*same value", "case thick: .*20 x 20 x 2")
    assert re.search(r".*\n  ".join(reasons), str(told.value))
    assert "case good" not in str(told.value)
    rows += ["gone,gone.png,benign,val", "lost,lost.nrrd,benign,val", "cyst,good.nrrd,cyst,val"]
    table.write_text("\n".join(["case,file,class,split", *rows]))
    with pytest.raises(BadData, match=r"case gone: .*gone\.png.*\n.*case lost: .*lost\.nrrd.*\n.*case cyst"):
        find_pictures(table, CLASSES)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"split": np.array(["train", "val"] * 12)}, "group 0: its pictures are in the splits train and val"),
        ({"class_names": np.array(["benign", "malignant", "cyst"])}, "its class 'cyst' is not in the card"),
        ({"names": np.array(["twice"] * 24)}, "case twice: it is there 24 times"),
        ({"labels": np.zeros(3)}, "as long as the number of images"),
        ({"labels": np.zeros((24, 1))}, "as long as the number of images"),
        ({"labels": np.full(24, 3)}, "its class '3' is not in the card"),
        ({"split": np.array(["train"] * 23 + [""])}, "case 23: it has no split, and others have"),
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
    assert Counter(each.split for each in pictures) == {"train": 20, "val": 4}
    held_out = {each.group for each in pictures if each.split == "val"}
    assert held_out.isdisjoint(each.group for each in pictures if each.split == "train")


def test_settings_that_pictures_do_not_know_and_too_few_of_them_are_refused(tmp_path: Path) -> None:
    archive = save_archive(tmp_path / "pictures.npz")
    assert len(chosen_pictures(CaseData(archive, train=5), CLASSES, 0).training) == 5
    with pytest.raises(BadData, match=r"data\.train asks for 99"):
        chosen_pictures(CaseData(archive, train=99), CLASSES, 0)
    with pytest.raises(BadConfig, match="know folder, train and validation alone"):
        chosen_pictures(CaseData(archive, native_voxels=True), CLASSES, 0)


@pytest.mark.parametrize("ignored", ["fit.crop=[32,32,32]", "fit.scale_window=2", "augmentation.beyond=0.5"])
def test_settings_that_would_change_nothing_of_pictures_are_refused(tmp_path: Path, ignored: str) -> None:
    of_volumes = load_config(CONFIGS / "breast_ultrasound_plain.yaml", [f"data.folder={tmp_path}", ignored])
    with pytest.raises(BadConfig, match=re.escape(ignored.partition("=")[0])):
        fit(of_volumes, "test", tmp_path / "run", tmp_path / "bundle")


@pytest.mark.parametrize(
    ("how", "poses"), [(Augmentation("none"), 1), (Augmentation("left_right"), 2), (Augmentation("all", True), 8)]
)
def test_samples_are_moved_always_and_turned_and_mirrored_as_asked(how: Augmentation, poses: int) -> None:
    augment = PictureAugmenter(how)
    found = {tuple(augment._pose(np.random.default_rng(seed)).round().ravel().tolist()) for seed in range(100)}
    assert len(found) == poses
    if poses == 1:
        some = PictureAugmenter(replace(how, rotation=20, rotated=0.5))
        turned = [some._pose(np.random.default_rng(seed))[0, 1] != 0 for seed in range(200)]
        assert 70 < sum(turned) < 130
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
    with pytest.raises(BadData, match="no case of split 'test'; its splits: train, val"):
        evaluate_pictures(trained / "bundle", trained / "pictures.npz", "test")


def test_pictures_of_one_class_have_an_accuracy_and_no_area(recwarn: pytest.WarningsRecorder) -> None:
    measured = figures(np.array([[0.9, 0.1, 0], [0.2, 0.8, 0]]), np.array([0, 0]), CLASSES)
    assert measured["accuracy"] == measured["balanced_accuracy"] == 0.5
    assert np.isnan([measured["auc.mean"], *(measured[f"auc.{name}"] for name in CLASSES)]).all()
    assert not recwarn


def test_evaluation_takes_the_pictures_that_training_held_out(trained: Path, tmp_path: Path) -> None:
    other_splits = save_archive(tmp_path / "pictures.npz", split=np.full(24, "test"))
    chosen = chosen_pictures(CaseData(trained / "pictures.npz"), CLASSES, 0)
    for split, wanted in (("val", chosen.validation), ("train", chosen.training)):
        measured = measured_pictures(trained / "bundle", other_splits, split)
        assert [answer.case for answer in measured] == [each.name for each in wanted]
    with pytest.raises(BadData, match="of split 'test' the network was trained on case 0, case 1,"):
        measured_pictures(trained / "bundle", other_splits, "test")
    assert len(measured_pictures(trained / "bundle", other_splits)) == 24


def test_a_bundle_whose_card_names_no_pictures_is_measured_on_what_training_would_hold_out(
    trained: Path, tmp_path: Path
) -> None:
    nameless, older = save_archive(tmp_path / "pictures.npz", split=None), tmp_path / "older"
    shutil.copytree(trained / "bundle", older)
    change_card(older, lambda card: [card["training"]["data"].pop(key) for key in ("held_out", "trained_on")])
    measured = measured_pictures(older, nameless, "val")
    chosen = chosen_pictures(CaseData(nameless), CLASSES, 0)
    assert [answer.case for answer in measured] == [each.name for each in chosen.validation]


def test_a_rare_class_is_in_every_draw_of_pictures() -> None:
    random = np.random.default_rng(0)
    true = np.arange(12) == 3

    def record(variant: str, probability: np.ndarray) -> Any:
        rows = [
            {"label": "rare", "probability": probability.tolist(), "true": true.tolist()},
            {"label": "other", "probability": (1 - probability).tolist(), "true": (~true).tolist()},
        ]
        return SimpleNamespace(variant=variant, seed=0, cases=[str(n) for n in range(12)], rows=rows)

    sure = record("sure", true * 0.8 + 0.1 * random.random(12))
    guessed = record("guessed", random.random(12))
    difference = auc_difference([sure], [guessed])
    assert difference is not None
    guess = area_under_curve(np.array(guessed.rows[0]["probability"]), true)
    assert difference.mean == pytest.approx(1 - guess)
    assert difference.low <= difference.mean <= difference.high


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
    text = (tmp_path / "figures" / "tiny.md").read_text(encoding="utf-8")
    assert "| static |" in text.partition("Mean AUC less that of plain")[2]
