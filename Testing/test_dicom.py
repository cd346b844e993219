"""A DICOM series is read where its slices lie and with the values they mean, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings

from dicom_series import decimals, write_series, write_slice
from random_grids import geometries, rotation
from ScaleEquivSegLib.errors import UnreadableVolume, UnsuitableVolume
from ScaleEquivSegLib.volume import Geometry, Volume, make_geometry, read_volume, to_sitk

OBLIQUE = make_geometry((7, 6, 5), (0.7, 0.8, 2.5), rotation(1), (10, -20, 30))


def scan(geometry: Geometry = OBLIQUE) -> Volume:
    values = np.random.default_rng(0).integers(-1000, 2000, geometry.shape)
    return Volume(values.astype(np.int16), geometry)


def move(paths: list[Path], k: int, shift: np.ndarray, volume: Volume | None = None, **tags: str) -> None:
    """Write the k-th slice again, shifted along i, j, k of the volume, in mm."""
    image = to_sitk(volume or scan())
    axes = np.reshape(image.GetDirection(), (3, 3))
    position = image.TransformIndexToPhysicalPoint((0, 0, k)) + axes @ shift
    write_slice(image, k, paths[k], {"0020|000e": "1.2.3.4", "0020|0032": decimals(position), **tags})


@settings(deadline=None, derandomize=True, max_examples=25)
@given(geometry=geometries(2, 6))
def test_slices_of_any_orientation_come_back_as_the_volume_they_came_from(
    geometry: Geometry, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("series")
    write_series(scan(geometry), folder)
    found = read_volume(folder)
    # DICOM knows right-handed volumes only: slices of a left-handed one come in the other order.
    left_handed = np.linalg.det(geometry.ijk_to_ras[:3, :3]) < 0
    assert np.array_equal(found.array, scan(geometry).array[:: -1 if left_handed else 1])
    ends = [(0, 0, 0), tuple(geometry.size - 1)]
    if left_handed:
        ends = [(0, 0, geometry.size[2] - 1), (geometry.size[0] - 1, geometry.size[1] - 1, 0)]
    assert (
        np.abs(found.geometry.to_ras(np.array([(0, 0, 0), geometry.size - 1])) - geometry.to_ras(np.array(ends))).max()
        < 1e-5
    )


def test_what_lies_beside_the_slices_does_not_matter(tmp_path: Path) -> None:
    write_series(scan(), tmp_path)
    (tmp_path / "notes.txt").write_text("not a slice")
    (tmp_path / ".hidden").write_bytes(b"")
    (tmp_path / "nested").mkdir()
    report = bytes(128) + b"DICM\x02\x00\x02\x00UI\x1e\x001.2.840.10008.5.1.4.1.1.88.11\x00"
    (tmp_path / "report.dcm").write_bytes(report)
    assert np.array_equal(read_volume(tmp_path).array, scan().array)


def test_stored_values_are_rescaled_slice_by_slice(tmp_path: Path) -> None:
    """As PET scanners do it: one slice happens to have whole numbers, the others have fractions."""
    write_series(scan(), tmp_path)
    for number, path in enumerate(sorted(tmp_path.iterdir(), reverse=True)):
        set_value(path, b"\x28\x00\x52\x10", b"-1024 ")
        set_value(path, b"\x28\x00\x53\x10", b"0.5 " if number else b"1 ")
    found = read_volume(tmp_path).array
    assert np.array_equal(found[0], scan().array[0] - 1024.0)
    assert np.array_equal(found[1:], scan().array[1:] * 0.5 - 1024)


def set_value(path: Path, tag: bytes, value: bytes) -> None:
    """Change an element of a file in implicit little endian, without touching the pixels as a writer would."""
    before, _, after = path.read_bytes().partition(tag)
    length = int.from_bytes(after[:4], "little")
    path.write_bytes(before + tag + len(value).to_bytes(4, "little") + value + after[4 + length :])


@pytest.mark.parametrize("gone", [1, 3])
def test_a_missing_slice_is_named_by_its_neighbours(tmp_path: Path, gone: int) -> None:
    paths = write_series(scan(), tmp_path)
    paths[gone].unlink()
    around = f"between {paths[gone - 1].name} and {paths[gone + 1].name}"
    with pytest.raises(UnsuitableVolume, match=rf"gap of 5\.000 mm {around}"):
        read_volume(tmp_path)


def test_a_slice_a_hundredth_of_a_millimetre_off_passes_and_one_much_farther_off_does_not(tmp_path: Path) -> None:
    paths = write_series(scan(), tmp_path)
    move(paths, 2, np.array([0, 0, 0.009]))
    assert np.array_equal(read_volume(tmp_path).array, scan().array)
    move(paths, 2, np.array([0, 0, 0.1]))
    with pytest.raises(UnsuitableVolume, match="unevenly spaced"):
        read_volume(tmp_path)


def test_distances_that_grow_little_by_little_are_uneven(tmp_path: Path) -> None:
    volume = scan(make_geometry((4, 3, 15), (1, 1, 1), np.eye(3), (0, 0, 0)))
    paths = write_series(volume, tmp_path)
    for k in range(15):
        move(paths, k, np.array([0, 0, 0.0012 * k * k / 2]), volume)
    with pytest.raises(UnsuitableVolume, match=r"unevenly spaced slices: .* lies -0\.029 mm"):
        read_volume(tmp_path)


def test_a_tilted_gantry_is_named(tmp_path: Path) -> None:
    paths = write_series(scan(), tmp_path)
    for k in range(5):
        move(paths, k, np.array([0, 0.3 * k, 0]))
    with pytest.raises(UnsuitableVolume, match=r"sideways by up to 1\.20 mm \(a tilted gantry\)"):
        read_volume(tmp_path)


def test_two_slices_at_one_position_are_named(tmp_path: Path) -> None:
    paths = write_series(scan(), tmp_path)
    move(paths, 3, np.array([0, 0, -2.5]))
    with pytest.raises(UnsuitableVolume, match="several slices at one position"):
        read_volume(tmp_path)


def test_slices_of_different_sizes_pixels_or_orientations_are_named(tmp_path: Path) -> None:
    turned = "\\".join(["1", "0", "0", "0", "0", "-1"])
    small = scan(make_geometry((5, 6, 5), (0.7, 0.8, 2.5), rotation(1), (10, -20, 30)))
    coarse = scan(make_geometry((7, 6, 5), (1.4, 0.8, 2.5), rotation(1), (10, -20, 30)))
    for what, volume, tags in (
        (r"sizes \(\d x 6 and \d x 6 pixels\)", small, {}),
        ("pixel sizes", coarse, {}),
        ("orientations", scan(), {"0020|0037": turned}),
    ):
        folder = tmp_path / what[:5]
        move(write_series(scan(), folder), 2, np.zeros(3), volume, **tags)
        with pytest.raises(UnsuitableVolume, match=f"different {what}"):
            read_volume(folder)


def test_several_series_are_listed(tmp_path: Path) -> None:
    write_series(scan(), tmp_path, {"0008|103e": "T1 axial", "0020|0011": "3"})
    write_series(scan(), tmp_path, {"0008|103e": "T2", "0020|0011": "4"}, series="1.2.3.7")
    with pytest.raises(UnsuitableVolume, match=r"2 DICOM series \(5 file\(s\) no\. 3 'T1 axial' 1\.2\.3\.4; 5 file"):
        read_volume(tmp_path)


def test_one_slice_is_no_volume(tmp_path: Path) -> None:
    paths = write_series(scan(), tmp_path)
    with pytest.raises(UnsuitableVolume, match="pick the folder that holds the whole series"):
        read_volume(paths[0])
    for path in paths[1:]:
        path.unlink()
    with pytest.raises(UnsuitableVolume, match="one DICOM slice only"):
        read_volume(tmp_path)


def test_a_multi_frame_file_is_named(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Cast(to_sitk(scan()), sitk.sitkUInt8), str(tmp_path / "all.dcm"))
    with pytest.raises(UnsuitableVolume, match="multi-frame"):
        read_volume(tmp_path)


@pytest.mark.parametrize("length", [0, 100, 400, 900, -1])
def test_the_last_slice_cut_short_is_damaged_and_not_left_out(tmp_path: Path, length: int) -> None:
    last = write_series(scan(), tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:length])
    with pytest.raises(UnreadableVolume):
        read_volume(tmp_path)


def test_a_folder_without_slices_says_where_to_look(tmp_path: Path) -> None:
    write_series(scan(), tmp_path / "inner")
    with pytest.raises(UnreadableVolume, match="pick the folder in which the slices themselves lie"):
        read_volume(tmp_path)
