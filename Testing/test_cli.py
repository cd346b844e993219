"""The command line: what it writes, what it refuses, and with which exit code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from cli_user import segment, two_phantoms
from ScaleEquivSegLib import errors as errors_module
from ScaleEquivSegLib import segmentation
from ScaleEquivSegLib.bundles import bundled_models
from ScaleEquivSegLib.cli import main
from ScaleEquivSegLib.cli.computing import PRECISIONS
from ScaleEquivSegLib.cli.console import EXIT_CODES
from ScaleEquivSegLib.cli.segment import DESCRIPTION
from ScaleEquivSegLib.errors import UnsuitableVolume, UnwritableOutput
from ScaleEquivSegLib.volume import read_volume, write_volume

LIBRARY = Path(__file__).resolve().parents[1] / "ScaleEquivSeg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_phantoms(tmp_path_factory.mktemp("phantoms"))


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


def test_a_folder_in_the_place_of_an_output_is_noticed_before_anything_is_computed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out.nii.gz").mkdir()
    monkeypatch.setattr(segmentation, "segment", None)  # calling it would be an error
    assert segment(folder, tmp_path / "out.nii.gz", "--overwrite") == 7
    assert [path.name for path in tmp_path.iterdir()] == ["out.nii.gz"]


@pytest.mark.parametrize("option", ["-o", "--json"])
def test_an_output_that_cannot_be_written_is_noticed_before_anything_is_computed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(segmentation, "segment", None)  # calling it would be an error
    labels = tmp_path / ("file/new/out.nrrd" if option == "-o" else "out.nrrd")
    more = () if option == "-o" else ("--json", str(tmp_path / "file" / "report.json"))
    assert segment(folder, labels, *more) == UnwritableOutput.exit_code
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_name_too_long_for_a_file_is_an_error_of_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment(folder, tmp_path / ("x" * 300 + ".nrrd")) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert main(["segment", "y" * 300, "-o", str(tmp_path / "o.nrrd"), "--bundle", "phantom-unet"]) in (1, 3)


def test_memory_that_runs_out_anywhere_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(segmentation, "segment", fail)
    assert segment(folder, tmp_path / "o.nrrd") == 9
    assert "not enough memory" in capsys.readouterr().err


def test_the_text_beside_a_result_is_no_more_overwritten_than_the_result(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out.provenance.json").write_text("mine")
    assert segment(folder, tmp_path / "out.nii.gz") == 7
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("command", ["segment", "compare", "scale-sweep"])
def test_a_report_that_exists_is_replaced_only_when_asked(folder: Path, tmp_path: Path, command: str) -> None:
    report = tmp_path / "report.json"
    report.write_text("mine")
    image, labels = (str(folder / kind / "phantom_000005.nrrd") for kind in ("images", "labels"))
    arguments = {
        "segment": [image, "-o", str(tmp_path / "out.nrrd"), "--bundle", "phantom-unet"],
        "compare": [labels, labels],
        "scale-sweep": [image, "--bundle", "phantom-unet", "--scales", "1"],
    }[command]
    assert main([command, *arguments, "--json", str(report)]) == 7
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    assert main([command, *arguments, "--json", str(report), "--overwrite"]) == 0
    assert json.loads(report.read_text())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["segment", "missing.nrrd", "-o", "o.nrrd", "--bundle", "phantom-unet"], 3, "missing.nrrd does not exist"),
        (["segment", "missing.nrrd", "-o", "o.nrrd", "--bundle", "no-such"], 5, "phantom-se_unet"),
        (["segment", "missing.nrrd", "-o", "o.mhd", "--bundle", "phantom-unet"], 8, "must end in one of .seg.nrrd"),
        (["segment", "missing.nrrd", "-o", "o", "--bundle", "phantom-unet"], 8, "must end in one of .seg.nrrd"),
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
    of_phantoms = [bundle for bundle in report["bundles"] if bundle["name"] in ("phantom-se_unet", "phantom-unet")]
    lines = captured.out.splitlines()
    for bundle in of_phantoms:
        (line,) = [line for line in lines if bundle["name"] in line.split()]
        assert "T1 (MR)" in line
        assert "Head, Body" in line
        assert bundle["sha256"][:12] in line
    assert len(report["refused"]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["segment", "--help"],
        ["compare", "--help"],
        ["scale-sweep", "--help"],
        ["models", "list", "--help"],
        ["models", "check", "--help"],
        ["--version"],
    ],
)
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
        ["compare", "a.nrrd"],
        ["compare", "a.nrrd", "b.nrrd", "--tolerance", "0"],
        ["scale-sweep", "a.nrrd"],
        ["scale-sweep", "a.nrrd", "--bundle", "x", "--scales", ""],
        ["scale-sweep", "a.nrrd", "--bundle", "x", "--scales", "1,-2"],
        ["scale-sweep", "a.nrrd", "--bundle", "x", "--scales", "0.05"],
        ["scale-sweep", "a.nrrd", "--bundle", "x", "--scales", "1,1e6"],
        ["segment", "a.nrrd", "-o", "o.nrrd", "--bundle", "x", "--precision", "int8"],
        ["segment", "a.nrrd", "-o", "o.nrrd", "--bundle", "x", "--slab", "0"],
        ["models", "check"],
        ["segment", "-o", "o.nrrd", "--bundle", "x"],
        ["segment", "a.nrrd", "--cases", "images", "-o", "results", "--bundle", "x"],
    ],
)
def test_a_wrong_option_is_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_of:
        main(arguments)
    assert exit_of.value.code == 2


def test_every_exit_code_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    explained = {int(code) for code in re.findall(r"(?:^|\s)(\d+) [a-z]", EXIT_CODES)}
    errors = [kind for kind in vars(errors_module).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert {kind.exit_code for kind in errors} | {0, 2, 141} == explained
    assert len({kind.exit_code for kind in errors}) == len(errors)
    for command in ("segment", "compare", "scale-sweep", "phantom"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert EXIT_CODES in capsys.readouterr().out


def test_the_help_of_segment_has_an_example_of_each_form_that_works(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder / "images", tmp_path / "images")
    shutil.copy(folder / "images" / "phantom_000005.nrrd", tmp_path / "brain.nrrd")
    (tmp_path / "cases.csv").write_text("case,image\na,brain.nrrd\n")
    monkeypatch.chdir(tmp_path)
    examples = [line.split() for line in DESCRIPTION.splitlines() if line.startswith("  segment ")]
    assert [("--cases" in example, len(example)) for example in examples] == [
        (False, 6),
        (False, 9),
        (True, 7),
        (True, 7),
    ]
    for number, example in enumerate(examples):
        arguments = [
            word.replace("brain.nii.gz", "brain.nrrd").replace("results", f"results{number}") for word in example
        ]
        assert main(arguments) == (5 if "FOLDER" in example else 0)


def in_a_process(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The real command, its output in pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "ScaleEquivSegLib", *arguments],
        env={**os.environ, "PYTHONPATH": str(LIBRARY), **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_reader_that_has_seen_enough_keeps_no_file_from_being_written(folder: Path, tmp_path: Path) -> None:
    labels = str(folder / "labels" / "phantom_000005.nrrd")
    outputs = ["-o", str(tmp_path / "map.nrrd"), "--json", str(tmp_path / "figures.json")]
    process = in_a_process("compare", labels, labels, *outputs)
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == ""
    assert process.wait() == 0
    assert json.loads((tmp_path / "figures.json").read_text())
    assert (tmp_path / "map.nrrd").exists()


def test_a_command_that_its_reader_cuts_short_has_its_exit_code() -> None:
    process = in_a_process("models", "check", str(bundled_models() / "phantom-unet"))
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == ""
    assert process.wait() == 141


def test_a_cohort_goes_on_when_nobody_reads_any_longer(folder: Path, tmp_path: Path) -> None:
    lists = ["--cases", str(folder / "images"), "-o", str(tmp_path / "results")]
    process = in_a_process("segment", *lists, "--bundle", "phantom-unet")
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == ""
    assert process.wait() == 0
    assert len(list((tmp_path / "results").glob("*.seg.nrrd"))) == 2


def test_names_that_the_terminal_cannot_show_do_no_harm(folder: Path, tmp_path: Path) -> None:
    image = tmp_path / "Müller.nrrd"
    shutil.copy(folder / "images" / "phantom_000005.nrrd", image)
    output = tmp_path / "Größe.seg.nrrd"
    arguments = ["segment", str(image), "-o", str(output), "--bundle", "phantom-unet"]
    process = in_a_process(*arguments, PYTHONIOENCODING="ascii")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert r"Gr\xf6\xdfe.seg.nrrd: Head" in out
    assert output.exists()


def test_a_name_that_is_not_utf_8_is_an_error_before_anything_is_computed(folder: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"gr\xf6sse.seg.nrrd")
    arguments = ["segment", str(folder / "images" / "phantom_000005.nrrd"), "-o", str(tmp_path / odd)]
    process = in_a_process(*arguments, "--bundle", "phantom-unet")
    _out, err = process.communicate()
    assert process.returncode == UnwritableOutput.exit_code
    assert "not UTF-8; give another name" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["segment", "compare", "scale-sweep"])
def test_no_output_is_written_over_another_or_over_an_input(folder: Path, tmp_path: Path, command: str) -> None:
    image, labels, taken = (tmp_path / name for name in ("image.nrrd", "labels.nrrd", "out.nrrd"))
    shutil.copy(folder / "images" / "phantom_000005.nrrd", image)
    shutil.copy(folder / "labels" / "phantom_000005.nrrd", labels)
    before = {path: path.read_bytes() for path in (image, labels)}
    arguments, output = {
        "segment": ([str(image), "--bundle", "phantom-unet"], "-o"),
        "compare": ([str(labels), str(labels)], "-o"),
        "scale-sweep": ([str(image), "--bundle", "phantom-unet", "--scales", "1"], "--csv"),
    }[command]
    over = image if command != "compare" else labels
    same = str(tmp_path / "." / "x" / ".." / taken.name)
    for outputs in (
        [output, str(taken), "--json", same],
        [output, str(over)],
        [output, str(taken), "--json", str(over)],
    ):
        assert main([command, *arguments, *outputs, "--overwrite"]) == 7
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_phantoms_replace_no_file_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "phantom_000001.nrrd").write_text("mine")
    assert main(["phantom", str(tmp_path), "--count", "2", "--size", "9", "9", "9"]) == 7
    assert [path.name for path in tmp_path.rglob("*")] == ["labels", "phantom_000001.nrrd"]
    assert main(["phantom", str(tmp_path), "--count", "2", "--size", "9", "9", "9", "--overwrite"]) == 0
    (tmp_path / "file").write_text("")
    assert main(["phantom", str(tmp_path / "file" / "x"), "--size", "9", "9", "9"]) == 8


def test_the_verdicts_and_figures_go_into_reports_with_their_keys(folder: Path, tmp_path: Path) -> None:
    labels = str(folder / "labels" / "phantom_000005.nrrd")
    assert main(["compare", labels, labels, "--reference", labels, "--json", str(tmp_path / "compare.json")]) == 0
    figures = json.loads((tmp_path / "compare.json").read_text())
    wanted = {f"{key}.{label}" for key in ("dice", "hd95") for label in (1, 2)}
    assert wanted | {"ml.1.a", "ml.1.b", "ml.2.a", "ml.2.b", "disagreement_regions"} <= set(figures)


def test_a_reference_whose_segments_are_none_of_the_models_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, renamed = folder / "images" / "phantom_000005.nrrd", tmp_path / "renamed.seg.nrrd"
    labels = read_volume(folder / "labels" / "phantom_000005.nrrd")
    header = {}
    for number, name in enumerate(("Head", "Corpus")):
        header |= {f"Segment{number}_LabelValue": str(number + 1), f"Segment{number}_Name": name}
    write_volume(labels, renamed, header=header)
    arguments = ["scale-sweep", str(image), "--bundle", "phantom-unet", "--scales", "1", "--reference", str(renamed)]
    assert main(arguments) == UnsuitableVolume.exit_code
    assert "has no segment named Body; rename its segments first" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_has_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(["models", "list", "--json", str(tmp_path / "file" / "list.json")]) == 8


def test_the_slab_changes_no_label_and_the_precision_reaches_the_engine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert segment(folder, tmp_path / "whole.nrrd") == 0
    assert segment(folder, tmp_path / "slabs.nrrd", "--slab", "3") == 0
    whole, slabs = (read_volume(tmp_path / f"{name}.nrrd").array for name in ("whole", "slabs"))
    assert np.array_equal(whole, slabs)

    used: list[segmentation.Settings] = []

    def spy(channels: object, model: object, settings: segmentation.Settings, *more: object) -> None:
        used.append(settings)
        raise UnsuitableVolume("enough")

    monkeypatch.setattr(segmentation, "segment", spy)
    assert segment(folder, tmp_path / "o.nrrd", "--slab", "5", "--precision", "bfloat16") == 4
    assert segment(folder, tmp_path / "o.nrrd", "--mirror", "--deterministic", "--replace-nonfinite") == 4
    assert used == [
        segmentation.Settings(device="cpu", slab=5, precision="bfloat16"),
        segmentation.Settings(device="cpu", mirror=True, deterministic=True, replace_nonfinite=True),
    ]
    assert get_args(segmentation.Precision) == PRECISIONS


@pytest.mark.parametrize("arguments", [["list"], ["check", str(bundled_models())]])
def test_a_list_of_models_that_exists_is_replaced_only_when_asked(tmp_path: Path, arguments: list[str]) -> None:
    report = tmp_path / "models.json"
    report.write_text("mine")
    assert main(["models", *arguments, "--json", str(report)]) == 7
    assert report.read_text() == "mine"
    assert main(["models", *arguments, "--json", str(report), "--overwrite"]) == 0
    assert "phantom-unet" in report.read_text()


def test_models_are_checked_down_to_their_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = bundled_models() / "phantom-unet"
    assert main(["models", "check", str(good)]) == 0
    assert f"good: {good}" in capsys.readouterr().out

    for name in ("damaged", "foreign", "whole"):
        shutil.copytree(good, tmp_path / name)
    with (tmp_path / "damaged" / "weights.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"x")
    card = json.loads((tmp_path / "foreign" / "card.json").read_text())
    del card["card_sha256"]
    card["network"]["arguments"]["channels"] = [2, 4]
    (tmp_path / "foreign" / "card.json").write_text(json.dumps(card))
    assert main(["models", "check", str(tmp_path), "--json", str(tmp_path / "verdicts.json")]) == 5
    verdicts = {Path(k).name: v for k, v in json.loads((tmp_path / "verdicts.json").read_text()).items()}
    assert "sha256" in verdicts["damaged"]
    assert "cannot be loaded" in verdicts["foreign"]
    assert verdicts["whole"] == ""
    assert "2 of 3" in capsys.readouterr().err
    assert main(["models", "check", str(tmp_path / "nothing")]) == 5
