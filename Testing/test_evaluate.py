"""Bundles are measured on labelled cases of any layout; what nobody looked for in a case does not count."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from ScaleEquivSegLib.bundles import read_bundle
from ScaleEquivSegLib.cli import main as command_line
from ScaleEquivSegLib.errors import BadCaseList, BadRequest, OutOfMemory, OutputExists
from ScaleEquivSegLib.labelmap import segment_header
from ScaleEquivSegLib.networks import build_network
from ScaleEquivSegLib.segmentation import Settings
from ScaleEquivSegLib.volume import Volume, make_geometry, read_volume, write_volume
from test_bundles import change_card
from training import evaluate as evaluating
from training import robustness
from training.__main__ import main
from training.cases import BadData
from training.commands.console import this_command
from training.config import CaseData, load_config
from training.data import examples
from training.evaluate import Row, evaluate, measured_rows, summary
from training.export import export_bundle
from training.preparation import Task
from training.records import session
from training.shelf import Shelf

CONFIGS = Path(__file__).parents[1] / "training" / "configs"
CASES = ["phantom_000000", "phantom_000001"]
CONTRASTS = ("t1", "t1ce", "t2", "flair")


def bundle(
    folder: Path,
    config_name: str = "phantom_unet",
    data: CaseData | None = None,
    held_out: Sequence[str] = (),
    trained_on: Sequence[str] = (),
) -> Path:
    """A bundle of a small network that has not been trained."""
    config = load_config(CONFIGS / f"{config_name}.yaml", ["network.arguments={channels: [2, 2]}"])
    channels = 4 if "4" in config_name else 1
    network = build_network("unet", {"in_channels": channels, "classes": 3, "channels": [2, 2]})
    config = replace(config, data=data) if data else config
    export_bundle(network, config, "test", {}, folder, held_out, trained_on=trained_on)
    return folder


def write_case(folder: Path, name: str, labels: Sequence[int], grid: Any = None) -> None:
    """A case whose image is a hundred times its labels."""
    grid = grid or make_geometry((6, 8, 10), (1, 1, 1), np.eye(3), (0, 0, 0))
    array = np.resize(np.repeat(np.array(labels, np.int16), 48), grid.shape)
    for kind, values in (("images", 100 * array), ("labels", array)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        write_volume(Volume(values, grid), folder / kind / f"{name}.nrrd")


@pytest.fixture
def sharp_eyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network finds a class in every voxel that is at least a hundred times its value, whatever its weights."""

    def segment(channels: Sequence[Volume], model: object, settings: object) -> SimpleNamespace:
        found = np.clip(np.rint(channels[0].array / 100), 0, 2).astype(np.uint8)
        return SimpleNamespace(labels=Volume(found, channels[0].geometry))

    monkeypatch.setattr(evaluating, "segment", segment)


