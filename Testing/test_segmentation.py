"""Labels come back on the input's own grid, whatever that grid is, and nothing odd goes unnoticed."""

from __future__ import annotations

import contextlib
import copy
import gc
import hashlib
import json
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ScaleEquivSegLib import devices, inference, segmentation
from ScaleEquivSegLib.bundles import bundled_models, read_bundle
from ScaleEquivSegLib.comparison import dice, dice_per_label
from ScaleEquivSegLib.devices import Precision, ever_thinner, run_where_it_fits
from ScaleEquivSegLib.errors import (
    BadBundle,
    Cancelled,
    OutOfMemory,
    UnavailableDevice,
    UnsuitableVolume,
    UnwritableOutput,
)
from ScaleEquivSegLib.inference import Mirror, WorkingImage, score_planes
from ScaleEquivSegLib.networks.sweep import Planes, whole
from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom
from ScaleEquivSegLib.provenance import provenance_path
from ScaleEquivSegLib.scaling import magnified
from ScaleEquivSegLib.segmentation import (
    Model,
    Settings,
    load_model,
    segment,
    working_image,
    write_segmentation,
)
from ScaleEquivSegLib.volume import Volume, make_geometry, resample
from training.fields import field
from untrained import class_scores, untrained

CPU = Settings(device="cpu")
# Training used the seeds from 0 and validation those from 100000.
UNSEEN = [PhantomSpec(seed=seed, size=(44, 40, 42)) for seed in range(300_000, 300_004)]


@pytest.fixture(scope="module")
def equivariant() -> Model:
    return load_model(read_bundle(bundled_models() / "phantom-se_unet"))


@pytest.fixture(scope="module")
def baseline() -> Model:
    return load_model(read_bundle(bundled_models() / "phantom-unet"))


@pytest.fixture(scope="module")
def agreement(equivariant: Model) -> Callable[[PhantomSpec], float]:
    """Mean Dice of both parts with the exact labels; checks that the labels lie on the input's own grid."""

    @cache
    def measured(spec: PhantomSpec) -> float:
        phantom = make_phantom(spec)
        found = segment(phantom.channels, equivariant, CPU).labels
        assert found.geometry is phantom.channels[0].geometry
        return float(np.mean(list(dice_per_label(found, phantom.labels, equivariant.bundle.labels).values())))

    return measured


def test_the_equivariant_network_finds_phantoms_it_never_saw(agreement: Callable[[PhantomSpec], float]) -> None:
    assert np.mean([agreement(spec) for spec in UNSEEN]) >= 0.95


OBLIQUE = ((0.8, -0.48, 0.36), (0.6, 0.64, -0.48), (0.0, 0.6, 0.8))
GRIDS = {
    "left-handed": {"direction": ((1, 0, 0), (0, 1, 0), (0, 0, -1))},
    "axes in another order": {"direction": ((0, 0, -1), (1, 0, 0), (0, 1, 0))},
    "oblique and left-handed": {"direction": tuple((a, b, -c) for a, b, c in OBLIQUE)},
    "oblique, left-handed and anisotropic": {
        "direction": tuple((a, -b, c) for a, b, c in OBLIQUE),
        "size": (56, 44, 36),
        "spacing": (0.8, 1.0, 1.2),
    },
}


