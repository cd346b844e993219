"""A file is read as its header says, or refused with the cause; labels are not taken for an image."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from dicom_series import write_series
from random_grids import rotation
from ScaleEquivSegLib.bundles import Label
from ScaleEquivSegLib.errors import UnreadableVolume, UnsuitableVolume, UnwritableOutput
from ScaleEquivSegLib.labelmap import read_labelmap, segment_header
from ScaleEquivSegLib.mrml.volumes import volume_from_node
from ScaleEquivSegLib.volume import (
    AxisOrder,
    Volume,
    looks_like_labels,
    make_geometry,
    read_image,
    read_volume,
    write_volume,
)

GRID = make_geometry((9, 8, 7), (0.7, 0.8, 2.5), rotation(2, left_handed=True), (10, -20, 30))
STRAIGHT = make_geometry((9, 8, 7), (0.7, 0.8, 2.5), np.eye(3), (10, -20, 30))
VALUES = np.random.default_rng(0).integers(-1000, 1000, GRID.shape).astype(np.int16)


def written(path: Path, straight: bool = False, compress: bool = False) -> Path:
    write_volume(Volume(VALUES, STRAIGHT if straight else GRID), path, compress=compress)
    return path


def replaced(path: Path, old: bytes, new: bytes) -> Path:
    """A file with other text where it matches a pattern."""
    data, found = re.subn(old, new, path.read_bytes())
    assert found == 1
    path.write_bytes(data)
    return path


def with_fields(path: Path, **fields: tuple[int, str, tuple[float, ...]]) -> Path:
    """A NIfTI file with other header fields, each by offset, format and values."""
    data = bytearray(path.read_bytes())
    for offset, form, values in fields.values():
        struct.pack_into("<" + form, data, offset, *values)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.nii", "a.nii.gz"])
@pytest.mark.parametrize("compress", [False, True])
def test_a_file_is_read_as_slicer_shows_it(name: str, compress: bool, tmp_path: Path) -> None:
    path = written(tmp_path / name, compress=compress)
    shown = volume_from_node(slicer.util.loadVolume(str(path)))
    # Slicer turns the slices of a left-handed volume round when it loads it.
    shown, found = (
        AxisOrder.towards(volume.geometry.direction, "RAS").apply(volume) for volume in (shown, read_volume(path))
    )
    assert np.array_equal(found.array, shown.array)
    assert found.geometry.agrees_with(shown.geometry, 1e-4)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.nii", "a.nii.gz"])
@pytest.mark.parametrize("lost", [1, 8, 100])
@pytest.mark.parametrize("compress", [False, True])
def test_a_file_cut_short_is_damaged(name: str, lost: int, compress: bool, tmp_path: Path) -> None:
    path = written(tmp_path / name, compress=compress)
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(UnreadableVolume, match=r"damaged.* Copy or export it again"):
        read_volume(path)


def test_one_wrong_bit_among_compressed_voxels_is_noticed_by_their_checksum(tmp_path: Path) -> None:
    for name in ("a.nrrd", "a.mha", "a.nii.gz"):
        path = written(tmp_path / name, compress=True)
        data = bytearray(path.read_bytes())
        for at in range(len(data) - 100, len(data) - 20, 7):
            damaged = data.copy()
            damaged[at] ^= 4
            path.write_bytes(damaged)
            with pytest.raises(UnreadableVolume, match="damaged"):
                read_volume(path)


def test_a_gzip_file_of_several_members_is_whole(tmp_path: Path) -> None:
    data = written(tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(data[:700]) + gzip.compress(data[700:]))
    assert np.array_equal(read_volume(tmp_path / "b.nii.gz").array, VALUES)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.nii", "a.nii.gz"])
def test_a_header_may_announce_any_size_without_memory_being_reserved(name: str, tmp_path: Path) -> None:
    path = written(tmp_path / name.replace(".gz", ""), compress=name == "a.mha")
    if "nii" in name:
        with_fields(path, dim=(40, "8h", (3, 30000, 30000, 30000, 1, 1, 1, 1)))
    else:
        replaced(
            path,
            b": 9 8 7" if "nrrd" in name else b"DimSize = 9 8 7",
            b": 50000 50000 50000" if "nrrd" in name else b"DimSize = 50000 50000 50000",
        )
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UnreadableVolume, match="damaged"):
        read_volume(tmp_path / name)


def test_voxels_in_a_file_beside_the_header_are_read_and_missed(tmp_path: Path) -> None:
    image = sitk.ReadImage(str(written(tmp_path / "a.nrrd")))
    for name, data in (("b.mhd", "b.raw"), ("c.nhdr", "c.raw.gz")):
        sitk.WriteImage(image, str(tmp_path / name), name == "c.nhdr")
        found = read_volume(tmp_path / name)
        assert np.array_equal(found.array, VALUES)
        assert found.geometry.agrees_with(GRID, 1e-9)
        beside = tmp_path / data
        beside.write_bytes(beside.read_bytes()[:-1])
        with pytest.raises(UnreadableVolume, match="damaged"):
            read_volume(tmp_path / name)
        beside.unlink()
        with pytest.raises(UnreadableVolume, match="is not beside it"):
            read_volume(tmp_path / name)


ROWS = (0.7, 0.2, 0, 0, 0, 0.8, 0, 0, 0, 0, 2.5, 0)


def test_sheared_axes_are_named_with_what_to_do(tmp_path: Path) -> None:
    rows = with_fields(written(tmp_path / "a.nii"), codes=(252, "2h", (0, 2)), rows=(280, "12f", ROWS))
    vectors = replaced(written(tmp_path / "a.nrrd", True), rb"\(-0\.69+\d*,0,0\)", b"(-0.7,0.2,0)")
    matrix = replaced(written(tmp_path / "a.mha", True), b"TransformMatrix = -1 0 0", b"TransformMatrix = -1 0.3 0")
    little = (*ROWS[:1], 0.0005, *ROWS[2:])
    hardly = with_fields(written(tmp_path / "b.nii"), codes=(252, "2h", (0, 2)), rows=(280, "12f", little))
    for path in (rows, vectors, matrix, hardly):
        with pytest.raises(UnsuitableVolume, match=r"not perpendicular.*Resample"):
            read_volume(path)


def test_a_nifti_file_with_sheared_rows_is_read_by_its_rigid_quaternion_as_in_slicer(tmp_path: Path) -> None:
    path = with_fields(written(tmp_path / "a.nii"), rows=(280, "12f", ROWS))
    assert read_volume(path).geometry.agrees_with(GRID, 1e-4)


@pytest.mark.parametrize("size", [0.0, 1.4, float("nan")])
def test_a_nifti_file_whose_voxel_sizes_contradict_its_orientation_is_refused(size: float, tmp_path: Path) -> None:
    path = with_fields(written(tmp_path / "a.nii"), codes=(252, "2h", (0, 1)), pixdim=(80, "f", (size,)))
    with pytest.raises(UnreadableVolume, match="contradicts itself"):
        read_volume(path)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a.mha", rb"\bOffset = \S+", b"Offset = nan"),
        ("a.mha", rb"ElementSpacing = \S+", b"ElementSpacing = 0"),
        ("a.nrrd", rb"\(-0\.69+\d*,0,0\)", b"(1e300,0,0)"),
        ("a.nrrd", rb"\(-0\.69+\d*,0,0\)", b"(0,0,0)"),
    ],
)
def test_numbers_for_which_itk_would_put_others_are_refused(name: str, old: bytes, new: bytes, tmp_path: Path) -> None:
    path = replaced(written(tmp_path / name, straight=True), old, new)
    with pytest.raises(UnreadableVolume):
        read_volume(path)


def test_a_volume_of_unknown_voxel_size_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mha")
    text = path.read_bytes()
    path.write_bytes(text.replace(b"ElementSpacing", b"SomethingOther"))
    with pytest.raises(UnsuitableVolume, match="how large its voxels are"):
        read_volume(path)


@pytest.mark.parametrize("pixels", [sitk.sitkComplexFloat32, sitk.sitkVectorFloat32])
def test_other_kinds_of_images_are_named(pixels: int, tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image([4, 4, 4], pixels), str(tmp_path / "a.nrrd"))
    what = "complex numbers" if pixels == sitk.sitkComplexFloat32 else "3 components"
    with pytest.raises(UnsuitableVolume, match=what):
        read_volume(tmp_path / "a.nrrd")


@pytest.mark.parametrize("name", ["flat.nrrd", "flat.mha", "flat.nii"])
def test_a_picture_is_no_volume(name: str, tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image([4, 4], sitk.sitkInt16), str(tmp_path / name))
    with pytest.raises(UnsuitableVolume, match="2 dimensions; pick a 3D volume"):
        read_volume(tmp_path / name)


def test_a_single_frame_of_a_time_series_is_a_volume(tmp_path: Path) -> None:
    image = sitk.JoinSeries([sitk.ReadImage(str(written(tmp_path / "a.nrrd")))])
    for name in ("b.nrrd", "b.mha", "b.nii"):
        sitk.WriteImage(image, str(tmp_path / name))
        found = read_volume(tmp_path / name)
        assert np.array_equal(found.array, VALUES)
        assert found.geometry.agrees_with(GRID, 1e-4)


def test_formats_that_do_not_say_where_voxels_lie_are_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkUInt8), str(tmp_path / "a.tif"))
    with pytest.raises(UnsuitableVolume, match="no NRRD, NIfTI or MetaImage file"):
        read_volume(tmp_path / "a.tif")


# Labels given as an image


def test_a_segmentation_is_read_as_labels_and_refused_as_an_image(tmp_path: Path) -> None:
    labels = Volume((VALUES > 0).astype(np.uint8), GRID)
    header = segment_header([Label(1, "Head", (1, 2, 3), {})], GRID)
    write_volume(labels, tmp_path / "a.seg.nrrd", header)
    write_volume(labels, tmp_path / "a.nii")
    with_fields(tmp_path / "a.nii", intent=(68, "h", (1002,)))
    for name in ("a.seg.nrrd", "a.nii"):
        assert np.array_equal(read_labelmap(tmp_path / name).volume.array, labels.array)
        with pytest.raises(UnsuitableVolume, match="is a segmentation; pick the image on which it was drawn"):
            read_image(tmp_path / name)


def test_a_segment_without_a_number_is_damaged(tmp_path: Path) -> None:
    header = segment_header([Label(1, "Head", (1, 2, 3), {})], GRID)
    write_volume(Volume((VALUES > 0).astype(np.uint8), GRID), tmp_path / "a.seg.nrrd", header)
    replaced(tmp_path / "a.seg.nrrd", b"Segment0_LabelValue:=1", b"Segment0_LabelValue:=one")
    with pytest.raises(UnreadableVolume, match="segment 0 the value 'one'"):
        read_labelmap(tmp_path / "a.seg.nrrd")


def test_an_image_is_read_as_such(tmp_path: Path) -> None:
    assert np.array_equal(read_image(written(tmp_path / "a.nrrd")).array, VALUES)


BLOBS = np.zeros((20, 20, 20), np.uint8)
BLOBS[5:9, 5:9, 5:9] = 16
NOISE = np.random.default_rng(0).integers(0, 16, BLOBS.shape)


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (BLOBS, True),
        (BLOBS.astype(np.int32) * 1000, True),
        (BLOBS.transpose(2, 0, 1)[::-1], True),
        (NOISE, True),  # 16 values
        (NOISE + (NOISE == 3) * (np.arange(8000).reshape(NOISE.shape) > 7990) * 50, False),  # 17, one of them rare
        (BLOBS.astype(np.float32), True),
        (BLOBS * 0.5 + 0.25, False),
        (np.where(BLOBS, np.nan, 0), False),
        (np.zeros_like(BLOBS), False),
        (BLOBS.astype(np.int16) - 1, False),
        (BLOBS[:10, :10, :10], False),  # too few to tell
        (np.random.default_rng(0).integers(0, 500, BLOBS.shape), False),
    ],
)
def test_few_whole_numbers_look_like_labels(array: np.ndarray, wanted: bool) -> None:
    assert looks_like_labels(array) is wanted


# Paths


@pytest.mark.parametrize("name", ["tête et 体 ö.nrrd", "with some  spaces.nii.gz", "x" * 240 + ".nrrd"])
def test_any_name_will_do(name: str, tmp_path: Path) -> None:
    path = tmp_path / "Ünï cödé" / ("long " * 40) / name
    assert np.array_equal(read_volume(written(path)).array, VALUES)


@pytest.mark.parametrize("name", ["x" * 400 + ".nrrd", "~/a.nrrd", "\udcff.nrrd"])
def test_an_impossible_name_is_not_there(name: str) -> None:
    with pytest.raises(UnreadableVolume):
        read_volume(Path(name))


def test_a_name_that_is_not_utf_8_is_refused_before_itk_ends_the_program(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"gr\xf6sse")
    plain = written(tmp_path / "plain.nrrd")
    volume = read_volume(plain)
    series = write_series(volume, tmp_path / "series")
    series[0].rename(os.fsdecode(os.fsencode(series[0]) + b"\xf6"))
    odd.mkdir()
    shutil.copy(plain, odd / "scan.nrrd")
    for path in (odd, odd / "scan.nrrd", tmp_path / "series"):
        with pytest.raises(UnreadableVolume, match="not UTF-8; rename the file or its folder"):
            read_volume(path)
    with pytest.raises(UnwritableOutput, match="not UTF-8; give another name"):
        write_volume(volume, odd / "again.nrrd")


def test_a_segmentation_of_several_layers_is_refused_by_name(tmp_path: Path) -> None:
    layers = sitk.Image([4, 5, 6], sitk.sitkVectorUInt8, 2)
    layers.SetMetaData("Segment0_ID", "Segment_1")
    sitk.WriteImage(layers, str(tmp_path / "layers.seg.nrrd"))
    for read in (read_volume, read_image):
        with pytest.raises(UnsuitableVolume, match="overlapping segments"):
            read(tmp_path / "layers.seg.nrrd")
