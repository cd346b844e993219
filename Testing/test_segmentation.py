"""Labels come back on the input's own grid, whatever that grid is, and nothing odd goes unnoticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ScaleEquivSegLib import segmentation
from ScaleEquivSegLib.bundles import bundled_models, read_bundle
from ScaleEquivSegLib.comparison import dice, dice_per_label
from ScaleEquivSegLib.errors import Cancelled, OutOfMemory, UnavailableDevice, UnsuitableVolume
from ScaleEquivSegLib.inference import class_scores, score_planes
from ScaleEquivSegLib.phantom import Phantom, PhantomSpec, make_phantom
from ScaleEquivSegLib.segmentation import Model, Settings, load_model, segment, working_image, write_segmentation
from ScaleEquivSegLib.volume import Volume, make_geometry, resample

CPU = Settings(device="cpu")
# Training used the seeds from 0 and validation those from 100000.
UNSEEN = [300_000, 300_001, 300_002, 300_003]


@pytest.fixture(scope="module")
def equivariant() -> Model:
    return load_model(read_bundle(bundled_models() / "phantom-se_unet"))


@pytest.fixture(scope="module")
def baseline() -> Model:
    return load_model(read_bundle(bundled_models() / "phantom-unet"))


def agreement(phantom: Phantom, model: Model) -> float:
    """Mean Dice of both parts with the exact labels; checks that the labels lie on the input's own grid."""
    result = segment(phantom.channels, model, CPU)
    assert result.labels.geometry is phantom.channels[0].geometry
    return float(np.mean(list(dice_per_label(result.labels, phantom.labels, model.bundle.labels).values())))


def test_the_equivariant_network_finds_phantoms_it_never_saw(equivariant: Model) -> None:
    assert np.mean([agreement(make_phantom(PhantomSpec(seed=seed)), equivariant) for seed in UNSEEN]) >= 0.95


OBLIQUE = ((0.8, -0.48, 0.36), (0.6, 0.64, -0.48), (0.0, 0.6, 0.8))
GRIDS = {
    "left-handed": {"direction": ((1, 0, 0), (0, 1, 0), (0, 0, -1))},
    "axes in another order": {"direction": ((0, 0, -1), (1, 0, 0), (0, 1, 0))},
    "oblique and left-handed": {"direction": tuple((a, b, -c) for a, b, c in OBLIQUE)},
    "oblique, left-handed and anisotropic": {
        "direction": tuple((a, -b, c) for a, b, c in OBLIQUE),
        "size": (80, 64, 54),
        "spacing": (0.8, 1.0, 1.2),
    },
}


@pytest.mark.parametrize("grid", GRIDS)
def test_labels_are_as_good_on_a_turned_grid_as_on_the_same_grid_upright(equivariant: Model, grid: str) -> None:
    upright = {key: value for key, value in GRIDS[grid].items() if key != "direction"}
    found, wanted = (
        np.mean([agreement(make_phantom(PhantomSpec(seed=seed, **spec)), equivariant) for seed in UNSEEN[:2]])
        for spec in (GRIDS[grid], upright)
    )
    assert found >= wanted - 0.01


