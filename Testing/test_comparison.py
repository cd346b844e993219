"""Comparing segmentations: figures equal to MONAI's, known cases, maps and regions, and names that decide what is one
class."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

from ScaleEquivSegLib.bundles import Label
from ScaleEquivSegLib.comparison import (
    Agreement,
    agreement_map,
    check_same_grid,
    compare_classes,
    compare_masks,
    confusion_matrix,
    disagreement_regions,
    figures,
    mean_hd95,
    surface_distances,
)
from ScaleEquivSegLib.errors import UnsuitableVolume
from ScaleEquivSegLib.label_files import read_comparable
from ScaleEquivSegLib.labelmap import Labelmap, in_common_classes, read_labelmap, segment_header
from ScaleEquivSegLib.volume import Geometry, Volume, make_geometry, write_volume


def grid(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1, 1, 1)) -> Geometry:
    return make_geometry((shape[2], shape[1], shape[0]), spacing, np.eye(3), (0, 0, 0))


def random_blobs(seed: int, shape: tuple[int, int, int] = (14, 17, 20)) -> np.ndarray:
    """Some balls, which may leave the grid, with a few voxels scattered over them."""
    rng = np.random.default_rng(seed)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    mask = rng.random(shape) < 0.002
    for _ in range(3):
        mask |= np.linalg.norm(index - rng.uniform(0, shape), axis=-1) < rng.uniform(1, 6)
    return mask


def one_hot(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask)[None, None].float()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.3, 0.7, 6.0), (2.5, 1.1, 0.4)])
def test_all_figures_equal_monais_on_random_masks(seed: int, spacing: tuple[float, float, float]) -> None:
    a, b = random_blobs(seed), random_blobs(seed + 100)
    tolerance = 0.9 * max(spacing)
    found = compare_masks(a, b, grid((14, 17, 20), spacing), tolerance)
    pair, along_the_array = (one_hot(a), one_hot(b)), spacing[::-1]
    hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=along_the_array)
    surface = compute_surface_dice(*pair, [tolerance], include_background=True, spacing=along_the_array)
    assert found.dice == pytest.approx(compute_dice(*pair).item(), abs=1e-6)
    assert found.hd95 == pytest.approx(hd95.item(), rel=1e-5, abs=1e-6)
    assert found.surface_dice == pytest.approx(surface.item(), abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_figures_do_not_depend_on_which_comes_first(seed: int) -> None:
    a, b = random_blobs(seed), random_blobs(seed + 50)
    geometry = grid((14, 17, 20), (0.5, 1, 3))
    one, other = compare_masks(a, b, geometry), compare_masks(b, a, geometry)
    assert (one.dice, one.hd95, one.surface_dice) == (other.dice, other.hd95, other.surface_dice)
    assert (one.ml_a, one.ml_b) == (other.ml_b, other.ml_a)


def cube(shape: tuple[int, int, int], corner: tuple[int, int, int], side: int) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(start, start + side) for start in corner)] = True
    return mask


def test_two_shifted_cubes_have_the_figures_one_can_count() -> None:
    """Cubes of 10 voxels, one moved by 2 voxels of 1.5 mm along i: 8 of 10 sheets are shared."""
    a, b = cube((14, 14, 20), (2, 2, 2), 10), cube((14, 14, 20), (2, 2, 4), 10)
    geometry = grid((14, 14, 20), (1.5, 1, 1))
    found = compare_masks(a, b, geometry, tolerance_mm=1.5)
    assert found.dice == 0.8
    assert found.hd95 == pytest.approx(3.0)  # the end sheets, 100 of 488 surface voxels, are 3 mm away
    assert found.ml_a == found.ml_b == pytest.approx(1000 * 1.5 / 1000)
    # On each surface the end sheet is 3 mm out and the rim of the next is 1.5 mm out, which the tolerance allows; of
    # the sheet at the other end, inside the other cube, the inner 6 x 6 voxels are 2 voxels of 1 mm or more from its
    # sides and 3 mm from its end, the ring around them is 1 mm from its sides.
    assert found.surface_dice == pytest.approx(1 - (100 + 36) / 488)


def test_spacing_counts_along_the_axis_it_belongs_to() -> None:
    geometry = grid((9, 9, 9), (1, 10, 100))
    a = cube((9, 9, 9), (4, 4, 4), 1)
    for axis, distance in ((2, 1), (1, 10), (0, 100)):
        assert compare_masks(a, np.roll(a, 2, axis), geometry).hd95 == 2 * distance


def test_masks_that_are_empty_or_fill_the_grid_have_stated_figures() -> None:
    geometry = grid((3, 4, 5))
    empty, full = np.zeros((3, 4, 5), bool), np.ones((3, 4, 5), bool)
    both = compare_masks(empty, empty, geometry)
    assert (both.dice, both.hd95, both.surface_dice) == (1, 0, 1)
    for pair in ((empty, full), (full, empty)):
        one = compare_masks(*pair, geometry)
        assert (one.dice, one.hd95, one.surface_dice) == (0, math.inf, 0)
    same = compare_masks(full, full, geometry)
    assert (same.dice, same.hd95, same.surface_dice) == (1, 0, 1)
    there, _ = surface_distances(full, full, geometry.spacing)
    assert there.size == 60 - 1 * 2 * 3  # the end of the grid is an end of the mask


def test_a_missed_object_counts_as_the_diagonal_in_the_mean_distance() -> None:
    geometry = grid((4, 3, 12), (1, 1, 1))
    assert mean_hd95([1.0, math.inf], geometry) == pytest.approx((1 + 13) / 2)
    assert math.isnan(mean_hd95([], geometry))


def labels(*rows: list[int]) -> Volume:
    array = np.array(rows, np.uint8)[None]
    return Volume(array, grid((1, *array.shape[1:])))


A, B = labels([0, 1, 1, 2], [2, 2, 0, 1]), labels([0, 1, 2, 2], [0, 2, 1, 0])


def test_an_agreement_map_says_who_found_something_and_whether_it_is_the_same() -> None:
    none, only_a, only_b, both, other = Agreement
    assert agreement_map(A, B).array[0].tolist() == [[none, both, other, both], [only_a, both, only_b, only_a]]


def test_an_agreement_map_of_a_class_looks_at_that_class_alone() -> None:
    none, only_a, only_b, both, _ = Agreement
    assert agreement_map(A, B, 1).array[0].tolist() == [[none, both, only_a, none], [none, none, only_b, only_a]]
    assert agreement_map(A, B, 2).array[0].tolist() == [[none, none, only_b, both], [only_a, both, none, none]]


def test_a_confusion_matrix_counts_the_reference_along_rows() -> None:
    found = confusion_matrix(A, B, [1, 2])
    assert found.tolist() == [[1, 1, 1], [1, 1, 0], [0, 1, 2]]
    assert np.array_equal(confusion_matrix(B, A, [1, 2]), found.T)
    assert confusion_matrix(A, B, [2]).tolist() == [[1, 1], [0, 2]]  # voxels of other classes count nowhere


def oblique() -> Geometry:
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    return make_geometry((30, 25, 20), (0.8, 1.3, 2.1), turn, (11, -40, 70))


def test_regions_of_disagreement_have_known_sizes_and_centres_largest_first() -> None:
    geometry = oblique()
    a, b = np.zeros(geometry.shape, np.uint8), np.zeros(geometry.shape, np.uint8)
    a[2:5, 3:6, 4:7] = 1  # only in A, and a corner of it touches what is only in B
    b[5, 6, 7] = 1
    a[12:17, 10:13, 20:24] = 1
    b[12:17, 10:13, 20:24] = 2
    a[15, 20, 2] = b[15, 20, 2] = 1  # they agree
    large, small = disagreement_regions(Volume(a, geometry), Volume(b, geometry))
    assert (large.voxels, small.voxels) == (60, 28)
    assert large.ml == pytest.approx(60 * 0.8 * 1.3 * 2.1 / 1000)
    assert large.centre == pytest.approx(geometry.to_ras(np.array([21.5, 11.0, 14.0])))
    wanted = (27 * np.array([5.0, 4.0, 3.0]) + np.array([7.0, 6.0, 5.0])) / 28
    assert small.centre == pytest.approx(geometry.to_ras(wanted))


def test_segmentations_that_are_equal_have_no_region_of_disagreement() -> None:
    assert disagreement_regions(A, A) == []


def test_different_grids_are_refused_by_the_names_of_both() -> None:
    moved = Volume(A.array, make_geometry((4, 2, 1), (1, 1, 1), np.eye(3), (0, 0, 5)))
    for compare in (
        lambda: compare_classes(A, moved, {1: "Head"}),
        lambda: agreement_map(A, moved),
        lambda: confusion_matrix(A, moved, [1]),
        lambda: disagreement_regions(A, moved),
    ):
        with pytest.raises(UnsuitableVolume, match="different grids"):
            compare()
    with pytest.raises(UnsuitableVolume, match=r"mine has 4 x 2 x 1 .*\), yours has 4 x 2 x 1 .*, 5\)"):
        check_same_grid(A, moved, "mine", "yours")


def test_of_grids_that_differ_in_direction_alone_it_is_said_how_far_their_corners_lie_apart() -> None:
    upright, turned = (Volume(A.array, Geometry((1, 2, 4), np.diag(axes))) for axes in ([1, 1, 1, 1], [-1, -1, 1, 1]))
    with pytest.raises(UnsuitableVolume, match=r"their corners lie up to 6\.325 mm apart; resample"):
        check_same_grid(upright, turned)


def labelmap(volume: Volume, names: dict[int, str]) -> Labelmap:
    return Labelmap(volume, tuple(int(v) for v in np.unique(volume.array) if v), names)


def test_classes_of_two_files_are_matched_by_name_whatever_its_case_not_by_value() -> None:
    swapped = labels([0, 2, 2, 1], [1, 1, 0, 2])
    (a, b), names = in_common_classes([labelmap(A, {1: "Head", 2: "Body"}), labelmap(swapped, {2: "head", 1: "BODY "})])
    assert names == {1: "Head", 2: "Body"}
    assert np.array_equal(a.array, A.array)
    assert np.array_equal(b.array, A.array)


def test_a_class_only_one_file_names_gets_a_value_of_its_own() -> None:
    (a, b), names = in_common_classes([labelmap(A, {1: "Head", 2: "Body"}), labelmap(A, {1: "Tail", 2: "Head"})])
    assert names == {1: "Head", 2: "Body", 3: "Tail"}
    assert np.array_equal(a.array, A.array)
    assert np.array_equal(b.array == 3, A.array == 1)
    assert np.array_equal(b.array == 1, A.array == 2)


def test_the_largest_value_there_is_leaves_room_for_a_class_of_its_own() -> None:
    most = Volume(np.where(A.array == 2, np.uint16(65535), A.array), A.geometry)
    (a, b), names = in_common_classes([labelmap(most, {1: "x", 65535: "y"}), labelmap(A, {1: "z", 2: "x"})])
    assert names == {1: "x", 3: "z", 65535: "y"}
    assert np.array_equal(a.array, most.array)
    assert np.array_equal(b.array == 3, A.array == 1)


def test_labels_without_names_take_those_of_the_others_or_are_called_by_number() -> None:
    _, names = in_common_classes([labelmap(A, {}), labelmap(A, {1: "Head"})])
    assert names == {1: "Head", 2: "2"}
    _, names = in_common_classes([labelmap(A, {}), labelmap(A, {})])
    assert names == {1: "1", 2: "2"}
    _, names = in_common_classes([labelmap(A, {})], {1: "Left", 2: "Right"})
    assert names == {1: "Left", 2: "Right"}


def test_a_class_that_is_called_mean_is_told_from_the_mean_of_all() -> None:
    volumes, names = in_common_classes([labelmap(A, {1: "Head", 2: "mean"})] * 2)
    assert names == {1: "Head", 2: "mean (class)"}
    found = figures(compare_classes(*volumes, names), A.geometry)
    assert {"dice.mean", "dice.mean (class)"} < found.keys()


def test_what_a_file_has_no_name_for_is_left_out_and_told(tmp_path: Path) -> None:
    def written(name: str, volume: Volume, segments: dict[int, str]) -> Path:
        known = [Label(value, title, (1, 2, 3), {}) for value, title in segments.items()]
        write_volume(volume, tmp_path / name, segment_header(known, volume.geometry) if known else None)
        return tmp_path / name

    both = written("both.seg.nrrd", A, {1: "Head", 2: "Body"})
    (a, b), names, left_out = read_comparable([both, written("tail.seg.nrrd", A, {1: "Tail", 2: "body"})])
    assert (names, left_out) == ({2: "Body"}, ["Head", "Tail"])
    assert np.array_equal(a.array, np.where(A.array == 2, 2, 0))
    assert np.array_equal(b.array, a.array)
    (a, b), names, left_out = read_comparable([both, written("nameless.nrrd", A, {})])
    assert (names, left_out) == ({1: "Head", 2: "Body"}, [])
    assert np.array_equal(b.array, A.array)
    with pytest.raises(UnsuitableVolume, match=r"no class in common.*both.seg.nrrd: Head, Body; .*arm.seg.nrrd: Arm"):
        read_comparable([both, written("arm.seg.nrrd", A, {1: "Arm"})])


def test_names_are_read_from_the_segments_of_a_file(tmp_path: Path) -> None:
    segments = [Label(value, name, (1, 2, 3), {}) for value, name in ((2, "Kopf ä"), (5, "Body"), (6, "body"))]
    write_volume(A, tmp_path / "a.seg.nrrd", segment_header(segments, A.geometry))
    found = read_labelmap(tmp_path / "a.seg.nrrd")
    assert found.names == {2: "Kopf ä", 5: "Body (5)", 6: "body (6)"}
    assert found.values == (1, 2)
    assert np.array_equal(found.volume.array, A.array)


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (np.array([0, 0.5, 1]), "fractions"),
        (np.array([0, np.nan, 1]), "from nan"),
        (np.array([-1, 0, 1]), "from -1 to 1"),
        (np.array([0, 70000, 1]), "from 0 to 70000"),
        (np.arange(300), "300 different values"),
    ],
)
def test_an_image_is_not_taken_for_labels(array: np.ndarray, complaint: str, tmp_path: Path) -> None:
    write_volume(Volume(array[None, None], grid((1, 1, len(array)))), tmp_path / "image.nrrd")
    with pytest.raises(UnsuitableVolume, match=complaint):
        read_labelmap(tmp_path / "image.nrrd")


def test_whole_numbers_stored_as_floats_are_labels(tmp_path: Path) -> None:
    write_volume(Volume(A.array.astype(np.float32), A.geometry), tmp_path / "a.nii.gz")
    assert np.array_equal(read_labelmap(tmp_path / "a.nii.gz").volume.array, A.array)
