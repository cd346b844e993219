"""The command line: what it writes, what it refuses, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ScaleEquivSegLib.cli import main
from ScaleEquivSegLib.volume import read_volume


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    assert main(["phantom", str(folder), "--count", "2", "--seed", "5", "--size", "32", "32", "24"]) == 0
    return folder


def segment(folder: Path, output: Path, *more: str) -> int:
    image = str(folder / "images" / "phantom_000005.nrrd")
    return main(["segment", image, "-o", str(output), "--bundle", "phantom-unet", "--device", "cpu", *more])


def test_phantoms_are_written_as_a_folder_of_cases(folder: Path) -> None:
    assert (folder / "cases.csv").read_text().split() == ["case,split", "phantom_000005,test", "phantom_000006,test"]
    image, labels = (read_volume(folder / kind / "phantom_000006.nrrd") for kind in ("images", "labels"))
    assert image.geometry.agrees_with(labels.geometry)
    assert image.array.shape == (24, 32, 32)


def test_four_channels_are_four_files(tmp_path: Path) -> None:
    assert main(["phantom", str(tmp_path), "--size", "9", "9", "9", "--channels", "4"]) == 0
    names = sorted(p.name for p in (tmp_path / "images").iterdir())
    assert names == [f"phantom_000000_{c}.nrrd" for c in ("flair", "t1", "t1ce", "t2")]


def test_a_volume_is_segmented_and_reported(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert segment(folder, tmp_path / "out.seg.nrrd", "--json", str(tmp_path / "out.json")) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert {"bundle", "sha256", "seconds", "ml.Head", "ml.Body"} <= set(report)
    labels = read_volume(tmp_path / "out.seg.nrrd")
    assert report["ml.Head"] == pytest.approx(float((labels.array == 1).sum()) / 1000)
    captured = capsys.readouterr()
    assert "Head" in captured.out
    assert captured.err == ""  # no progress bar where there is no terminal


def test_nothing_is_overwritten_unless_asked(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.seg.nrrd"
    output.write_text("mine")
    assert segment(folder, output) == 7
    assert output.read_text() == "mine"
    assert segment(folder, output, "--overwrite") == 0
    assert np.array_equal(np.unique(read_volume(output).array)[:1], [0])
    assert main(["phantom", str(folder)]) == 7


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["segment", "missing.nrrd", "-o", "o.nrrd", "--bundle", "phantom-unet"], 3, "missing.nrrd does not exist"),
        (["segment", "missing.nrrd", "-o", "o.nrrd", "--bundle", "no-such"], 5, "phantom-se_unet"),
        (["segment", "missing.nrrd", "-o", "o.mhd", "--bundle", "phantom-unet"], 8, "must end in one of .nrrd"),
        (["segment", "missing.nrrd", "-o", "o", "--bundle", "phantom-unet"], 8, "must end in one of .nrrd"),
    ],
)
def test_each_cause_has_its_exit_code_and_message(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_there_has_its_exit_code(folder: Path, tmp_path: Path) -> None:
    assert segment(folder, tmp_path / "o.nrrd", "--device", "cuda:99") == 6


def test_models_are_listed_with_those_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "card.json").write_text("{")
    assert main(["models", "list", str(tmp_path), "--json", str(tmp_path / "list.json")]) == 0
    captured = capsys.readouterr()
    assert "phantom-se_unet" in captured.out
    assert "broken" in captured.err
    report = json.loads((tmp_path / "list.json").read_text())
    assert {b["name"] for b in report["bundles"]} >= {"phantom-se_unet", "phantom-unet"}
    assert len(report["refused"]) == 1


@pytest.mark.parametrize("arguments", [["--help"], ["segment", "--help"], ["models", "list", "--help"], ["--version"]])
def test_help_is_there_for_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_of:
        main(arguments)
    assert exit_of.value.code == 0
    assert len(capsys.readouterr().out) > 10


@pytest.mark.parametrize(
    "arguments",
    [
        ["segment"],
        ["phantom", "x", "--count", "0"],
        ["phantom", "x", "--seed", "-1"],
        ["phantom", "x", "--scale", "nan"],
    ],
)
def test_a_wrong_option_is_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_of:
        main(arguments)
    assert exit_of.value.code == 2


def test_a_report_that_cannot_be_written_has_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(["models", "list", "--json", str(tmp_path / "file" / "list.json")]) == 8