@pytest.mark.parametrize("grid", GRIDS)
def test_labels_are_as_good_on_a_turned_grid_as_on_the_same_grid_upright(
    agreement: Callable[[PhantomSpec], float], grid: str
) -> None:
    upright = {key: value for key, value in GRIDS[grid].items() if key != "direction"}
    found, wanted = (
        np.mean([agreement(replace(spec, **changes)) for spec in UNSEEN]) for changes in (GRIDS[grid], upright)
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


@pytest.mark.parametrize("first", [2**-0.5, 0.5])
def test_scales_finer_than_a_voxel_are_swept_as_the_whole_image_would_be_seen(first: float) -> None:
    network = untrained("se_unet", scale_axis={"first": first, "ratio": 2**0.5, "count": 4})
    image = WorkingImage([field(20, 1.0, "natural", 3)[0, 0, :, :18, :15].numpy()], [np.asarray])
    whole = network(image.whole()[None])[0].numpy()
    for slab in (1, 5):
        assert np.allclose(class_scores(network, image, slab), whole, atol=1e-4)


@pytest.mark.parametrize("ended", ["done", "cancelled"])
def test_the_memory_of_a_run_goes_with_it_and_not_when_python_looks_for_cycles(
    equivariant: Model, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    rings: list[weakref.ref[Any]] = []
    keep = Planes._keep

    def kept(self: Planes, slab: torch.Tensor) -> None:
        keep(self, slab)
        rings.append(weakref.ref(self._ring))
        if ended == "cancelled" and len(rings) > 100:
            raise Cancelled

    monkeypatch.setattr(Planes, "_keep", kept)
    volume = make_phantom(PhantomSpec(seed=2, size=(20, 20, 20))).channels[0]
    gc.disable()
    try:
        with contextlib.suppress(Cancelled):
            segment([volume], equivariant, CPU)
        assert len(rings) > 100
        assert [ring for ring in rings if ring() is not None] == []
    finally:
        gc.enable()


def test_fewer_planes_are_computed_at_once_where_scales_finer_than_a_voxel_take_more_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inference, "bytes_for_a_slab", lambda device: 2**30)

    def planes(first: float) -> int:
        network = untrained("se_unet", scale_axis={"first": first, "ratio": 2**0.5, "count": 2})
        return inference._slab_that_fits(network, (512, 512, 800), whole((512, 512, 800)), 2, torch.device("cpu"))

    assert planes(1.0) == planes(2.0) > 7 * planes(0.5)


def test_a_torch_that_knows_no_numpy_finds_the_same(baseline: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise RuntimeError("Numpy is not available")  # what torch 2.2 says of numpy 2

    volume = make_phantom(PhantomSpec(seed=3, size=(40, 36, 20), spacing=(0.8, 1.2, 2.5))).channels[0]
    wanted = segment([volume], baseline, CPU).labels.array
    monkeypatch.setattr(torch, "from_numpy", unknown)
    monkeypatch.setattr(torch.Tensor, "numpy", unknown)
    monkeypatch.setattr(torch.Tensor, "__array__", unknown)
    equivariant = load_model(read_bundle(bundled_models() / "phantom-se_unet"))
    assert segment([volume], equivariant, CPU).labels.array.any()
    assert np.array_equal(segment([volume], baseline, CPU).labels.array, wanted)


def test_labels_come_back_to_the_grid_as_resampled_probabilities_would(equivariant: Model) -> None:
    volume = make_phantom(PhantomSpec(seed=3, size=(40, 36, 20), spacing=(0.8, 1.2, 2.5))).channels[0]
    image, working = working_image([volume], equivariant.bundle)
    scores = class_scores(equivariant.network, image)
    probabilities = torch.softmax(scores, 0).numpy().transpose(0, 3, 2, 1)
    # An independent way: SimpleITK interpolates each class's probability.
    wanted = np.stack([resample(Volume(p, working), volume.geometry).array for p in probabilities]).argmax(0)
    every_piece = replace(equivariant, bundle=replace(equivariant.bundle, in_one_piece=()))
    found = segment([volume], every_piece, CPU).labels.array
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
    result = segment([volume], equivariant, CPU)
    assert np.array_equal(result.labels.array, wanted)
    assert tried == [None, 8, 1]
    assert [w.partition(";")[0] for w in result.warnings] == ["cpu ran out of memory"] * 2


def test_no_memory_to_resample_is_no_unknown_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **settings: object) -> None:
        raise RuntimeError("Exception thrown in SimpleITK Resample: ... Failed to allocate memory for image.")

    monkeypatch.setattr(sitk, "Resample", never)
    phantom = make_phantom(PhantomSpec(size=(8, 8, 8))).channels[0]
    with pytest.raises(MemoryError, match="no memory for 16 x 16 x 16 voxels"):
        magnified(phantom, 2.0)


def test_where_no_memory_suffices_the_error_says_so(equivariant: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **settings: object) -> None:
        raise MemoryError

    monkeypatch.setattr(segmentation, "score_planes", never)
    with pytest.raises(OutOfMemory, match="crop the volume"):
        segment([make_phantom(PhantomSpec(size=(8, 8, 8))).channels[0]], equivariant, CPU)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_less_precision_changes_hardly_any_label(equivariant: Model, precision: Precision) -> None:
    volume = make_phantom(PhantomSpec(seed=2, size=(40, 40, 40))).channels[0]
    exact = segment([volume], equivariant, CPU).labels.array
    rounded = segment([volume], equivariant, Settings("cpu", precision=precision)).labels.array
    assert (rounded != exact).mean() < 1e-3
    assert rounded.any()


@pytest.mark.parametrize("orientation", ["RAS", "SLP", "AIR"])
def test_mirroring_gives_the_mirror_image_the_mirrored_labels(baseline: Model, orientation: str) -> None:
    turned = Model(replace(baseline.bundle, orientation=orientation), baseline.network)
    volume = make_phantom(PhantomSpec(seed=2, size=(40, 32, 36), spacing=(1, 1, 1))).channels[0]
    mirrored = Volume(volume.array[:, :, ::-1].copy(), volume.geometry)
    both = Settings("cpu", mirror=True)
    labels = segment([volume], turned, both).labels.array
    assert labels.any()
    assert np.array_equal(segment([mirrored], turned, both).labels.array, labels[:, :, ::-1])
    once = segment([volume], turned, CPU).labels.array
    assert not np.array_equal(segment([mirrored], turned, CPU).labels.array, once[:, :, ::-1])
    assert not np.array_equal(labels, once)


def test_in_a_mirror_the_left_side_is_the_right(baseline: Model) -> None:
    head, body = baseline.bundle.labels
    sides = (replace(head, opposite=body.name), replace(body, opposite=head.name))
    assert baseline.bundle.mirrored_classes == (0, 1, 2)
    assert replace(baseline.bundle, labels=sides).mirrored_classes == (0, 2, 1)
    scores = torch.arange(3.0).reshape(3, 1, 1, 1) + torch.tensor([0.1, 0.2]).reshape(1, 2, 1, 1)
    found = Mirror(0, (0, 2, 1)).scores(scores)
    torch.testing.assert_close(found[:, :, 0, 0], torch.tensor([[0.2, 0.1], [2.2, 2.1], [1.2, 1.1]]))


def test_mirroring_asks_the_bundle_which_labels_are_opposite(baseline: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Mirror | None] = []
    monkeypatch.setattr(segmentation, "score_planes", lambda *a: used.append(a[5]) or score_planes(*a))
    head, body = baseline.bundle.labels
    sides = (replace(head, opposite=body.name), replace(body, opposite=head.name))
    sided = Model(replace(baseline.bundle, labels=sides, orientation="SLP"), baseline.network)
    volume = make_phantom(PhantomSpec(seed=2, size=(12, 12, 12))).channels[0]
    segment([volume], sided, Settings("cpu", mirror=True))
    segment([volume], sided, CPU)
    assert used == [Mirror(1, (0, 2, 1)), None]


def test_mirroring_does_not_depend_on_the_planes_at_once_either(equivariant: Model) -> None:
    volume = make_phantom(PhantomSpec(seed=2, size=(40, 30, 32), spacing=(1.2, 1, 1))).channels[0]
    fractions: list[float] = []
    whole, thin = (
        segment(
            [volume],
            equivariant,
            Settings("cpu", slab=slab, mirror=True),
            lambda _, fraction: fractions.append(fraction),
        )
        for slab in (1000, 5)
    )
    assert np.array_equal(whole.labels.array, thin.labels.array)
    assert max(fractions) == 1


def test_a_deterministic_run_gives_the_same_bits_and_leaves_torch_as_it_was(equivariant: Model) -> None:
    volume = make_phantom(PhantomSpec(seed=2, size=(32, 32, 32))).channels[0]
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.allow_tf32
    first, second = (segment([volume], equivariant, Settings("cpu", deterministic=True)) for _ in range(2))
    assert np.array_equal(first.labels.array, second.labels.array)
    assert (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.allow_tf32) == before


@pytest.mark.parametrize("settings", [Settings("cpu", deterministic=True), Settings("cpu", slab=8)])
def test_a_deterministic_run_computes_as_much_at_once_however_much_memory_is_free(
    equivariant: Model, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "bytes_for_a_slab", None)  # calling it would be an error
    volume = make_phantom(PhantomSpec(seed=2, size=(16, 16, 16))).channels[0]
    assert segment([volume], equivariant, settings).labels.array.shape == (16, 16, 16)


def test_a_network_that_answers_with_what_is_no_number_is_refused(baseline: Model) -> None:
    network = copy.deepcopy(baseline.network)
    for weights in network.parameters():
        weights.data *= 1e25
    phantom = make_phantom(PhantomSpec(seed=2, size=(16, 16, 16)))
    with pytest.raises(BadBundle, match="what is no number"):
        segment(phantom.channels, Model(baseline.bundle, network), CPU)


def test_one_voxel_gone_wrong_does_not_spoil_the_others(equivariant: Model) -> None:
    phantom = make_phantom(PhantomSpec(seed=2, size=(44, 40, 42)))
    wanted = segment(phantom.channels, equivariant, CPU).labels.array
    values = phantom.channels[0].array.astype(np.float64)
    values[0, 0, 0] = 1e29
    found = segment([Volume(values, phantom.channels[0].geometry)], equivariant, CPU).labels.array
    assert (found != wanted).mean() < 1e-3


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


@pytest.mark.parametrize("name", ["case.nii.gz", "case.mha", "case.seg.nrrd"])
def test_every_format_has_its_provenance_in_the_header_or_beside_it(baseline: Model, tmp_path: Path, name: str) -> None:
    volume = make_phantom(PhantomSpec(seed=2, size=(24, 24, 24))).channels[0]
    result = segment([volume], baseline, replace(CPU, mirror=True))
    write_segmentation(result, tmp_path / name)
    beside = provenance_path(tmp_path / name)
    if beside:
        found = json.loads(beside.read_text())
        assert {path.name for path in tmp_path.iterdir()} == {name, "case.provenance.json"}
    else:
        image = sitk.ReadImage(str(tmp_path / name))
        found = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    assert found["ScaleEquivSeg_bundle_version"] == baseline.bundle.version
    assert found["ScaleEquivSeg_input_voxels_sha256"] == hashlib.sha256(volume.array.tobytes()).hexdigest()
    assert found["ScaleEquivSeg_mirror"] == "True"
    assert found["ScaleEquivSeg_torch"] == torch.__version__
    assert found["ScaleEquivSeg_simpleitk"].startswith("2.")


def test_what_a_file_says_of_its_origin_is_the_same_at_any_hour(baseline: Model) -> None:
    volume = make_phantom(PhantomSpec(seed=2, size=(12, 12, 12))).channels[0]
    first, second = (segment([volume], baseline, CPU).provenance() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("MemTotal: 9 kB\nMemAvailable:  800 kB\n", 100 * 1024),
        ("MemAvailable: 800000000 kB\n", devices.CPU_SLAB_BYTES),
        ("MemTotal: 9 kB\n", devices.CPU_SLAB_BYTES),
        (None, devices.CPU_SLAB_BYTES),
    ],
)
def test_a_slab_takes_a_share_of_the_free_memory(
    text: str | None, wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "MEMINFO", tmp_path / "meminfo")
    if text is not None:
        (tmp_path / "meminfo").write_text(text)
    assert devices.bytes_for_a_slab(torch.device("cpu")) == wanted


