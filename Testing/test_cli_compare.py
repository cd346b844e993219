"""The command line: two segmentations compared, and each with a reference."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from cli_user import segment, two_phantoms
from ScaleEquivSegLib.cli import main
from ScaleEquivSegLib.comparison import agreement_map, dice, disagreement_regions, hausdorff95, surface_distances
from ScaleEquivSegLib.labelmap import read_labelmap
from ScaleEquivSegLib.provenance import read_provenance
from ScaleEquivSegLib.volume import AxisOrder, Geometry, Volume, make_geometry, read_volume, write_volume


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_phantoms(tmp_path_factory.mktemp("phantoms"))


def test_a_map_of_a_comparison_says_what_was_compared(folder: Path, tmp_path: Path) -> None:
    a, b = tmp_path / "a.seg.nrrd", tmp_path / "b.nii.gz"
    assert segment(folder, a) == 0
    assert segment(folder, b) == 0
    reference = folder / "labels" / "phantom_000005.nrrd"
    for name in ("map.seg.nrrd", "map.nii.gz"):
        assert main(["compare", str(a), str(b), "--reference", str(reference), "-o", str(tmp_path / name)]) == 0
        facts = read_provenance(tmp_path / name)
        assert facts["a_bundle"] == facts["b_bundle"] == "phantom-unet"
        assert facts["a_input_voxels_sha256"] == facts["b_input_voxels_sha256"]
        assert facts["reference_file_sha256"] == hashlib.sha256(reference.read_bytes()).hexdigest()


def test_labels_stored_in_another_order_are_compared_where_they_lie(folder: Path, tmp_path: Path) -> None:
    labels = read_volume(folder / "labels" / "phantom_000005.nrrd")
    stored = AxisOrder.towards(labels.geometry.direction, "SLP").apply(labels)
    assert stored.array.shape != labels.array.shape
    write_volume(labels, tmp_path / "ras.nrrd")
    write_volume(stored, tmp_path / "slp.nrrd")
    files = [str(tmp_path / name) for name in ("ras.nrrd", "slp.nrrd", "out.json", "map.nrrd")]
    assert main(["compare", *files[:2], "--reference", files[1], "--json", files[2], "-o", files[3]]) == 0
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["dice.1"] == figures["a.dice.1"] == 1
    assert read_volume(tmp_path / "map.nrrd").geometry.agrees_with(labels.geometry)


@pytest.fixture(scope="module")
def both(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """The segmentation of a phantom by each network, and its labels."""
    outputs = tmp_path_factory.mktemp("both")
    image = str(folder / "images" / "phantom_000005.nrrd")
    found = []
    for bundle in ("phantom-se_unet", "phantom-unet"):
        found.append(str(outputs / f"{bundle}.seg.nrrd"))
        assert main(["segment", image, "-o", found[-1], "--bundle", bundle, "--device", "cpu"]) == 0
    return found[0], found[1], str(folder / "labels" / "phantom_000005.nrrd")


def test_two_segmentations_are_compared_class_by_class(
    both: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, shown = tmp_path / "figures.json", tmp_path / "map.seg.nrrd"
    assert main(["compare", both[0], both[1], "--json", str(table), "-o", str(shown)]) == 0
    figures = json.loads(table.read_text())
    a, b = (read_volume(Path(path)) for path in both[:2])
    for value, name in ((1, "Head"), (2, "Body")):
        in_a, in_b = a.array == value, b.array == value
        assert figures[f"dice.{name}"] == pytest.approx(dice(in_a, in_b))
        assert figures[f"ml.{name}.a"] == pytest.approx(in_a.sum() / 1000)
        assert figures[f"ml.{name}.b"] == pytest.approx(in_b.sum() / 1000)
        distances = surface_distances(in_a, in_b, a.geometry.spacing)
        assert figures[f"hd95.{name}"] == pytest.approx(hausdorff95(*distances))
    assert figures["disagreement_regions"] == len(disagreement_regions(a, b)) > 0
    assert figures["disagreement_ml"] == pytest.approx((a.array != b.array).sum() / 1000)

    found = read_labelmap(shown)
    assert found.names == {1: "Only A", 2: "Only B", 3: "Both", 4: "Different classes"}
    assert np.array_equal(found.volume.array, agreement_map(a, b).array)
    assert found.volume.geometry.agrees_with(a.geometry)
    out = capsys.readouterr().out
    assert f"{figures['dice.Head']:.4f}" in out
    assert f"{figures['hd95.Body']:.2f}" in out


def test_a_reference_turns_the_comparison_into_errors_of_each(both: tuple[str, str, str], tmp_path: Path) -> None:
    table, shown = tmp_path / "figures.json", tmp_path / "map.seg.nrrd"
    arguments = ["compare", both[0], both[1], "--reference", both[2], "--json", str(table), "-o", str(shown)]
    assert main([*arguments, "--label", "Body"]) == 0
    figures = json.loads(table.read_text())
    a, b, reference = (read_volume(Path(path)) for path in both)
    for one, volume in (("a", a), ("b", b)):
        assert figures[f"{one}.dice.Head"] == pytest.approx(dice(volume.array == 1, reference.array == 1))
        missed = (volume.array == 0) & (reference.array == 2)
        assert figures[f"{one}.confusion.Body.background"] == missed.sum()
        errors = read_labelmap(tmp_path / f"map.{one}.seg.nrrd")
        assert errors.names == {1: "False positive", 2: "False negative", 3: "True positive", 4: "Wrong class"}
        assert np.array_equal(errors.volume.array == 2, (volume.array != 2) & (reference.array == 2))
        assert np.array_equal(errors.volume.array == 1, (volume.array == 2) & (reference.array != 2))
    assert figures["ml.Body.reference"] == pytest.approx((reference.array == 2).sum() / 1000)
    assert main([*arguments[:-2], "-o", str(tmp_path / "map.seg.nrrd"), "--overwrite", "--label", "Tail"]) == 4


def test_no_map_is_written_over_another(both: tuple[str, str, str], tmp_path: Path) -> None:
    (tmp_path / "map.b.seg.nrrd").write_text("mine")
    arguments = ["compare", both[0], both[1], "--reference", both[2], "-o", str(tmp_path / "map.seg.nrrd")]
    assert main(arguments) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["map.b.seg.nrrd"]
    assert main([*arguments[:-1], str(tmp_path / "map.mhd")]) == 8


def test_a_class_that_one_has_missed_is_null_in_the_report(tmp_path: Path) -> None:
    geometry = make_geometry((6, 5, 4), (1, 1, 1), np.eye(3), (0, 0, 0))
    for name, value in (("empty", 0), ("full", 1)):
        write_volume(Volume(np.full((4, 5, 6), value, np.uint8), geometry), tmp_path / f"{name}.nrrd")
    table = tmp_path / "figures.json"
    assert main(["compare", str(tmp_path / "empty.nrrd"), str(tmp_path / "full.nrrd"), "--json", str(table)]) == 0
    figures = json.loads(table.read_text(), parse_constant=pytest.fail)
    assert figures["hd95.1"] is None
    assert figures["hd95.mean"] == pytest.approx(77**0.5)
    assert figures["dice.1"] == 0


def test_a_bundle_names_the_classes_of_files_without_names(both: tuple[str, str, str], tmp_path: Path) -> None:
    table = tmp_path / "figures.json"
    arguments = ["compare", both[2], both[2], "--json", str(table)]
    assert main(arguments) == 0
    assert json.loads(table.read_text())["dice.1"] == 1
    assert main([*arguments, "--bundle", "phantom-unet", "--overwrite"]) == 0
    assert json.loads(table.read_text())["dice.Head"] == 1


def test_segmentations_on_different_grids_are_refused_by_name(
    both: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = read_volume(Path(both[2]))
    moved = labels.geometry.ijk_to_ras.copy()
    moved[2, 3] += 0.5
    other = tmp_path / "moved.nrrd"
    write_volume(Volume(labels.array, Geometry(labels.array.shape, moved)), other)
    assert main(["compare", both[0], str(other)]) == 4
    message = capsys.readouterr().err
    assert "different grids" in message
    assert both[0] in message
    assert str(other) in message
    assert main(["compare", both[0], both[1], "--reference", str(other)]) == 4
    image = both[2].replace("labels", "images")
    capsys.readouterr()
    assert main(["scale-sweep", image, "--bundle", "phantom-unet", "--reference", str(other)]) == 4
    assert str(other) in capsys.readouterr().err


def test_an_image_is_not_compared_as_if_it_were_labels(
    both: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", both[0], both[2].replace("labels", "images")]) == 4
    assert "pick a segmentation" in capsys.readouterr().err.lower()
