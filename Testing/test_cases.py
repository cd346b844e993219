"""Lists of cases: what a folder or a table of images amounts to, and every mistake in them told at once."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dicom_series import write_series
from ScaleEquivSegLib.bundles import CARD, WEIGHTS, Channel, bundled_models
from ScaleEquivSegLib.card import SEAL, seal_of
from ScaleEquivSegLib.cases import read_cases
from ScaleEquivSegLib.cli import main
from ScaleEquivSegLib.errors import BadCaseList
from ScaleEquivSegLib.networks import build_network
from ScaleEquivSegLib.phantom import CHANNELS
from ScaleEquivSegLib.shades import Percentiles
from ScaleEquivSegLib.volume import read_volume


def channels(*names: str) -> list[Channel]:
    """Channels whose patterns are as broad as those of cards: *t1* is part of t1ce too."""
    return [Channel(name, "MR", (f"*{name.lower()}*",), Percentiles(1, 99)) for name in names]


ONE, FOUR = channels("T1"), channels(*CHANNELS)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def named(source: Path, wanted: list[Channel]) -> dict[str, list[str]]:
    """The cases of a list with the paths of their images."""
    top = source if source.is_dir() else source.parent
    found = read_cases(source, wanted).cases
    return {case.name: [image.relative_to(top).as_posix() for image in case.images] for case in found}


def complaints(source: Path, wanted: list[Channel]) -> list[str]:
    with pytest.raises(BadCaseList) as refused:
        read_cases(source, wanted)
    heading, *lines = str(refused.value).split("\n  ")
    assert heading == f"{source} cannot be used as a list of cases:"
    return lines


# Folders


def test_each_image_in_a_folder_is_a_case_and_nothing_else_is(tmp_path: Path) -> None:
    touch(tmp_path, "b.nii.gz", "a.NRRD", "c.x.mha", ".hidden.nrrd", "notes.txt", "a.seg.nrrd", "sub/notes.txt")
    found = read_cases(tmp_path, ONE)
    assert named(tmp_path, ONE) == {"a": ["a.NRRD"], "b": ["b.nii.gz"], "c.x": ["c.x.mha"]}
    assert found.ignored == ("a.seg.nrrd", "notes.txt", "sub")


def test_four_channels_are_matched_by_their_endings_in_any_case(tmp_path: Path) -> None:
    files = [f"{case}_{channel}.nrrd" for case in ("p_1", "p_2") for channel in ("t1", "T1CE", "t2", "Flair")]
    touch(tmp_path, *files, "p_1_seg.nrrd")
    assert named(tmp_path, FOUR) == {"p_1": files[:4], "p_2": files[4:]}
    assert read_cases(tmp_path, FOUR).ignored == ("p_1_seg.nrrd",)


def test_four_channels_in_a_folder_per_case_are_matched_by_ending_or_pattern(tmp_path: Path) -> None:
    touch(tmp_path, *(f"BraTS_1/BraTS_1_{c}.nii.gz" for c in ("flair", "seg", "t1", "t1ce", "t2")))
    touch(tmp_path, *(f"two/{c}-image.nii" for c in ("flair", "t1", "t1ce", "t2")), "two/T9.nii")
    touch(tmp_path, *(f"three/{c}.nrrd" for c in CHANNELS), "nothing/readme.nrrd")
    assert named(tmp_path, FOUR) == {
        "BraTS_1": [f"BraTS_1/BraTS_1_{c}.nii.gz" for c in ("t1", "t1ce", "t2", "flair")],
        "three": [f"three/{c}.nrrd" for c in CHANNELS],
        "two": [f"two/{c}-image.nii" for c in ("t1", "t1ce", "t2", "flair")],
    }
    assert read_cases(tmp_path, FOUR).ignored == ("nothing",)


def test_a_channel_whose_name_ends_as_another_is_told_from_it(tmp_path: Path) -> None:
    touch(tmp_path, "a_T1.nrrd", "a_post_T1.nrrd")
    assert named(tmp_path, channels("T1", "post_T1")) == {"a": ["a_T1.nrrd", "a_post_T1.nrrd"]}


def test_a_name_that_is_no_text_is_told_and_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    try:
        (tmp_path / "images" / "scan\udcff.nrrd").write_text("")
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes no such name")
    arguments = ["--cases", str(tmp_path / "images"), "-o", str(tmp_path / "results"), "--bundle", "phantom-unet"]
    assert main(["segment", *arguments]) == 11
    assert "invisible characters" in capsys.readouterr().err


def test_one_channel_is_found_in_a_folder_per_case_too(tmp_path: Path) -> None:
    touch(tmp_path, "one/scan_t1.nrrd", "one/scan_t2.nrrd")
    assert named(tmp_path, ONE) == {"one": ["one/scan_t1.nrrd"]}


def test_mistakes_in_a_folder_are_told_at_once(tmp_path: Path) -> None:
    touch(tmp_path, *(f"a_{c}.nrrd" for c in ("t1", "t2")))  # two are missing
    touch(tmp_path, *(f"b_{c}.nrrd" for c in CHANNELS), "b_t1.nii")  # one is there twice
    touch(tmp_path, *(f"c/x_{c}.nrrd" for c in CHANNELS), "c/y_t1.nrrd")
    touch(tmp_path, *(f"B_{c}.nrrd" for c in CHANNELS))
    assert complaints(tmp_path, FOUR) == [
        "case a: no image for T1ce.",
        "case a: no image for FLAIR.",
        "case b: several images for T1: b_T1.nrrd, b_t1.nii.",
        "case c: several images for T1: x_T1.nrrd, y_t1.nrrd.",
        "cases B, b: names must differ in more than upper and lower case.",
    ]


def test_two_files_of_one_name_are_no_two_cases(tmp_path: Path) -> None:
    touch(tmp_path, "a.nrrd", "a.nii.gz")
    assert complaints(tmp_path, ONE) == ["case a: several images for T1: a.nii.gz, a.nrrd."]


def test_a_folder_without_a_case_says_what_there_is_instead(tmp_path: Path) -> None:
    (told,) = complaints(tmp_path, ONE)
    assert told.endswith("it is empty.")
    touch(tmp_path, *(f"{number}.png" for number in range(7)), ".hidden.nrrd")
    (told,) = complaints(tmp_path, ONE)
    assert told.endswith("none of these is: 0.png, 1.png, 2.png, 3.png, 4.png and 2 more.")
    touch(tmp_path, "a.nrrd")
    (told,) = complaints(tmp_path, FOUR)
    assert "<case>_T1" in told


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadCaseList, match="nowhere cannot be read: No such file"):
        read_cases(tmp_path / "nowhere", ONE)


# Tables


def table(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path = folder / "list.csv"
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def test_paths_in_a_table_start_at_its_own_folder(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.nrrd", "b, c.nrrd", *(f"{c}.nrrd" for c in CHANNELS))
    listed = table(tmp_path, "split,Image,CASE", "test,x/a.nrrd,one", ",,", 'test,"b, c.nrrd",two')
    assert named(listed, ONE) == {"one": ["x/a.nrrd"], "two": ["b, c.nrrd"]}
    listed = table(tmp_path, "case,flair,t2,t1ce,t1", "one,FLAIR.nrrd,T2.nrrd,T1ce.nrrd,T1.nrrd")
    assert named(listed, FOUR) == {"one": [f"{c}.nrrd" for c in CHANNELS]}
    listed = table(tmp_path, "case,t1", f"one,{tmp_path / 'x' / 'a.nrrd'}")
    assert named(listed, ONE) == {"one": ["x/a.nrrd"]}


def test_a_table_as_spreadsheets_save_it_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "a.nrrd")
    assert named(table(tmp_path, "case;image", "Müller;a.nrrd", encoding="utf-8-sig"), ONE) == {"Müller": ["a.nrrd"]}


def test_mistakes_in_a_table_are_told_at_once(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{c}.nrrd" for c in CHANNELS))
    files = "T1.nrrd,T1ce.nrrd,T2.nrrd,FLAIR.nrrd"
    lines = [
        f"{name},{files}" for name in ("good", "twice", "twice", "Case", "case", "", "a/b", "nul.x", ".h", "é" * 130)
    ]
    wrong = ["gone,T1.nrrd,T1ce.nrrd,T2.nrrd,nowhere.nrrd", "empty,T1.nrrd,,T2.nrrd", f"long,{files},more"]
    same = "same,T1.nrrd,T1ce.nrrd,T1.nrrd,FLAIR.nrrd"
    found = complaints(table(tmp_path, "case,T1,T1ce,T2,FLAIR", *lines, *wrong, same), FOUR)
    for expected in (
        "line 7: no name of a case.",
        f"line 12: {tmp_path / 'nowhere.nrrd'} does not exist.",
        "line 13: no image for T1ce.",
        "line 13: no image for FLAIR.",
        "line 14: more cells than the heading has; put paths with commas in quotation marks.",
        f"line 15: {tmp_path / 'T1.nrrd'} is given twice.",
        "case twice: is there 2 times.",
        "cases Case, case: names must differ in more than upper and lower case.",
        "case 'nul.x': Windows keeps this name for a device.",
        "case '.h': a name may not begin or end with a dot or a space.",
        f"case '{'é' * 130}': a name may not be longer than 246 bytes.",
    ):
        assert expected in found
        found.remove(expected)
    assert len(found) == 1
    assert found[0].startswith("case 'a/b': a name may not have any of")


def test_columns_that_are_missing_or_there_twice_are_told_at_once(tmp_path: Path) -> None:
    assert complaints(table(tmp_path, "name,T1,t1,FLAIR"), FOUR) == [
        "it has no column 'case'; its columns: name, T1, t1, FLAIR.",
        "it has 2 columns 't1'; its columns: name, T1, t1, FLAIR.",
        "it has no column 't1ce'; its columns: name, T1, t1, FLAIR.",
        "it has no column 't2'; its columns: name, T1, t1, FLAIR.",
    ]
    assert complaints(table(tmp_path, "case,path"), ONE) == [
        "it has no column 'image' or 't1'; its columns: case, path."
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it has no column 'case'; its columns: none."),
        ("case,image\nMüller,a.nrrd\n".encode("latin-1"), "it is no UTF-8 text"),
        (b'case,image\n"a,b\n', "it is no CSV"),
        (b"case,image\n", "there is no case in it"),
        (bytes(range(256)), "it is no UTF-8 text"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "list.csv").write_bytes(content)
    assert complaints(tmp_path / "list.csv", ONE)[0].startswith(told)


# The command


def test_a_bad_list_is_refused_before_anything_is_computed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = table(tmp_path, "case,image", "a,gone.nrrd", "b,lost.nrrd")
    arguments = ["segment", "--cases", str(listed), "-o", str(tmp_path / "results"), "--bundle", "phantom-unet"]
    assert main(arguments) == 11
    message = capsys.readouterr().err
    assert "gone.nrrd" in message
    assert "lost.nrrd" in message
    assert not (tmp_path / "results").exists()


@pytest.fixture(scope="module")
def four_channel_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network of four channels."""
    folder = Path(shutil.copytree(bundled_models() / "phantom-unet", tmp_path_factory.mktemp("models") / "four"))
    card = json.loads((folder / CARD).read_text())
    card["inputs"] = [card["inputs"][0] | {"name": name, "patterns": [f"*{name}*"]} for name in CHANNELS]
    card["network"]["arguments"] |= {"in_channels": 4, "channels": [2, 4]}
    torch.manual_seed(0)
    network = build_network("unet", card["network"]["arguments"])
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)  # so that it finds something of each class
    save_file(network.state_dict(), folder / WEIGHTS)
    card["weights"]["sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    card[SEAL] = seal_of(card)
    (folder / CARD).write_text(json.dumps(card))
    return folder


def test_four_channels_give_the_same_results_from_each_kind_of_list(tmp_path: Path, four_channel_bundle: Path) -> None:
    size = ["--size", "9", "9", "9"]
    assert main(["phantom", str(tmp_path), "--count", "2", "--channels", "4", *size]) == 0
    cases = ["phantom_000000", "phantom_000001"]
    for case in cases:
        for channel in CHANNELS:
            copy = tmp_path / "folders" / case / f"{channel}.nrrd"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tmp_path / "images" / f"{case}_{channel.lower()}.nrrd", copy)
    rows = [[case, *(f"folders/{case}/{channel}.nrrd" for channel in CHANNELS)] for case in cases]
    lists = [tmp_path / "images", tmp_path / "folders", table(tmp_path, *map(",".join, [["case", *CHANNELS], *rows]))]
    for number, listed in enumerate(lists):
        output = ["-o", str(tmp_path / str(number)), "--bundle", str(four_channel_bundle)]
        assert main(["segment", "--cases", str(listed), *output]) == 0
    images = [str(tmp_path / "images" / f"{cases[1]}_{channel.lower()}.nrrd") for channel in CHANNELS]
    alone = tmp_path / "alone.seg.nrrd"
    assert main(["segment", *images, "-o", str(alone), "--bundle", str(four_channel_bundle)]) == 0
    for number in range(len(lists)):
        assert (tmp_path / str(number) / f"{cases[1]}.seg.nrrd").read_bytes() == alone.read_bytes()
    assert len(np.unique(read_volume(alone).array)) > 1


def test_sub_folders_with_a_dicom_series_are_cases(tmp_path: Path) -> None:
    assert main(["phantom", str(tmp_path), "--size", "12", "12", "8", "--spacing", "1", "1", "2"]) == 0
    original = tmp_path / "images" / "phantom_000000.nrrd"
    write_series(read_volume(original), tmp_path / "scans" / "patient")
    (tmp_path / "scans" / "patient" / "README").write_text("not an image")
    bundle = ["--bundle", "phantom-unet"]
    assert main(["segment", "--cases", str(tmp_path / "scans"), "-o", str(tmp_path / "results"), *bundle]) == 0
    alone = tmp_path / "alone.seg.nrrd"
    assert main(["segment", str(original), "-o", str(alone), *bundle]) == 0
    found, wanted = (read_volume(path) for path in (tmp_path / "results" / "patient.seg.nrrd", alone))
    assert np.array_equal(found.array, wanted.array)
    assert found.geometry.agrees_with(wanted.geometry)