@pytest.fixture
def soon_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a volume costs is measured of a small one, and in this process."""
    monkeypatch.setattr("training.benchmarks.volumes.SMALL", (12, 12, 12))
    monkeypatch.setattr("training.benchmarks.memory.in_own_process", lambda work, *arguments: work(*arguments))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
    main()


def test_the_same_cases_in_every_layout_give_the_same_figures(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert command_line(["phantom", str(data), "--count", "2", "--channels", "4", "--size", "20", "20", "20"]) == 0
    for name in CASES:
        folder = tmp_path / "brats" / name
        folder.mkdir(parents=True)
        for contrast in CONTRASTS:
            write_volume(read_volume(data / "images" / f"{name}_{contrast}.nrrd"), folder / f"{name}_{contrast}.nii.gz")
        write_volume(read_volume(data / "labels" / f"{name}.nrrd"), folder / f"{name}_seg.nii.gz")
    decathlon = tmp_path / "decathlon"
    (decathlon / "imagesTr").mkdir(parents=True)
    for name in CASES:
        frames = [sitk.ReadImage(os.fspath(data / "images" / f"{name}_{c}.nrrd")) for c in reversed(CONTRASTS)]
        sitk.WriteImage(sitk.JoinSeries(frames), os.fspath(decathlon / "imagesTr" / f"{name}.nii.gz"))
    pairs = [{"image": f"imagesTr/{n}.nii.gz", "label": f"../brats/{n}/{n}_seg.nii.gz"} for n in CASES]
    described = {"modality": dict(enumerate(["FLAIR", "T2w", "t1gd", "T1w"])), "training": pairs}
    (decathlon / "dataset.json").write_text(json.dumps(described))
    heading = ",".join(["case", *CONTRASTS, "labels"])
    rows = [",".join([n, *(f"data/images/{n}_{c}.nrrd" for c in CONTRASTS), f"data/labels/{n}.nrrd"]) for n in CASES]
    (tmp_path / "mine.csv").write_text("\n".join([heading, *rows]))

    small = bundle(tmp_path / "bundle", "phantom4_unet")
    patterns = (["*t1*"], ["*t1ce*", "*t1gd*"], ["*t2*"], ["*flair*"])
    change_card(
        small, lambda card: [each.update(patterns=of) for each, of in zip(card["inputs"], patterns, strict=True)]
    )
    figures = [evaluate(small, path) for path in (data, tmp_path / "brats", decathlon, tmp_path / "mine.csv")]
    assert figures[0]["cases"] == 2
    assert {"dice.mean@1", "dice.Head@1", "dice.Body@1", "hd95.mean@1", "hd95.Head@1"} <= set(figures[0])
    assert figures[1:] == 3 * figures[:1]


def test_a_label_that_was_not_contoured_in_a_case_counts_in_no_mean(tmp_path: Path, sharp_eyed: None) -> None:
    write_case(tmp_path / "data", "both", [0, 1, 2])
    write_case(tmp_path / "data", "head", [0, 1, 1])
    # In the third the head is found nowhere.
    write_case(tmp_path / "data", "missed", [0, 0, 1])
    blank = read_volume(tmp_path / "data" / "images" / "missed.nrrd")
    write_volume(Volume(np.zeros_like(blank.array), blank.geometry), tmp_path / "data" / "images" / "missed.nrrd")
    small, table = bundle(tmp_path / "bundle"), tmp_path / "cases.csv"

    everything = evaluate(small, tmp_path / "data")
    assert everything["dice.Head@1"] == pytest.approx(2 / 3)
    assert everything["dice.Body@1"] == 1  # where nothing is wanted and nothing found, both agree
    assert everything["hd95.Body@1"] == 0
    contoured = evaluate(small, tmp_path / "data", settings={"absent_is_unlabelled": True}, table=table)
    assert contoured["dice.Head@1"] == pytest.approx(2 / 3)
    assert contoured["dice.mean@1"] == pytest.approx((2 / 3 + 1) / 2)
    assert contoured["dice.worst_case@1"] == 0

    with table.open(newline="") as stream:
        rows = {(row["case"], row["label"]): row for row in csv.DictReader(stream)}
    assert len(rows) == 6
    assert rows["both", "Body"] == {"case": "both", "scale": "1.0", "label": "Body", "dice": "1.0", "hd95": "0.0"}
    assert rows["head", "Body"]["dice"] == rows["head", "Body"]["hd95"] == ""
    # The distance of what was missed is the diagonal of the volume.
    assert float(rows["missed", "Head"]["hd95"]) == pytest.approx(math.sqrt(6**2 + 8**2 + 10**2))


def test_a_label_that_was_contoured_in_no_case_has_no_figure() -> None:
    rows = [Row("a", 1.0, "Head", 0.5, 2.0), Row("a", 1.0, "Body", math.nan, math.nan)]
    assert summary(rows) == {
        "dice.mean@1": 0.5,
        "dice.worst_case@1": 0.5,
        "dice.Head@1": 0.5,
        "hd95.mean@1": 2.0,
        "hd95.Head@1": 2.0,
    }
    assert summary(rows[1:]) == {}


def test_a_label_of_which_a_scale_leaves_nothing_is_not_counted_as_found(tmp_path: Path, sharp_eyed: None) -> None:
    write_case(tmp_path / "data", "a", [0, 0, 1, 1])
    labels = tmp_path / "data" / "labels" / "a.nrrd"
    written = read_volume(labels)
    with_a_speck = written.array.copy()
    with_a_speck[0, 0, 0] = 2
    write_volume(Volume(with_a_speck, written.geometry), labels)
    small = bundle(tmp_path / "bundle")
    figures = evaluate(small, tmp_path / "data", scales=(1.0, 0.5))
    assert figures["dice.Body@1"] == 0  # not in the image, so missed
    assert "dice.Body@0.5" not in figures
    assert figures["dice.mean@0.5"] == figures["dice.Head@0.5"] == figures["dice.worst_case@0.5"]
    assert "dice.mean@0.1" not in evaluate(small, tmp_path / "data", scales=(0.1,))


def test_what_label_values_mean_is_taken_from_the_card_unless_something_else_is_said(
    tmp_path: Path, sharp_eyed: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_case(tmp_path / "data", "a", [0, 1, 2])
    labels = tmp_path / "data" / "labels" / "a.nrrd"
    written = read_volume(labels)
    write_volume(Volume(np.array([7, 4, 9], np.uint8)[written.array], written.geometry), labels)
    plain = bundle(tmp_path / "plain")
    trained = bundle(
        tmp_path / "trained",
        data=CaseData(Path("x"), classes=((4, 5), (9,)), background=(7,), absent_is_unlabelled=True),
    )
    with pytest.raises(BadData, match="has the values 4, 7, 9"):
        evaluate(plain, tmp_path / "data")
    assert evaluate(trained, tmp_path / "data")["dice.mean@1"] == 1
    arguments = ["evaluate", "--bundle", plain, "--data", tmp_path / "data"]
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, *arguments)
    assert end.value.code == BadCaseList.exit_code
    assert "cannot be used as labelled cases" in capsys.readouterr().err
    json_file = tmp_path / "figures.json"
    run(monkeypatch, *arguments, "--classes", "4,5", "9", "--background", "7", "--json", json_file)
    assert json.loads(json_file.read_text())["dice.mean@1"] == 1
    swapped = evaluate(trained, tmp_path / "data", settings={"classes": ((9,), (4,))})
    assert swapped["dice.mean@1"] == 0

    # The card says that an absent label was not looked for; the command line may say that it was.
    write_volume(Volume(np.where(written.array == 1, 4, 7).astype(np.uint8), written.geometry), labels)
    trained_as_before = ["evaluate", "--bundle", trained, "--data", tmp_path / "data", "--json", json_file]
    run(monkeypatch, *trained_as_before, "--overwrite")
    assert "dice.Body@1" not in json.loads(json_file.read_text())
    run(monkeypatch, *trained_as_before, "--overwrite", "--no-absent-is-unlabelled")
    assert json.loads(json_file.read_text())["dice.Body@1"] == 0


def test_of_several_splits_one_is_measured_and_one_that_is_not_there_is_refused(
    tmp_path: Path, sharp_eyed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        write_case(tmp_path / "data", name, [0, 1, 2])
    small, json_file = bundle(tmp_path / "bundle"), tmp_path / "figures.json"
    with pytest.raises(BadData, match="no case of split 'test'; its splits: train"):
        evaluate(small, tmp_path / "data", "test")
    assert evaluate(small, tmp_path / "data")["cases"] == 3
    splits = tmp_path / "splits.csv"
    splits.write_text("case,split\na,test\nb,test\nc,train\n")
    arguments = ["evaluate", "--bundle", small, "--data", tmp_path / "data", "--split", "test", "--splits", splits]
    run(monkeypatch, *arguments, "--json", json_file)
    assert json.loads(json_file.read_text())["cases"] == 2


def test_where_data_name_no_split_what_training_held_out_is_measured(tmp_path: Path, sharp_eyed: None) -> None:
    for number in range(8):
        write_case(tmp_path / "data", f"case{number}", [0, 1, 2])
    data = CaseData(folder=tmp_path / "data", validation=0.25)
    trained = bundle(tmp_path / "bundle", data=data)
    labels = Task.from_card(read_bundle(trained).card)
    config = replace(load_config(CONFIGS / "phantom_unet.yaml"), data=data)
    _, held_out, _ = examples(config, labels, Shelf(tmp_path / "shelf"))
    measured = {row.case for row in measured_rows(trained, tmp_path / "data", "val")}
    assert measured == {example.name for example in held_out}
    assert measured == {"case1", "case2", "case5"}


def test_what_the_card_says_was_held_out_is_measured_whatever_the_data_say(tmp_path: Path, sharp_eyed: None) -> None:
    names = [f"case{number}" for number in range(8)]
    for name in names:
        write_case(tmp_path / "data", name, [0, 1, 2])
    trained = bundle(tmp_path / "bundle", data=CaseData(tmp_path / "data"), held_out=["case3", "case6"])

    def measured(split: str, **settings: Path) -> set[str]:
        return {row.case for row in measured_rows(trained, tmp_path / "data", split, settings=settings)}

    assert measured("val") == {"case3", "case6"}
    assert measured("train") == {*names} - {"case3", "case6"}
    table = tmp_path / "data" / "cases.csv"
    table.write_text("\n".join(["case,split", *(f"{name},{'val' if name < 'case4' else 'test'}" for name in names)]))
    assert measured("val") == {"case3", "case6"}
    assert measured("test") == {"case4", "case5", "case7"}
    assert measured("val", splits=table) == {*names[:4]}
    table.write_text("case,split\ncase3,val\n")
    with pytest.raises(BadData, match="held out cases that are not there: case6"):
        measured("val")


@pytest.mark.usefixtures("soon_noted")
def test_what_the_card_says_was_trained_on_is_measured_as_no_other_split(
    tmp_path: Path, sharp_eyed: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(24):
        write_case(tmp_path / "data", f"{number:03d}", [0, 1, 2])
    data = CaseData(tmp_path / "data", validation=0.15, test=0.15)
    config = replace(load_config(CONFIGS / "phantom_unet.yaml"), data=data)
    task = Task.from_card(read_bundle(bundle(tmp_path / "any")).card)
    *_, cases = examples(config, task, Shelf(tmp_path / "shelf"))
    held_out, trained_on = ([case.name for case in of] for of in (cases.validation, cases.training))
    trained = bundle(tmp_path / "bundle", "phantom_unet", data, held_out, trained_on)
    measured = {row.case for row in measured_rows(trained, tmp_path / "data", "test")}
    assert measured == {case.name for case in cases.unused} == {"020", "021", "022", "023"}
    for kind in ("images", "labels"):
        for number in range(16, 24):
            (tmp_path / "data" / kind / f"{number:03d}.nrrd").unlink()
    assert {"014", "015"} < {*trained_on}
    for command in (["evaluate", "--note"], ["robustness"]):
        with pytest.raises(SystemExit) as end:
            run(monkeypatch, *command, "--bundle", trained, "--data", tmp_path / "data", "--split", "test")
        assert end.value.code == BadCaseList.exit_code
        assert "of split 'test' the network was trained on 014, 015" in capsys.readouterr().err
    measured = {row.case for row in measured_rows(trained, tmp_path / "data", "train")}
    assert measured == {name for name in trained_on if name < "016"}

    # Whatever the folder is called, and whatever a table says.
    table = tmp_path / "mine.csv"
    table.write_text("case,split\n000,test\n001,test\n")
    with pytest.raises(BadData, match="trained on"):
        measured_rows(trained, tmp_path / "data", "test", settings={"splits": table})
    (tmp_path / "data").rename(tmp_path / "other name")
    with pytest.raises(SystemExit):
        run(monkeypatch, "evaluate", "--note", "--bundle", trained, "--data", tmp_path / "other name")
    assert "trained on cases of other name" in capsys.readouterr().err
    write_case(tmp_path / "data", "020", [0, 1, 2])
    run(monkeypatch, "evaluate", "--note", "--bundle", trained, "--data", tmp_path / "data")
    assert read_bundle(trained).card["metrics"]["cases"] == 1


def test_a_bundle_trained_with_a_table_of_splits_is_measured_on_a_split_of_that_table_alone(
    tmp_path: Path, sharp_eyed: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"case{number}" for number in range(8)]
    for name in names:
        write_case(tmp_path / "data", name, [0, 1, 2])
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(["case,split", *(f"{name},{'test' if name > 'case5' else 'train'}" for name in names)]))
    trained = bundle(tmp_path / "bundle", data=CaseData(tmp_path / "data", splits=table, validation=0.25))
    for command in ("evaluate", "robustness"):
        with pytest.raises(SystemExit) as end:
            run(monkeypatch, command, "--bundle", trained, "--data", tmp_path / "data", "--split", "val")
        assert end.value.code == BadRequest.exit_code
        assert "trained with the table of splits mine.csv: only with --splits" in capsys.readouterr().err
    measured = measured_rows(trained, tmp_path / "data", "val", settings={"splits": table})
    assert {row.case for row in measured} == {"case1", "case2", "case5"}
    assert {row.case for row in measured_rows(trained, tmp_path / "data")} == set(names)

    json_file = tmp_path / "figures.json"
    arguments = ["--data", tmp_path / "data", "--split", "test", "--splits", table, "--json", json_file]
    run(monkeypatch, "robustness", "--bundle", trained, *arguments)
    assert json.loads(json_file.read_text())["cases"] == 2


def test_a_bundle_trained_on_native_voxels_is_measured_on_them_unless_it_is_said_not_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_case(tmp_path / "data", "a", [0, 1, 2], make_geometry((6, 8, 10), (2, 3, 1), np.eye(3), (0, 0, 0)))
    trained = bundle(tmp_path / "bundle", data=CaseData(Path("x"), native_voxels=True))
    spacings = []

    def segment(channels: Sequence[Volume], model: object, *settings: object) -> SimpleNamespace:
        spacings.append(channels[0].geometry.spacing.tolist())
        return SimpleNamespace(labels=channels[0])

    monkeypatch.setattr(evaluating, "segment", segment)
    monkeypatch.setattr(robustness, "segment", segment)
    measured_rows(trained, tmp_path / "data")
    measured_rows(trained, tmp_path / "data", settings={"native_voxels": False})
    measured_rows(bundle(tmp_path / "plain", data=CaseData(Path("x"))), tmp_path / "data")
    robustness.robustness(trained, tmp_path / "data")
    assert spacings[:3] == [[1, 1, 1], [2, 3, 1], [2, 3, 1]]
    assert spacings[3:] == [[1, 1, 1]] * len(robustness.CHANGES)


@pytest.mark.usefixtures("soon_noted")
def test_figures_are_noted_only_of_cases_that_were_not_trained_on_and_of_a_bundle_as_it_is_run(
    tmp_path: Path, sharp_eyed: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("data", "unseen"):
        for number in range(8):
            write_case(tmp_path / folder, f"case{number}", [0, 1, 2])
    native = bundle(tmp_path / "native", data=CaseData(Path("x"), native_voxels=True))
    trained = bundle(tmp_path / "bundle", data=CaseData(tmp_path / "data", validation=0.25))
    known = bundle(tmp_path / "known", data=CaseData(tmp_path / "data"), held_out=["case3", "case6"])
    (tmp_path / "other name").symlink_to(tmp_path / "data")
    trained_on = "trained on cases of data: say which"
    for of, data, split, reason in (
        (trained, "data/labels/..", [], trained_on),
        (trained, "data", ["--split", "train"], trained_on),
        (known, "other name", [], trained_on.replace("data", "other name")),
        (known, "other name", ["--split", "train"], trained_on.replace("data", "other name")),
        (native, "data", [], "with --no-native-voxels"),
    ):
        with pytest.raises(SystemExit):
            run(monkeypatch, "evaluate", "--bundle", of, "--data", tmp_path / data, *split, "--note")
        assert reason in capsys.readouterr().err
        assert read_bundle(of).card["metrics"] == {}
    table = tmp_path / "held out.csv"
    table.write_text("case,split\ncase3,val\ncase6,val\n")
    run(monkeypatch, "evaluate", "--bundle", known, "--data", tmp_path / "data", "--splits", table, "--note")
    assert read_bundle(known).card["metrics"]["cases"] == 2
    run(monkeypatch, "evaluate", "--bundle", native, "--data", tmp_path / "data", "--note", "--no-native-voxels")
    run(monkeypatch, "evaluate", "--bundle", trained, "--data", tmp_path / "data", "--split", "val", "--note")
    assert read_bundle(trained).card["metrics"]["cases"] == 3
    run(monkeypatch, "evaluate", "--bundle", trained, f"--data={tmp_path / 'unseen'}", "--note")
    card = read_bundle(trained).card
    assert card["metrics"]["cases"] == 8
    assert card["metrics_command"] == "python -m training evaluate --bundle bundle --data=unseen --note"
    here = session()
    assert card["metrics_sources"] == {"revision": here.revision, "changed": here.changed}


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("data.folder=/scans/patients/hippocampus", "data.folder=hippocampus"),
        ("--run=../../runs/mine", "--run=mine"),
        ("/scans/a=b/list.csv", "list.csv"),
        ("training/configs/phantom_unet.yaml", "training/configs/phantom_unet.yaml"),
        ("fit.crop=[32, 32, 32]", "'fit.crop=[32, 32, 32]'"),
    ],
)
def test_a_command_is_written_down_with_the_names_alone_of_what_lies_elsewhere(
    typed: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["training", "fit", typed])
    assert this_command() == f"python -m training fit {written}"


def test_what_was_measured_before_a_case_that_fails_is_kept_and_the_case_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        write_case(tmp_path / "data", name, [0, 1, 2])
    small, table, done = bundle(tmp_path / "bundle"), tmp_path / "cases.csv", []

    def segment(channels: Sequence[Volume], model: object, settings: Settings) -> SimpleNamespace:
        assert settings.device == "cpu"
        if len(done) == 1:
            raise OutOfMemory("There is not enough memory.")
        done.append(channels)
        return SimpleNamespace(labels=channels[0])

    monkeypatch.setattr(evaluating, "segment", segment)
    with pytest.raises(OutOfMemory, match=r"case b: There is not enough memory\."):
        evaluate(small, tmp_path / "data", table=table, device="cpu")
    assert not table.exists()
    kept = tmp_path / "cases.unfinished.csv"
    assert [row.split(",")[0] for row in kept.read_text().splitlines()] == ["case", "a", "a"]
    command = ["evaluate", "--bundle", small, "--data", tmp_path / "data", "--cases", table, "--device", "cpu"]
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, *command)
    assert end.value.code == OutputExists.exit_code
    done.append(())
    run(monkeypatch, *command, "--overwrite")
    assert [row.split(",")[0] for row in table.read_text().splitlines()] == ["case", *"aabbcc"]
    assert not kept.exists()


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["evaluate", "--bundle", "bundle", "--data", "data"], "--json"),
        (["evaluate", "--bundle", "bundle", "--data", "data"], "--cases"),
        (["robustness", "--bundle", "bundle", "--data", "data"], "--json"),
        (["equivariance", "--network", "unet"], "--json"),
        (["equivariance", "--network", "unet"], "--figure"),
        (["benchmark"], "--json"),
        (["benchmark", "--engine"], "--json"),
    ],
)
def test_an_output_that_is_there_is_refused_before_anything_is_measured(
    command: Sequence[str], option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for measure in (
        "evaluate.measured_cases",
        "robustness.chosen_cases",
        "equivariance_report.report_untrained",
        "benchmarks.benchmark",
        "benchmarks.volumes.engine",
    ):
        monkeypatch.setattr(f"training.{measure}", None)
    monkeypatch.chdir(tmp_path)
    bundle(tmp_path / "bundle")
    there = tmp_path / "there"
    there.write_text("mine")
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, *command, option, there)
    assert end.value.code == OutputExists.exit_code
    assert there.read_text() == "mine"


@pytest.mark.usefixtures("soon_noted")
def test_figures_are_written_into_a_new_folder_and_noted_before_they_are_shown(
    tmp_path: Path, sharp_eyed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_case(tmp_path / "data", "a", [0, 1, 2])
    small, json_file = bundle(tmp_path / "bundle"), tmp_path / "new" / "figures.json"

    def nobody_reads(*line: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("training.commands.console.print", nobody_reads, raising=False)
    with pytest.raises(BrokenPipeError):
        run(monkeypatch, "evaluate", "--bundle", small, "--data", tmp_path / "data", "--json", json_file, "--note")
    assert json.loads(json_file.read_text())["cases"] == 1
    assert read_bundle(small).card["metrics"]["cases"] == 1


def test_all_cases_are_looked_at_before_any_is_measured(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_case(tmp_path / "data", name, [0, 1, 2])
    for name in ("b", "c"):
        path = tmp_path / "data" / "images" / f"{name}.nrrd"
        path.write_bytes(path.read_bytes()[:-10])
    small, table = bundle(tmp_path / "bundle"), tmp_path / "cases.csv"
    with pytest.raises(BadData, match=r"(?s)case b: .*b\.nrrd.*case c: .*c\.nrrd"):
        evaluate(small, tmp_path / "data", table=table)
    assert not list(tmp_path.glob("*.csv"))


def test_labels_are_measured_by_their_names_where_they_have_some(tmp_path: Path, sharp_eyed: None) -> None:
    write_case(tmp_path / "data", "a", [0, 1, 2])
    labels = tmp_path / "data" / "labels" / "a.nrrd"
    written, small = read_volume(labels), bundle(tmp_path / "bundle")
    swapped = [replace(label, value=3 - label.value) for label in read_bundle(small).labels]
    other = Volume(np.array([0, 2, 1], np.uint8)[written.array], written.geometry)
    write_volume(other, labels.with_suffix(".seg.nrrd"), segment_header(swapped, other.geometry))
    labels.unlink()
    assert evaluate(small, tmp_path / "data")["dice.mean@1"] == 1


def test_channels_on_other_grids_are_magnified_about_the_centre_of_the_first(tmp_path: Path) -> None:
    first = make_geometry((8, 8, 8), (1, 1, 1), np.eye(3), (0, 0, 0))
    second = make_geometry((8, 8, 8), (1, 1, 1), np.eye(3), (2, 0, 0))
    ramps = [Volume(grid.to_ras(np.stack(np.mgrid[:8, :8, :8][::-1], -1))[..., 0], grid) for grid in (first, second)]
    seen = evaluating._magnified(ramps, 2.0)
    assert seen[1].geometry.agrees_with(seen[0].geometry)
    # Where both have been scanned, both show the same place.
    np.testing.assert_allclose(seen[1].array[:, :, 8:14], seen[0].array[:, :, 8:14], atol=1e-5)
    unscaled = evaluating._magnified(ramps, 1.0)
    assert unscaled[1] is ramps[1]


def test_labels_a_rounding_error_off_their_image_can_be_measured_at_any_scale(tmp_path: Path, sharp_eyed: None) -> None:
    write_case(tmp_path / "data", "a", [0, 1, 2])
    labels = tmp_path / "data" / "labels" / "a.nrrd"
    written = read_volume(labels)
    stretched = make_geometry((6, 8, 10), (1, 1, 1.0002), np.eye(3), (0, 0, 0))
    write_volume(Volume(written.array, stretched), labels)
    assert evaluate(bundle(tmp_path / "bundle"), tmp_path / "data", scales=(1.0, 2.0))["dice.mean@1"] == 1


@pytest.mark.skipif("SCALEEQUIVSEG_DATA" not in os.environ, reason="SCALEEQUIVSEG_DATA does not name a folder of data")
def test_a_real_case_of_four_channels_is_measured(tmp_path: Path) -> None:
    folder = Path(os.environ["SCALEEQUIVSEG_DATA"]) / "ms_lesion"
    splits = tmp_path / "splits.csv"
    splits.write_text("case,split\nms07,test\n")
    settings = {"splits": splits, "absent_is_unlabelled": True}
    small = bundle(tmp_path / "bundle", "phantom4_unet")
    assert read_bundle(small).task == "phantom-4ch"
    rows = measured_rows(small, folder, "test", settings=settings)
    assert [(row.case, row.label, math.isnan(row.dice)) for row in rows] == [
        ("ms07", "Head", False),
        ("ms07", "Body", True),
    ]
