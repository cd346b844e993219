"""Many cases into one folder: killed and taken up again, failures, foreign results, one run at a time, who is told."""

from __future__ import annotations

import csv
import errno
import filecmp
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from ScaleEquivSegLib import cohort, folder_lock, progress, segmentation
from ScaleEquivSegLib.bundles import bundled_models, read_bundle
from ScaleEquivSegLib.card import seal_of
from ScaleEquivSegLib.cases import Case
from ScaleEquivSegLib.cli import main
from ScaleEquivSegLib.cli.console import stoppable
from ScaleEquivSegLib.cohort import Failure, open_cohort
from ScaleEquivSegLib.errors import OutOfMemory, OutputExists, UnreadableVolume, UnwritableOutput
from ScaleEquivSegLib.folder_lock import LOCK, alone_in
from ScaleEquivSegLib.provenance import read_provenance
from ScaleEquivSegLib.volume import Volume, read_volume, write_volume
from ScaleEquivSegLib.whole_files import UNFINISHED

LIBRARY = Path(__file__).resolve().parents[1] / "ScaleEquivSeg"
NAMES = ["phantom_000000", "phantom_000001", "phantom_000002"]


def make_images(folder: Path, count: int, channels: int = 1) -> Path:
    """A folder of tiny phantoms."""
    arguments = ["--count", str(count), "--size", "12", "12", "12", "--channels", str(channels)]
    assert main(["phantom", str(folder), *arguments]) == 0
    return folder / "images"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("phantoms"), len(NAMES))


