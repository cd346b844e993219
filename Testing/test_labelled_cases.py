"""Labelled cases in every layout: what belongs together, what is for training, and all that is wrong with them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ScaleEquivSegLib.bundles import Channel, Label, read_bundle
from ScaleEquivSegLib.errors import BadCaseList, UnreadableVolume, UnsuitableVolume
from ScaleEquivSegLib.labelmap import segment_header
from ScaleEquivSegLib.shades import Percentiles
from ScaleEquivSegLib.volume import Geometry, Volume, make_geometry, read_volume, write_volume
from training.__main__ import main
from training.cases import TRAIN, VALIDATION, BadData, LabelledCase, find_cases
from training.checks import check_cases
from training.config import CaseData, load_config
from training.evaluate import evaluate, measured_rows
from training.fit import fit
from training.preparation import Task, as_classes, read_labels, unlabelled_classes
from training.reading import read_channels
from training.splits import with_splits

CONFIGS = Path(__file__).parents[1] / "training" / "configs"
NAMES = ("T1", "T1ce", "T2", "FLAIR")
GRID = make_geometry((4, 5, 6), (1.0, 1.0, 2.0), np.eye(3), (10, -20, 30))


def channels(*names: str) -> tuple[Channel, ...]:
    return tuple(Channel(name, "MR", (f"*{name.lower()}*",), Percentiles(1, 99)) for name in names)


def task(labels: int = 2, names: Sequence[str] = ("T1",)) -> Task:
    classes = tuple(Label(n, f"label {n}", (0, 0, 0), {}, f"label {n}") for n in range(1, labels + 1))
    return Task(channels(*names), classes, "RAS", (1.0, 1.0, 1.0))


def write_image(path: Path, value: int = 0, grid: Geometry = GRID) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.arange(np.prod(grid.shape), dtype=np.int16).reshape(grid.shape) + value
    write_volume(Volume(array, grid), path)


def write_labels(path: Path, values: Sequence[int] = (0, 1, 2), grid: Geometry = GRID) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(np.resize(np.array(values, np.uint8), grid.shape), grid), path)


def images_and_labels(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        write_image(folder / "images" / f"{name}.nii.gz")
        write_labels(folder / "labels" / f"{name}.nii.gz")
    return folder


def brats(folder: Path, names: Sequence[str], ending: str = ".nii.gz") -> Path:
    for name in names:
        for number, channel in enumerate(NAMES):
            write_image(folder / name / f"{name}_{channel.lower()}{ending}", value=100 * number)
        write_labels(folder / name / f"{name}_seg{ending}", (0, 1, 2, 4))
    return folder


def decathlon(folder: Path, names: Sequence[str], modalities: Sequence[str], frames: int = 0) -> Path:
    """As the Decathlon has it, with the hidden files that its archives hold."""
    for name in names:
        image = folder / "imagesTr" / f"{name}.nii.gz"
        image.parent.mkdir(parents=True, exist_ok=True)
        write_labels(folder / "labelsTr" / f"{name}.nii.gz")
        if frames:
            write_image(folder / "frame.nii.gz")
            frame = sitk.ReadImage(os.fspath(folder / "frame.nii.gz"))
            sitk.WriteImage(sitk.JoinSeries([frame + 100 * n for n in range(frames)]), os.fspath(image))
        else:
            write_image(image)
        (folder / "imagesTr" / f"._{name}.nii.gz").write_bytes(b"\0")
    pairs = [
        {"image": f"./imagesTr/{p}{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names for p in ("", "._")
    ]
    described = {"modality": {str(n): name for n, name in enumerate(modalities)}, "training": pairs}
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def reasons(cases: Sequence[LabelledCase], data: CaseData, of: Task, *splits: str) -> list[str]:
    """What the check complains of, a line for each."""
    with pytest.raises(BadData) as caught:
        check_cases(cases, data, of, splits)
    return str(caught.value).splitlines()[1:]


# Layouts


def test_images_and_labels_lie_side_by_side_and_a_table_may_say_which_are_for_what(tmp_path: Path) -> None:
    folder = images_and_labels(tmp_path, ["a", "b", "c"])
    cases = find_cases(folder, channels("T1"))
    assert [(case.name, case.split) for case in cases] == [("a", ""), ("b", ""), ("c", "")]
    table(folder / "cases.csv", "case,age,split", "c,50,train", "a,60,test")
    cases = find_cases(folder, channels("T1"))
    assert [(case.name, case.split) for case in cases] == [("c", "train"), ("a", "test")]
    assert cases[0].images == (folder / "images" / "c.nii.gz",)
    assert cases[0].labels == folder / "labels" / "c.nii.gz"
    check_cases(cases, CaseData(folder=folder), task())


def test_several_channels_are_found_by_the_ending_of_their_names(tmp_path: Path) -> None:
    for channel in ("flair", "t1"):
        write_image(tmp_path / "images" / f"a_{channel}.nrrd")
    write_labels(tmp_path / "labels" / "a.nrrd")
    (case,) = find_cases(tmp_path, channels("T1", "FLAIR"))
    assert [path.name for path in case.images] == ["a_t1.nrrd", "a_flair.nrrd"]


@pytest.mark.parametrize(("above", "ending"), [("", ".nii.gz"), ("HGG", ".nii")])
def test_brats_has_a_folder_for_each_case_maybe_one_level_deeper(tmp_path: Path, above: str, ending: str) -> None:
    brats(tmp_path / above, ["BraTS20_001", "BraTS20_002"], ending)
    cases = find_cases(tmp_path, channels(*NAMES))
    assert [case.name for case in cases] == ["BraTS20_001", "BraTS20_002"]
    assert [path.name for path in cases[1].images] == [f"BraTS20_002_{name.lower()}{ending}" for name in NAMES]
    assert cases[1].labels.name == f"BraTS20_002_seg{ending}"
    check_cases(cases, CaseData(folder=tmp_path, background=(0, 4)), task(names=NAMES))


def test_a_case_of_brats_without_labels_is_told_by_name(tmp_path: Path) -> None:
    brats(tmp_path, ["a", "b"])
    (tmp_path / "b" / "b_seg.nii.gz").unlink()
    cases = find_cases(tmp_path, channels(*NAMES))
    (reason,) = reasons(cases, CaseData(folder=tmp_path, background=(0, 4)), task(names=NAMES))
    assert reason == f"  case b: {tmp_path / 'b' / 'b_seg.nii.gz'} does not exist."


def test_the_decathlon_lists_its_cases_and_the_hidden_files_of_its_archives_are_none(tmp_path: Path) -> None:
    decathlon(tmp_path, ["hippocampus_001", "hippocampus_003"], ["MRI"])
    cases = find_cases(tmp_path, channels("T1"))
    assert [case.name for case in cases] == ["hippocampus_001", "hippocampus_003"]
    assert cases[0].labels == tmp_path / "labelsTr" / "hippocampus_001.nii.gz"
    check_cases(cases, CaseData(folder=tmp_path), task())


def test_of_a_4d_file_of_the_decathlon_each_channel_is_the_frame_that_its_name_or_pattern_says(tmp_path: Path) -> None:
    decathlon(tmp_path, ["BRATS_001"], ["FLAIR", "T1w", "t1gd", "T2w"], frames=4)
    wanted = (
        *channels("T1"),
        Channel("T1ce", "MR", ("*t1ce*", "*t1gd*"), Percentiles(1, 99)),
        *channels("T2", "FLAIR"),
    )
    (case,) = find_cases(tmp_path, wanted)
    assert case.frames == (1, 2, 3, 0)
    volumes = read_channels(case)
    assert [int(volume.array.min()) for volume in volumes] == [100, 200, 300, 0]
    assert all(volume.geometry.agrees_with(GRID) for volume in volumes)
    check_cases([case], CaseData(folder=tmp_path), task(names=NAMES))

    with pytest.raises(BadData, match="is PET is not clear: 0 of them fit"):
        find_cases(tmp_path, channels("T1", "PET"))
    (case,) = find_cases(tmp_path, channels("FLAIR"))
    assert case.frames == (0,)
    with pytest.raises(BadData, match="is FLAIR is not clear"):
        find_cases(decathlon(tmp_path / "one", ["a"], ["T1"]), channels("T1", "FLAIR"))


def test_a_4d_file_that_is_cut_short_or_lacks_a_frame_is_refused(tmp_path: Path) -> None:
    decathlon(tmp_path, ["a"], ["T1", "T2"], frames=2)
    (case,) = find_cases(tmp_path, channels("T1", "T2"))
    third = LabelledCase("a", case.images, case.labels, frames=(0, 2))
    (reason,) = reasons([third], CaseData(folder=tmp_path), task(names=("T1", "T2")))
    assert "4 x 5 x 6 x 2 voxels; frame 2 is wanted" in reason
    path = case.images[0]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UnreadableVolume, match="damaged"):
        read_channels(case)
    write_image(path)
    with pytest.raises(UnsuitableVolume, match="no series"):
        read_channels(case)


@pytest.mark.parametrize(
    "text", ["[1]", "{", '{"training": [{"image": 1}], "modality": {}}', '{"modality": {"0": "T1"}}']
)
def test_a_description_that_is_none_of_the_decathlon_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(BadData, match=r"dataset\.json is none"):
        find_cases(tmp_path, channels("T1"))


def test_a_table_of_paths_begins_at_its_own_folder_and_may_have_splits(tmp_path: Path) -> None:
    images_and_labels(tmp_path / "data", ["a", "b"])
    rows = [
        f"{name};data/images/{name}.nii.gz;data/labels/{name}.nii.gz;{s}" for name, s in (("a", TRAIN), ("b", "val"))
    ]
    path = table(tmp_path / "mine.csv", "Case;image;Labels;split", rows[0], ";;;", rows[1])
    cases = find_cases(path, channels("T1"))
    assert [(case.name, case.split) for case in cases] == [("a", TRAIN), ("b", VALIDATION)]
    check_cases(cases, CaseData(folder=path), task(), (TRAIN, VALIDATION))

    with pytest.raises(BadData, match="no column 'labels'"):
        find_cases(table(tmp_path / "none.csv", "case,image", "a,data/images/a.nii.gz"), channels("T1"))
    with pytest.raises(BadData, match="case a: it names no labels"):
        find_cases(table(tmp_path / "empty.csv", "case,image,labels", "a,data/images/a.nii.gz,"), channels("T1"))


def test_a_folder_in_no_known_layout_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"Decathlon.*images/ and labels/.*BraTS.*CSV"):
        find_cases(tmp_path, channels("T1"))
    with pytest.raises(BadData, match="does not exist"):
        find_cases(tmp_path / "nowhere", channels("T1"))
    with pytest.raises(BadData, match=r"cases\.csv cannot be read"):
        find_cases(images_and_labels(tmp_path, ["a"]), channels("T1"), tmp_path / "no" / "cases.csv")
    assert issubclass(BadData, BadCaseList)


# Splits


def test_a_table_of_splits_goes_with_any_layout_and_validation_comes_out_of_training(tmp_path: Path) -> None:
    names = [f"BraTS20_{number:03d}" for number in range(1, 11)]
    brats(tmp_path / "data", names)
    splits = table(
        tmp_path / "splits.csv", "case,split", *(f"{n},{'train' if n < names[8] else 'test'}" for n in names)
    )
    cases = with_splits(find_cases(tmp_path / "data", channels(*NAMES), splits), 0.25)
    assert [case.split for case in cases[8:]] == ["test", "test"]
    assert [case.name[-1] for case in cases if case.split == VALIDATION] == ["1", "3", "8"]
    assert sum(case.split == TRAIN for case in cases) == 5


def test_a_split_for_validation_that_the_data_name_is_left_as_it_is() -> None:
    cases = [LabelledCase(name, (), Path(), split) for name, split in (("a", TRAIN), ("b", VALIDATION), ("c", "test"))]
    assert with_splits(cases, 0.5) == cases


# Checks


def test_everything_wrong_with_a_data_set_is_told_at_once(tmp_path: Path) -> None:
    names = ["grid", "values", "shared", "same", "no_image", "no_labels", "damaged", "unsplit", "fine"]
    folder = images_and_labels(tmp_path, names)
    write_labels(
        folder / "labels" / "grid.nii.gz", grid=make_geometry((4, 5, 6), (1, 1, 2), np.eye(3), (10, -20, 30.01))
    )
    write_labels(folder / "labels" / "values.nii.gz", (0, 1, 2, 3, 7))
    for kind in ("images", "labels"):
        (folder / kind / "shared.nii.gz").unlink()
        (folder / kind / "shared.nii.gz").symlink_to(folder / kind / "fine.nii.gz")
    (folder / "images" / "no_image.nii.gz").unlink()
    (folder / "labels" / "no_labels.nii.gz").unlink()
    (folder / "labels" / "damaged.nii.gz").write_bytes(b"none")
    rows = [f"{name},{'' if name == 'unsplit' else TRAIN}" for name in names]
    table(folder / "cases.csv", "case,split", *rows, "same,val", "same,train")
    cases = find_cases(folder, channels("T1"))
    found = reasons(cases, CaseData(folder=folder, train=20), task(), TRAIN, VALIDATION, "test")
    expected = [
        "case same: it is there 3 times, in the splits train and val.",
        "cases fine, shared: they share the file",
        "cases fine, shared: they share the file",
        "it has no case for 'test'; cases by split: 9 train, 1 val.",
        "case unsplit: it has no split, and others have.",
        "data.train asks for 20 cases, and there are 9 to train on.",
        "case grid: The two lie on different grids:",
        f"case values: {folder / 'labels' / 'values.nii.gz'} has the values 3, 7, which mean neither",
        "case no_image: there are no images of this name.",
        "case no_labels:",
        f"case damaged: {folder / 'labels' / 'damaged.nii.gz'}",
    ]
    assert len(found) == len(expected)
    for line, beginning in zip(found, expected, strict=True):
        assert line.strip().startswith(beginning)


def test_labels_may_lie_as_far_off_as_rounding_puts_them_and_no_farther(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nrrd")
    case = LabelledCase("a", (tmp_path / "a.nrrd",), tmp_path / "labels.nrrd")
    write_labels(case.labels, grid=make_geometry((4, 5, 6), (1, 1, 2), np.eye(3), (10, -20, 30.0009)))
    check_cases([case], CaseData(), task())
    write_labels(case.labels, grid=make_geometry((4, 5, 6), (1, 1, 2), np.eye(3), (10, -20, 30.0011)))
    with pytest.raises(BadData, match="different grids"):
        check_cases([case], CaseData(), task())


def test_cases_of_splits_that_a_run_does_not_use_are_not_read(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nrrd")
    write_labels(tmp_path / "labels.nrrd")
    used = LabelledCase("a", (tmp_path / "a.nrrd",), tmp_path / "labels.nrrd", TRAIN)
    unused = LabelledCase("b", (tmp_path / "b.nrrd",), tmp_path / "no.nrrd", "test")
    check_cases([used, unused], CaseData(), task(), (TRAIN,))


def test_values_must_have_one_meaning_each_and_each_label_a_value(tmp_path: Path) -> None:
    data = CaseData(classes=((1, 4), (4,), (0,)))
    first, second, third = reasons([], data, task())
    assert "3 entries and the card 2 labels" in first
    assert "the value 4 2 times" in second
    assert "the value 0 2 times" in third


def test_what_is_missing_is_told_of_all_folders_and_of_images_and_labels_at_once(tmp_path: Path) -> None:
    for grade in ("HGG", "LGG"):
        brats(tmp_path / grade, [f"{grade}_{n}" for n in range(2)])
        (tmp_path / grade / f"{grade}_0" / f"{grade}_0_t2.nii.gz").unlink()
        (tmp_path / grade / f"{grade}_1" / f"{grade}_1_seg.nii.gz").unlink()
    with pytest.raises(BadData) as told:
        find_cases(tmp_path, channels(*NAMES))
    assert str(told.value).splitlines()[1:] == [
        "  case HGG_0: no image for T2.",
        "  case LGG_0: no image for T2.",
        *(
            f"  case {grade}_1: {tmp_path / grade / f'{grade}_1' / f'{grade}_1_seg.nii.gz'} does not exist."
            for grade in ("HGG", "LGG")
        ),
    ]


def test_what_one_case_lacks_is_told_together_with_what_is_wrong_with_the_files_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = brats(tmp_path / "data", ["a", "b", "c"])
    labels = {name: folder / name / f"{name}_seg.nii.gz" for name in ("a", "b", "c")}
    (folder / "a" / "a_t2.nii.gz").unlink()
    write_labels(labels["a"], (0, 8))
    write_labels(labels["b"], (0, 7))
    labels["c"].unlink()
    monkeypatch.chdir(tmp_path)
    settings = [f"data.folder={folder}", "data.splits=null", "data.validation=0"]
    command = ["training", "fit", str(CONFIGS / "brats_unet.yaml"), *settings, "--bundle", "bundle"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().err.partition("cannot be used as labelled cases:\n")[2].splitlines()
    assert [line.split(" has the value")[0].strip() for line in told] == [
        "case a: no image for T2.",
        f"case a: {labels['a']}",
        f"case b: {labels['b']}",
        f"case c: {labels['c']} does not exist.",
    ]


def test_the_labels_of_a_table_are_told_together_with_its_images(tmp_path: Path) -> None:
    images_and_labels(tmp_path, ["a"])
    image, labels = "images/a.nii.gz", "labels/a.nii.gz"
    rows = [f"gone,images/b.nii.gz,{labels}", f"empty,{image},", f"lost,{image},labels/b.nii.gz"]
    with pytest.raises(BadData) as told:
        find_cases(table(tmp_path / "mine.csv", "case,image,labels", *rows), channels("T1"))
    assert str(told.value).splitlines()[1:] == [
        "  case empty: it names no labels.",
        f"  case gone: {tmp_path / 'images' / 'b.nii.gz'} does not exist.",
        f"  case lost: {tmp_path / 'labels' / 'b.nii.gz'} does not exist.",
    ]


def test_what_is_wrong_with_a_table_of_paths_is_told_once(tmp_path: Path) -> None:
    images_and_labels(tmp_path, ["a", "b", "c"])
    image, labels = "images/{}.nii.gz", "labels/{}.nii.gz"
    rows = [
        ",".join([name, image.format(t1), t2 and image.format(t2), labels.format(of)])
        for name, t1, t2, of in (("gone", "a", "x", "a"), ("same", "b", "b", "b"), ("none", "c", "", "c"))
    ]
    rows += [",".join(["twice", image.format("d"), image.format("e"), labels.format("d")])] * 2
    for name in ("d", "e"):
        write_image(tmp_path / "images" / f"{name}.nii.gz", value=ord(name))
    write_labels(tmp_path / "labels" / "d.nii.gz")
    path, problems = table(tmp_path / "mine.csv", "case,T1,T2,labels", *rows, ",,,,beyond the heading"), list[str]()
    cases = find_cases(path, channels("T1", "T2"), None, problems)
    with pytest.raises(BadData) as told:
        check_cases(cases, CaseData(folder=path), task(names=("T1", "T2")), known=problems)
    found = [line.strip().replace(str(tmp_path), "") for line in str(told.value).splitlines()[1:]]
    assert len(found) == 4
    for line, beginning in zip(
        found,
        [
            "line 4: no image for T2.",
            "case twice: it is there 2 times.",
            "case gone: /images/x.nii.gz",
            "case same: T1 and T2 are the same image",
        ],
        strict=True,
    ):
        assert line.startswith(beginning)


def test_labels_without_an_image_are_told_of_unless_a_table_leaves_them_out(tmp_path: Path) -> None:
    folder = images_and_labels(tmp_path / "data", ["a", "b"])
    write_labels(folder / "labels" / "lost.seg.nrrd")
    (folder / "labels" / "._a.nii.gz").write_bytes(b"")
    of_brats = brats(tmp_path / "brats", ["a", "b", "lost"])
    for path in (of_brats / "lost").glob("*_[!s]*"):
        path.unlink()
    for data, names, background in ((folder, ["T1"], (0,)), (of_brats, NAMES, (0, 4))):
        cases = find_cases(data, channels(*names))
        (reason,) = reasons(cases, CaseData(folder=data, background=background), task(names=names))
        assert reason == "  case lost: there are no images of this name."
        table(data / "cases.csv", "case", "a", "b")
        assert [case.name for case in find_cases(data, channels(*names))] == ["a", "b"]


def test_every_file_of_a_case_is_looked_at_whatever_is_wrong_with_the_others(tmp_path: Path) -> None:
    images_and_labels(tmp_path, ["a"])
    cut_short = [tmp_path / "images" / f"{n}.nrrd" for n in range(2)]
    for path in cut_short:
        write_image(path)
        path.write_bytes(path.read_bytes()[:-40])
    images = (*cut_short, tmp_path / "gone.nrrd", tmp_path / "images" / "a.nii.gz")
    write_labels(tmp_path / "labels" / "a.nii.gz", (0, 1, 2, 4))
    case = LabelledCase("a", images, tmp_path / "labels" / "a.nii.gz")
    found = reasons([case], CaseData(), task(names=NAMES))
    for line, path in zip(found, (*cut_short, images[2], case.labels), strict=True):
        assert line.startswith(f"  case a: {path} ")


def test_images_that_the_engine_would_refuse_are_refused_before_they_are_trained_on(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=GRID.shape).astype(np.float32)
    away = make_geometry((4, 5, 6), (1, 1, 2), np.eye(3), (500, 0, 0))
    flat = make_geometry((20, 20, 20), (1, 1, 1), np.eye(3), (0, 0, 0))
    broken = np.where(array == array.max(), np.nan, array)
    files = {
        "sound": Volume(array, GRID),
        "nan": Volume(broken, GRID),
        "away": Volume(array + 1, away),
        "drawn": Volume(np.arange(8000, dtype=np.uint8).reshape(flat.shape) % 3, flat),
    }
    for name, volume in files.items():
        write_volume(volume, tmp_path / f"{name}.nrrd")
    write_labels(tmp_path / "labels.nrrd")
    pairs = [("nan", "sound"), ("sound", "nan"), ("sound", "away"), ("sound", "sound"), ("sound", "drawn")]
    listed = [
        LabelledCase(f"{a}-{b}", (tmp_path / f"{a}.nrrd", tmp_path / f"{b}.nrrd"), tmp_path / "labels.nrrd")
        for a, b in pairs
    ]
    for case, told in zip(
        listed,
        [
            "case nan-sound: T1 has 1 of 120 voxels that are NaN",
            "case sound-nan: T2 has 1 of 120 voxels that are NaN",
            "case sound-away: T2 and T1 have no place in common",
            "case sound-sound: T1 and T2 are the same image",
            "case sound-drawn: T2 looks like a label map",
        ],
        strict=True,
    ):
        (reason,) = reasons([case], CaseData(), task(names=("T1", "T2")))
        assert told in reason


def test_channels_on_two_grids_cannot_be_shown_voxel_by_voxel(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nrrd")
    write_image(tmp_path / "b.nrrd", grid=make_geometry((4, 5, 7), (1, 1, 2), np.eye(3), (10, -20, 30)))
    write_labels(tmp_path / "labels.nrrd")
    case = LabelledCase("a", (tmp_path / "a.nrrd", tmp_path / "b.nrrd"), tmp_path / "labels.nrrd")
    check_cases([case], CaseData(), task(names=("T1", "T2")))
    (reason,) = reasons([case], CaseData(native_voxels=True), task(names=("T1", "T2")))
    assert "case a: Images and labels can be shown voxel by voxel only if they lie on one grid" in reason


# What values mean


def segmentation(path: Path, names: Mapping[int, str]) -> LabelledCase:
    """Labels that have names, as Slicer writes them, on an image."""
    write_image(path.with_name("image.nrrd"))
    labels = [Label(value, name, (0, 0, 0), {}) for value, name in names.items()]
    written = Volume(np.resize(np.array([0, *names], np.uint8), GRID.shape), GRID)
    write_volume(written, path, segment_header(labels, GRID))
    return LabelledCase("a", (path.with_name("image.nrrd"),), path)


def test_labels_with_names_are_what_their_names_say_whatever_their_values(tmp_path: Path) -> None:
    case = segmentation(tmp_path / "labels.seg.nrrd", {1: "Label 2", 7: "label 1 "})
    check_cases([case], CaseData(), task())
    written = read_volume(case.labels).array
    wanted = np.select([written == 1, written == 7], [2, 1])
    assert np.array_equal(read_labels(case, CaseData(), task()).array, wanted)
    # What the data say of values is said of values without names, or with names that are not those of classes.
    meant = CaseData(classes=((1,), (7,)), background=(0, 4))
    assert np.array_equal(read_labels(case, meant, task()).array, wanted)
    parts = segmentation(tmp_path / "parts.seg.nrrd", {1: "label 2", 7: "Oedema"})
    assert np.array_equal(read_labels(parts, meant, task()).array, np.select([written == 1, written == 7], [1, 2]))


def test_a_name_that_the_card_does_not_know_is_told_unless_it_is_said_to_mean_nothing(tmp_path: Path) -> None:
    case = segmentation(tmp_path / "labels.seg.nrrd", {1: "label 1", 3: "Skull"})
    (reason,) = reasons([case], CaseData(), task())
    assert "has the values 3 (Skull), which mean neither a class nor background" in reason
    assert "or name them label 1, label 2" in reason
    check_cases([case], CaseData(background=(0, 3)), task())
    assert set(np.unique(read_labels(case, CaseData(background=(0, 3)), task()).array)) == {0, 1}
    named = segmentation(tmp_path / "other.seg.nrrd", {1: "label 1", 3: "label 2"})
    assert set(np.unique(read_labels(named, CaseData(background=(0, 3)), task()).array)) == {0, 1, 2}


@pytest.mark.parametrize(
    ("region", "values", "others"),
    [("whole tumour", (1, 2, 4), (0,)), ("tumour core", (1, 4), (0, 2)), ("enhancing", (4,), (0, 1, 2))],
)
def test_the_overlapping_regions_of_brats_are_made_of_its_values(
    tmp_path: Path, region: str, values: tuple[int, ...], others: tuple[int, ...]
) -> None:
    written = np.array([0, 1, 2, 4, 0, 4], np.uint8).reshape(1, 2, 3)
    labels = Volume(written, make_geometry((3, 2, 1), (1, 1, 1), np.eye(3), (0, 0, 0)))
    data = CaseData(classes=(values,), background=others)
    assert as_classes(labels, data, task(1), {}).array.tolist() == np.isin(written, values).astype(int).tolist()
    write_image(tmp_path / "a.nrrd")
    write_labels(tmp_path / "labels.nrrd", (0, 1, 2, 4))
    check_cases([LabelledCase("a", (tmp_path / "a.nrrd",), tmp_path / "labels.nrrd")], data, task(1))


def test_a_class_that_a_case_has_nothing_of_was_not_looked_for_if_the_data_say_so() -> None:
    labels = Volume(np.array([[[0, 2]]], np.uint8), make_geometry((2, 1, 1), (1, 1, 1), np.eye(3), (0, 0, 0)))
    assert unlabelled_classes(labels, CaseData(absent_is_unlabelled=True), task(3)) == (1, 3)
    assert unlabelled_classes(labels, CaseData(), task(3)) == ()


# Real data, where there are some


@pytest.mark.skipif("SCALEEQUIVSEG_DATA" not in os.environ, reason="SCALEEQUIVSEG_DATA does not name a folder of data")
@pytest.mark.parametrize(
    ("name", "labels", "names", "cases"),
    [("hippocampus", 2, ("T1",), 208), ("headneck_ct", 7, ("CT",), 63), ("ms_lesion", 1, NAMES, 3)],
)
def test_real_data_sets_pass_the_checks(name: str, labels: int, names: Sequence[str], cases: int) -> None:
    folder = Path(os.environ["SCALEEQUIVSEG_DATA"]) / name
    found = find_cases(folder, channels(*names))
    assert len(found) == cases
    check_cases(found, CaseData(folder=folder), task(labels, names))


# Training


def test_a_run_trains_on_cases_on_disk_and_its_bundle_knows_what_their_values_mean(tmp_path: Path) -> None:
    grid = make_geometry((12, 12, 12), (1.0, 1.0, 1.0), np.eye(3), (0, 0, 0))
    for name in ("a", "b", "c"):
        for number, channel in enumerate(NAMES):
            write_image(tmp_path / name / f"{name}_{channel.lower()}.nii.gz", number, grid)
        write_labels(tmp_path / name / f"{name}_seg.nii.gz", (0, 1, 2, 4), grid)
    settings = [f"data.folder={tmp_path}", "data.splits=null", "data.validation=0.34", "fit.steps=2"]
    settings += ["fit.crop=[8, 8, 8]", "network.arguments={channels: [2, 2]}", "network.name=unet"]
    config = load_config(CONFIGS / "brats_se_unet.yaml", [*settings, "fit.batch=1", "fit.checkpoint_every=2"])
    fit(config, "test", tmp_path / "run", tmp_path / "bundle")
    assert evaluate(tmp_path / "bundle", tmp_path)["cases"] == 3
    held_out = read_bundle(tmp_path / "bundle").card["training"]["data"]["held_out"]
    assert [row.case for row in measured_rows(tmp_path / "bundle", tmp_path, "val")] == held_out != []

    write_labels(tmp_path / "b" / "b_seg.nii.gz", (0, 9), grid)
    with pytest.raises(BadData, match=r"case b: .* has the values 9"):
        fit(config, "test", tmp_path / "other run", tmp_path / "other bundle")
    assert not (tmp_path / "other bundle").exists()
    write_labels(tmp_path / "b" / "b_seg.nii.gz", (0, 4), grid)
    fit(config, "test", tmp_path / "other run", tmp_path / "other bundle")
    assert (tmp_path / "other bundle" / "card.json").exists()