def test_a_device_that_lacks_an_operation_leaves_it_to_the_cpu() -> None:
    notes: list[str] = []

    def run(device: torch.device, slab: int | None) -> str:
        if device.type == "mps":
            raise NotImplementedError("'aten::slow' is not implemented for MPS")
        return device.type

    assert run_where_it_fits(run, torch.device("mps"), notes.append) == ("cpu", torch.device("cpu"))
    assert "aten::slow" in notes[0]
    assert "CPU computed" in notes[1]


def test_thinner_slabs_are_thinner_than_the_one_asked_for() -> None:
    tried: list[int | None] = []

    def run(device: torch.device, slab: int | None) -> None:
        tried.append(slab)
        raise MemoryError

    for asked in (2, 30):
        with pytest.raises(OutOfMemory):
            run_where_it_fits(run, torch.device("cpu"), lambda note: None, ever_thinner(asked))
    assert tried == [2, 1, 30, 8, 1]


def test_where_labels_cannot_be_written_no_word_about_them_stays(baseline: Model, tmp_path: Path) -> None:
    result = segment(make_phantom(PhantomSpec(size=(8, 8, 8))).channels, baseline, CPU)
    (tmp_path / "case.nii.gz").mkdir()
    with pytest.raises(UnwritableOutput):
        write_segmentation(result, tmp_path / "case.nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["case.nii.gz"]


def test_an_error_that_has_nothing_to_do_with_memory_is_not_tried_again() -> None:
    tried: list[str] = []

    def run(device: torch.device, slab: int | None) -> None:
        tried.append(device.type)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        run_where_it_fits(run, torch.device("cpu"), tried.append)
    assert tried == ["cpu"]


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