@pytest.fixture
def images(phantoms: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(phantoms, tmp_path / "images"))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def segment_all(cases: Path, results: Path, *more: str, bundle: str = "phantom-unet") -> int:
    return main(["segment", "--cases", str(cases), "-o", str(results), "--bundle", bundle, *more])


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def finished(results: Path) -> list[str]:
    return sorted(path.name.removesuffix(".seg.nrrd") for path in results.glob("*.seg.nrrd"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Interruptions


def start(cases: Path, results: Path) -> subprocess.Popen[str]:
    """The real command in a process of its own."""
    command = [sys.executable, "-m", "ScaleEquivSegLib", "segment", "--cases", str(cases), "-o", str(results)]
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--bundle", "phantom-unet", "--device", "cpu"],
        env=environment,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def wait_until_finished(results: Path, count: int, process: subprocess.Popen[str]) -> None:
    patience = time.monotonic() + 60
    while len(finished(results)) < count:
        assert process.poll() is None
        assert time.monotonic() < patience
        time.sleep(0.002)


def test_a_cohort_killed_five_times_ends_as_one_that_was_not(tmp_path: Path) -> None:
    images = make_images(tmp_path, 50)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert start(images, undisturbed).wait() == 0
    moments = np.random.default_rng(7)
    for _ in range(5):
        process = start(images, killed)
        wait_until_finished(killed, len(finished(killed)) + int(moments.integers(1, 6)), process)
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert 0 < len(finished(killed)) < 50
    assert start(images, killed).wait() == 0
    names = sorted(path.name for path in undisturbed.rglob("*"))
    assert len(names) == 50 + len([LOCK, "volumes.csv"])
    assert sorted(path.name for path in killed.rglob("*")) == names
    assert filecmp.cmpfiles(undisturbed, killed, names, shallow=False) == (names, [], [])


def test_sigterm_ends_the_command_in_good_order(tmp_path: Path, results: Path) -> None:
    images = make_images(tmp_path, 100)
    process = start(images, results)
    wait_until_finished(results, 2, process)
    process.terminate()
    _, said = process.communicate()
    assert process.returncode == 130
    assert f"interrupted: {len(finished(results))} of 100 cases are done; the same command goes on" in said
    assert {row["case"] for row in rows(results / "volumes.csv")} == set(finished(results))
    assert list(results.glob(f"{UNFINISHED}*")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_case_halfway_and_leaves_nothing_of_it(
    images: Path, results: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    reached = []

    def interrupted(channels: Any, model: Any, settings: Any, progress: segmentation.Progress) -> Any:
        def with_signal(phase: str, fraction: float) -> None:
            reached.append(fraction)
            if finished(results) == NAMES[:1] and 0 < fraction < 1:
                os.kill(os.getpid(), number)
            progress(phase, fraction)

        return segment(channels, model, settings, with_signal)

    segment = segmentation.segment
    monkeypatch.setattr(segmentation, "segment", interrupted)
    assert segment_all(images, results, "--slab", "1") == 130
    assert 0 < reached[-1] < 1
    assert sorted(contents(results)) == [LOCK, f"{NAMES[0]}.seg.nrrd", "volumes.csv"]
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    monkeypatch.undo()
    assert segment_all(images, results) == 0
    assert finished(results) == NAMES


def test_a_signal_stops_a_run_in_which_no_case_can_be_read(
    images: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path) -> Volume:
        os.kill(os.getpid(), signal.SIGTERM)
        raise UnreadableVolume(path.name)

    monkeypatch.setattr(cohort, "read_image", unreadable)
    assert segment_all(images, results) == 130
    assert [row["case"] for row in rows(results / "failures.csv")] == NAMES[:1]


def test_a_second_signal_does_not_wait_for_the_network() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what started the tests may have it ignored
    try:
        with stoppable():
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupted_run_that_overwrites_says_how_to_go_on(
    images: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment_all(images, results) == 0
    monkeypatch.setattr(segmentation, "segment", lambda *_: signal.raise_signal(signal.SIGINT) or _[3]("", 0.0))
    assert segment_all(images, results, "--overwrite") == 130
    assert "0 of 3 cases are done; the same command without --overwrite goes on" in capsys.readouterr().err
    assert sorted(contents(results)) == [LOCK, "volumes.csv"]  # no old result is taken for one of this run


# What is taken up and what is not


def test_finished_cases_are_skipped_and_the_report_counts_them(images: Path, results: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert segment_all(images, results, "--json", str(report)) == 0
    before = contents(results)
    figures = json.loads(report.read_text())
    assert figures.keys() == {"bundle", "sha256", "cases", "done", "skipped", "failed", "seconds"}
    assert [figures[key] for key in ("cases", "done", "skipped", "failed")] == [3, 3, 0, 0]
    assert figures["sha256"] == read_bundle(bundled_models() / "phantom-unet").sha256

    (results / f"{NAMES[1]}.seg.nrrd").unlink()
    (results / "volumes.csv").unlink()
    stamps = [(results / f"{name}.seg.nrrd").stat().st_mtime_ns for name in (NAMES[0], NAMES[2])]
    assert segment_all(images, results, "--json", str(report)) == 0
    assert [json.loads(report.read_text())[key] for key in ("done", "skipped")] == [1, 2]
    assert [(results / f"{name}.seg.nrrd").stat().st_mtime_ns for name in (NAMES[0], NAMES[2])] == stamps
    assert contents(results) == before


def test_a_later_list_adds_to_the_table_of_an_earlier_one(images: Path, results: Path, tmp_path: Path) -> None:
    assert segment_all(images, results) == 0
    before = rows(results / "volumes.csv")
    later = tmp_path / "later"
    later.mkdir()
    shutil.copy(images / f"{NAMES[0]}.nrrd", later / "another.nrrd")
    report = tmp_path / "report.json"
    assert segment_all(later, results, "--json", str(report)) == 0
    assert [row["case"] for row in rows(results / "volumes.csv")] == ["another", *NAMES]
    assert rows(results / "volumes.csv")[1:] == before
    assert json.loads(report.read_text())["cases"] == 1


def test_results_of_a_card_that_has_changed_since_are_refused(images: Path, results: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundled_models() / "phantom-unet", tmp_path / "edited"))
    assert segment_all(images, results, bundle=str(folder)) == 0
    card = json.loads((folder / "card.json").read_text())
    card["postprocessing"] = []
    card["card_sha256"] = seal_of(card)
    (folder / "card.json").write_text(json.dumps(card))
    assert segment_all(images, results, bundle=str(folder)) == OutputExists.exit_code


def test_the_table_says_what_the_label_files_contain(images: Path, results: Path) -> None:
    constant = read_volume(images / f"{NAMES[1]}.nrrd")
    write_volume(Volume(0 * constant.array, constant.geometry), images / f"{NAMES[1]}.nrrd")
    assert segment_all(images, results) == 0
    table = rows(results / "volumes.csv")
    assert [row["case"] for row in table] == NAMES
    for row in table:
        labels = read_volume(results / f"{row['case']}.seg.nrrd").array
        assert float(row["ml.Head"]) == pytest.approx((labels == 1).sum() / 1000)
        assert float(row["ml.Body"]) == pytest.approx((labels == 2).sum() / 1000)
    assert ["same value everywhere" in row["warnings"] for row in table] == [False, True, False]


def test_a_case_of_many_is_segmented_as_one_alone(images: Path, results: Path, tmp_path: Path) -> None:
    assert segment_all(images, results) == 0
    alone = tmp_path / "alone.seg.nrrd"
    assert main(["segment", str(images / f"{NAMES[2]}.nrrd"), "-o", str(alone), "--bundle", "phantom-unet"]) == 0
    assert alone.read_bytes() == (results / f"{NAMES[2]}.seg.nrrd").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "bundle", "complaint"),
    [
        ([], "phantom-se_unet", "weights_sha256 is {phantom-unet:.12s}, here {phantom-se_unet:.12s}"),
        (["--precision", "bfloat16"], "phantom-unet", "precision is float32, here bfloat16"),
        (["--mirror"], "phantom-unet", "mirror is False, here True"),
        (["--replace-nonfinite"], "phantom-unet", "replace_nonfinite is False, here True"),
    ],
)
def test_results_of_another_bundle_or_other_settings_are_refused_by_name(
    images: Path,
    results: Path,
    arguments: list[str],
    bundle: str,
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert segment_all(images, results) == 0
    (results / f"{NAMES[0]}.seg.nrrd").unlink()
    before = contents(results)
    assert segment_all(images, results, *arguments, bundle=bundle) == 7
    message = capsys.readouterr().err
    hashes = {name: read_bundle(bundled_models() / name).sha256 for name in ("phantom-unet", "phantom-se_unet")}
    assert f"{complaint.format(**hashes)}: {NAMES[1]}.seg.nrrd, {NAMES[2]}.seg.nrrd" in message
    assert contents(results) == before


def test_other_results_are_replaced_when_asked(images: Path, results: Path, tmp_path: Path) -> None:
    assert segment_all(images, results) == 0
    assert segment_all(images, results, "--overwrite", bundle="phantom-se_unet") == 0
    assert segment_all(images, tmp_path / "fresh", bundle="phantom-se_unet") == 0
    assert contents(results) == contents(tmp_path / "fresh")


@pytest.mark.parametrize("damage", ["truncated", "foreign", "text"])
def test_a_damaged_or_foreign_file_in_the_place_of_a_result_is_refused(
    images: Path, results: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment_all(images, results) == 0
    file = results / f"{NAMES[1]}.seg.nrrd"
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-20])
    elif damage == "foreign":
        shutil.copy(images.parent / "images" / f"{NAMES[1]}.nrrd", file)
    else:
        file.write_text("mine")
    before = contents(results)
    assert segment_all(images, results) == 7
    assert file.name in capsys.readouterr().err
    assert contents(results) == before
    assert segment_all(images, results, "--overwrite") == 0


def test_a_table_of_somebody_else_is_not_replaced(images: Path, results: Path) -> None:
    results.mkdir()
    (results / "volumes.csv").write_text("mine")
    assert segment_all(images, results) == 7
    assert contents(results) == {"volumes.csv": b"mine"}


# Failures


def test_failed_cases_are_listed_and_tried_again_after_mending(
    images: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = read_volume(images / f"{NAMES[0]}.nrrd")
    broken = good.array.astype(np.float32)
    broken[0, 0, :2] = np.nan
    write_volume(Volume(broken, good.geometry), images / f"{NAMES[0]}.nrrd")
    whole = (images / f"{NAMES[1]}.nrrd").read_bytes()
    (images / f"{NAMES[1]}.nrrd").write_bytes(whole[:-100])
    assert segment_all(images, results, "--json", str(tmp_path / "report.json")) == 10
    table = rows(results / "failures.csv")
    assert [(row["case"], row["kind"]) for row in table] == [
        (NAMES[0], "UnsuitableVolume"),
        (NAMES[1], "UnreadableVolume"),
    ]
    assert "2 of 1728 voxels" in table[0]["message"]
    assert [row["case"] for row in rows(results / "volumes.csv")] == finished(results) == [NAMES[2]]
    assert json.loads((tmp_path / "report.json").read_text())["failed"] == 2
    message = capsys.readouterr().err
    assert f"[1/3] {NAMES[0]}: failed: " in message
    assert "2 of 3 cases failed" in message

    (images / f"{NAMES[1]}.nrrd").write_bytes(whole)
    assert segment_all(images, results) == 10
    assert [row["case"] for row in rows(results / "failures.csv")] == [NAMES[0]]
    write_volume(good, images / f"{NAMES[0]}.nrrd")
    assert segment_all(images, results) == 0
    assert segment_all(images, tmp_path / "fresh") == 0
    assert contents(results) == contents(tmp_path / "fresh")


@pytest.mark.parametrize("error", [OutOfMemory("too large"), MemoryError("too large"), ZeroDivisionError("too large")])
def test_any_trouble_with_one_case_is_its_own(
    images: Path, results: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmentation, "segment", raising_for(NAMES[0], error))
    assert segment_all(images, results) == 10
    assert rows(results / "failures.csv") == [{"case": NAMES[0], "kind": type(error).__name__, "message": "too large"}]
    assert finished(results) == NAMES[1:]


def raising_for(name: str, error: Exception) -> Callable[..., segmentation.Segmentation]:
    """A `segment` that raises when it is one case's turn."""
    segment, turns = segmentation.segment, iter(NAMES)

    def fails_once(*arguments: Any) -> segmentation.Segmentation:
        if next(turns) == name:
            raise error
        return segment(*arguments)

    return fails_once


def test_what_concerns_every_case_stops_at_once(
    images: Path, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert segment_all(images, results) == 0
    before = contents(results)
    assert segment_all(images, results, "--overwrite", "--device", "cuda:99") == 6
    damaged = Path(shutil.copytree(bundled_models() / "phantom-unet", tmp_path / "damaged"))
    with (damaged / "weights.safetensors").open("ab") as stream:
        stream.write(b"x")
    assert segment_all(images, results, "--overwrite", bundle=str(damaged)) == 5
    assert contents(results) == before
    (tmp_path / "file").write_text("")
    assert segment_all(images, tmp_path / "file" / "results") == 8
    monkeypatch.setattr(segmentation, "segment", raising_for(NAMES[1], UnwritableOutput("disk full")))
    assert segment_all(images, results, "--overwrite") == 8
    assert finished(results) == NAMES[:1]
    assert not (results / "failures.csv").exists()


# One run at a time


def test_a_second_run_in_the_same_folder_is_refused(
    images: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with alone_in(results):
        assert segment_all(images, results) == 8
    assert f"Another run is working in {results}" in capsys.readouterr().err
    assert segment_all(images, results) == 0


def leave_unfinished(results: Path) -> Path:
    leftover = results / f"{UNFINISHED}abc" / "a.seg.nrrd"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("half")
    return leftover


def test_what_a_killed_run_left_is_removed(images: Path, results: Path) -> None:
    leftover = leave_unfinished(results)
    assert segment_all(images, results) == 0
    assert not leftover.parent.exists()


def test_volumes_lie_in_such_a_folder_until_they_are_whole(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    write = sitk.WriteImage

    def spy(image: sitk.Image, name: str, *more: Any) -> None:
        seen.append(Path(name).parent.name)
        write(image, name, *more)

    monkeypatch.setattr(sitk, "WriteImage", spy)
    write_volume(read_volume(images / f"{NAMES[0]}.nrrd"), tmp_path / "copy.nrrd")
    assert len(seen) == 1
    assert seen[0].startswith(UNFINISHED)


@pytest.mark.skipif(sys.platform == "win32", reason="locks by other means")
def test_without_locks_a_run_goes_on_and_removes_nothing(
    images: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(folder_lock.fcntl, "flock", no_locks)
    leftover = leave_unfinished(results)
    assert segment_all(images, results) == 0
    assert leftover.exists()


# Places


def test_results_do_not_go_among_the_images(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (images, images / "results"):
        assert segment_all(images, place) == 7
        assert "outside" in capsys.readouterr().err
    assert sorted(path.stem for path in images.iterdir()) == NAMES


def test_no_output_takes_the_place_of_another_or_of_an_input(images: Path, tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_text(f"case,image\na,images/{NAMES[0]}.nrrd\nb,a.seg.nrrd\n")
    shutil.copy(images / f"{NAMES[0]}.nrrd", tmp_path / "a.seg.nrrd")
    before = contents(tmp_path / "images")
    assert segment_all(table, tmp_path) == 7  # the labels of a would replace the image of b
    results = tmp_path / "results"
    for taken in (table, results / "volumes.csv", results / "failures.csv", results / "b.seg.nrrd"):
        assert segment_all(table, results, "--json", str(taken)) == 7
    (tmp_path / "mine.json").write_text("{}")
    assert segment_all(table, results, "--json", str(tmp_path / "mine.json")) == 7
    assert segment_all(images, table) == 7  # a file, not a folder
    assert not results.exists()
    assert contents(tmp_path / "images") == before


# Who is told


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_line_and_anything_else_a_line_per_case(
    images: Path, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment_all(images, results) == 0
    captured = capsys.readouterr()
    assert [line.split(":")[0] for line in captured.out.splitlines()[:3]] == [
        f"[{number}/3] {name}" for number, name in enumerate(NAMES, 1)
    ]
    assert captured.err == ""
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(progress, "SECONDS_TO_LEARN_A_PACE", 0.0)
    assert segment_all(images, tmp_path / "other", "--slab", "1") == 0
    assert len(out.getvalue().splitlines()) == 1
    assert "\n" not in err.getvalue()
    assert f"[2/3] {NAMES[1]}  Segmenting" in err.getvalue()
    assert "0:00 left" in err.getvalue()
    assert {len(part) for part in err.getvalue().split("\r")} <= {0, 99}


def test_the_library_runs_a_cohort_too(images: Path, results: Path) -> None:
    model = segmentation.load_model(read_bundle(bundled_models() / "phantom-unet"))
    cases = [Case("good", (images / f"{NAMES[0]}.nrrd",)), Case("missing", (images / "nothing.nrrd",))]
    settings = segmentation.Settings(device="cpu")
    with open_cohort(results, cases, model.bundle, settings) as opened:
        outcomes = [opened.segment(case, model, lambda phase, fraction: None) for case in opened.unfinished]
    assert isinstance(outcomes[1], Failure)
    assert opened.finished == {"good": outcomes[0]}
    assert read_provenance(results / "good.seg.nrrd")["weights_sha256"] == model.bundle.sha256