def test_a_volume_stored_in_another_order_gets_the_same_labels_in_that_order(baseline: Model) -> None:
    volume = make_phantom(PhantomSpec(seed=1, size=(32, 30, 28), spacing=(1, 1, 1))).channels[0]
    flipped = volume.geometry.ijk_to_ras @ np.array(
        [[-1, 0, 0, volume.geometry.size[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    mirrored = Volume(volume.array[:, :, ::-1], type(volume.geometry)(volume.geometry.shape, flipped))
    labels = segment([volume], baseline, CPU).labels.array
    assert np.array_equal(segment([mirrored], baseline, CPU).labels.array, labels[:, :, ::-1])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
def test_the_type_and_range_of_the_numbers_do_not_matter(baseline: Model, dtype: str) -> None:
    volume = make_phantom(PhantomSpec(seed=1, size=(32, 32, 32), spacing=(2, 2, 2))).channels[0]
    as_bytes = np.clip(volume.array // 5, 0, 255)
    wanted = segment([Volume(as_bytes.astype(np.float32), volume.geometry)], baseline, CPU)
    found = segment([Volume(as_bytes.astype(dtype), volume.geometry)], baseline, CPU)
    assert np.array_equal(found.labels.array, wanted.labels.array)
    assert found.labels.array.dtype == np.uint8


@pytest.mark.parametrize("size", [(1, 1, 1), (40, 30, 1), (1, 50, 3)])
def test_a_volume_smaller_than_the_network_sees_is_segmented_in_its_own_shape(
    equivariant: Model, size: tuple[int, int, int]
) -> None:
    geometry = make_geometry(size, (1, 1, 4), np.eye(3), (0, 0, 0))
    values = np.random.default_rng(0).normal(size=geometry.shape)
    result = segment([Volume(values, geometry)], equivariant, CPU)
    assert result.labels.array.shape == geometry.shape


@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_volume_gives_an_empty_segmentation_and_says_so(equivariant: Model, value: int) -> None:
    geometry = make_geometry((9, 8, 7), (1, 1, 1), np.eye(3), (0, 0, 0))
    result = segment([Volume(np.full(geometry.shape, value, np.int16), geometry)], equivariant, CPU)
    assert not result.labels.array.any()
    assert "same value everywhere" in result.warnings[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_counted_and_refused(equivariant: Model, value: float) -> None:
    geometry = make_geometry((9, 8, 7), (1, 1, 1), np.eye(3), (0, 0, 0))
    values = np.ones(geometry.shape)
    values[0, :2, 0] = value
    with pytest.raises(UnsuitableVolume, match="2 of 504 voxels"):
        segment([Volume(values, geometry)], equivariant, CPU)


def test_a_wrong_number_of_channels_is_refused_with_the_names_wanted(equivariant: Model) -> None:
    with pytest.raises(UnsuitableVolume, match=r"takes 1 volume\(s\) \(T1\), got 0"):
        segment([], equivariant, CPU)


def test_a_device_this_machine_lacks_is_refused(equivariant: Model) -> None:
    volume = make_phantom(PhantomSpec(size=(8, 8, 8))).channels[0]
    with pytest.raises(UnavailableDevice, match="toaster"):
        segment([volume], equivariant, Settings(device="toaster"))
    with pytest.raises(UnavailableDevice, match="cuda:99"):
        segment([volume], equivariant, Settings(device="cuda:99"))


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.8, 1.2, 2.5)])
def test_the_number_of_planes_at_once_does_not_change_the_labels(
    equivariant: Model, spacing: tuple[float, float, float]
) -> None:
    volume = make_phantom(PhantomSpec(seed=2, size=(40, 36, 34), spacing=spacing)).channels[0]
    whole = segment([volume], equivariant, Settings("cpu", slab=1000)).labels.array
    for slab in (3, 16):
        assert np.array_equal(segment([volume], equivariant, Settings("cpu", slab=slab)).labels.array, whole)
    assert whole.any()


def test_labels_come_back_to_the_grid_as_resampled_probabilities_would(equivariant: Model) -> None:
    volume = make_phantom(PhantomSpec(seed=3, size=(40, 36, 20), spacing=(0.8, 1.2, 2.5))).channels[0]
    image, working = working_image([volume], equivariant.bundle)
    scores = torch.from_numpy(class_scores(equivariant.network, image, torch.device("cpu")))
    probabilities = torch.softmax(scores, 0).numpy().transpose(0, 3, 2, 1)
    # An independent way: SimpleITK interpolates each class's probability.
    wanted = np.stack([resample(Volume(p, working), volume.geometry).array for p in probabilities]).argmax(0)
    found = segment([volume], equivariant, CPU).labels.array
    assert wanted.any()
    assert (found != wanted).mean() < 1e-4  # voxels whose two best probabilities are equal to six digits


def test_a_device_out_of_memory_is_given_less_at_once_and_then_left(
    equivariant: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = make_phantom(PhantomSpec(seed=2, size=(20, 20, 20))).channels[0]
    wanted = segment([volume], equivariant, CPU).labels.array
    tried = []

    def only_thin_slabs(*arguments: object, **settings: object) -> object:
        tried.append(arguments[4])
        if arguments[4] != 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return score_planes(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(segmentation, "score_planes", only_thin_slabs)
    assert np.array_equal(segment([volume], equivariant, CPU).labels.array, wanted)
    assert tried == [None, 8, 1]


def test_where_no_memory_suffices_the_error_says_so(equivariant: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **settings: object) -> None:
        raise MemoryError

    monkeypatch.setattr(segmentation, "score_planes", never)
    with pytest.raises(OutOfMemory, match="crop the volume"):
        segment([make_phantom(PhantomSpec(size=(8, 8, 8))).channels[0]], equivariant, CPU)


def test_less_precision_changes_hardly_any_label(equivariant: Model) -> None:
    volume = make_phantom(PhantomSpec(seed=2)).channels[0]
    exact = segment([volume], equivariant, CPU).labels.array
    rounded = segment([volume], equivariant, Settings("cpu", precision="bfloat16")).labels.array
    assert 0 < (rounded != exact).mean() < 1e-3


def test_a_run_can_be_stopped_from_its_progress(baseline: Model) -> None:
    def stop(phase: str, fraction: float) -> None:
        if phase == "Segmenting":
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        segment(make_phantom(PhantomSpec(size=(16, 16, 16))).channels, baseline, CPU, stop)


def test_volumes_in_millilitres_are_voxels_times_their_size(baseline: Model) -> None:
    phantom = make_phantom(PhantomSpec(seed=2, size=(40, 40, 30), spacing=(1.5, 1.5, 2)))
    result = segment(phantom.channels, baseline, CPU)
    assert result.ml["Head"] == pytest.approx((result.labels.array == 1).sum() * 1.5 * 1.5 * 2 / 1000)


def test_a_written_segmentation_says_what_it_is_and_where_it_comes_from(baseline: Model, tmp_path: Path) -> None:
    result = segment(make_phantom(PhantomSpec(seed=2)).channels, baseline, CPU)
    write_segmentation(result, tmp_path / "case.seg.nrrd")
    image = sitk.ReadImage(str(tmp_path / "case.seg.nrrd"))
    assert image.GetMetaData("ScaleEquivSeg_bundle") == "phantom-unet"
    assert image.GetMetaData("ScaleEquivSeg_weights_sha256") == baseline.bundle.sha256
    assert [image.GetMetaData(f"Segment{n}_Name") for n in (0, 1)] == ["Head", "Body"]
    assert np.array_equal(sitk.GetArrayFromImage(image), result.labels.array)


def test_dice_of_masks() -> None:
    a, b = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert dice(a, b) == 0.5
    assert dice(a, a) == 1
    assert dice(a, ~a) == 0
    assert dice(a & ~a, a & ~a) == 1


def test_segmentations_on_different_grids_are_not_compared(baseline: Model) -> None:
    one, other = (
        make_phantom(PhantomSpec(size=(8, 8, 8), spacing=spacing)).labels for spacing in ((1, 1, 1), (1, 1, 1.1))
    )
    with pytest.raises(UnsuitableVolume, match="different grids"):
        dice_per_label(one, other, baseline.bundle.labels)
