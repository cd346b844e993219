"""Random crops: image and labels stay together however they are turned, mirrored and magnified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import GaussianSmooth
from torch import Tensor

from training import augmentation
from training.augmentation import Augmenter, magnification
from training.config import Augmentation, BadConfig, FitConfig, load_config
from training.data import Numbers, Samples
from training.export import read_card_text
from training.preparation import Example, Task

CONFIGS = Path(__file__).parents[1] / "training" / "configs"
PLAIN = Augmentation(mirror="none", intensity=0.0, noise=0.0)
CROP = (12, 10, 14)


@pytest.fixture(scope="module")
def sided() -> Task:
    """A task with a right and a left parotid, labels 3 and 4, and voxels that may be turned any way."""
    return replace(Task.from_card(read_card_text(CONFIGS / "headneck_ct.card.yaml")), spacing=(1.5, 1.5, 1.5))


def an_example(*blocks: tuple[int, tuple[slice, slice, slice]], unlabelled: tuple[int, ...] = ()) -> Example:
    """Blocks of labels; the image shows the label, and where along x it is."""
    label = torch.zeros(1, 20, 24, 22, dtype=torch.uint8)
    for value, where in blocks:
        label[0][where] = value
    return Example("case", label.float(), label, unlabelled)


def a_block(x: int) -> tuple[slice, slice, slice]:
    return slice(x, x + 5), slice(8, 16), slice(7, 15)


def samples(how: Augmentation, task: Task, example: Example, crop: Any = CROP, count: int = 12) -> list[Any]:
    augment = Augmenter(task, crop, how)
    return [augment(example, np.random.default_rng(number)) for number in range(count)]


def test_a_crop_that_is_only_moved_shows_voxels_as_they_are(sided: Task) -> None:
    random = torch.rand(1, 20, 24, 22, generator=torch.Generator().manual_seed(0))
    example = replace(an_example((1, a_block(8))), image=random)
    known = set(random.flatten().tolist())
    crops = samples(PLAIN, sided, example)
    for sample in crops:
        assert sample["image"].shape == (1, *CROP)
        assert sample["label"].shape == (1, *CROP)
        inside = sample["label"][0] == 1
        shown = set(sample["image"][0][inside].tolist())
        assert all(min(abs(v - value) for value in known) < 1e-5 for v in list(shown)[:5])
    assert sum(bool((sample["label"] == 1).any()) for sample in crops) >= 6


def _agreement(sample: Any) -> float:
    """The share of voxels whose image value, rounded, is the label's."""
    agrees: Tensor = sample["image"][0].round() == sample["label"][0]
    return float(agrees.float().mean())


@pytest.mark.parametrize(
    "how",
    [
        replace(PLAIN, rotation=30.0),
        replace(PLAIN, quarter_turns=True),
        replace(PLAIN, scale=(0.7, 1.5)),
        replace(PLAIN, mirror="all", rotation=15.0, quarter_turns=True),
    ],
)
def test_labels_move_with_the_image(how: Augmentation, sided: Task) -> None:
    example = an_example((1, a_block(8)))
    crops = samples(how, sided, example)
    # Where the image is blurred or interpolated, a border voxel may round either way.
    assert min(_agreement(sample) for sample in crops) > 0.9
    assert np.mean([_agreement(sample) for sample in crops]) > 0.97


def test_what_is_shown_with_larger_voxels_stays_where_it_is(sided: Task) -> None:
    places = torch.stack(torch.meshgrid(*(torch.arange(25.0) for _ in range(3)), indexing="ij"))
    blob = torch.exp(-(((places - 12) / 4) ** 2).sum(0, keepdim=True))
    example = Example("case", blob, (blob > 0.5).byte())
    shown = [sample["image"] for sample in samples(replace(PLAIN, blur=2.0, beyond=0.0), sided, example, (25,) * 3, 40)]
    coarse = [image for image in shown if not torch.allclose(image, blob, atol=1e-4)]
    assert len(coarse) > 5
    for image in coarse:
        assert torch.allclose((places * image).sum((1, 2, 3)) / image.sum(), torch.tensor(12.0), atol=0.02)


def lengths(positions: Tensor, task: Task) -> np.ndarray:
    """How far apart in millimetres neighbours along each axis of a crop lie, from the indices it shows."""
    places = positions.double().numpy() * np.array(task.spacing).reshape(3, 1, 1, 1)
    return np.array([np.linalg.norm(np.diff(places, axis=axis).mean((1, 2, 3))) for axis in (1, 2, 3)])


def test_a_turn_leaves_anatomy_as_long_as_it_is_whatever_its_voxels_measure(sided: Task) -> None:
    task = replace(sided, spacing=(4.7, 4.7, 3.0))
    nowhere = torch.zeros(1, 40, 40, 40, dtype=torch.uint8)
    along = torch.stack(torch.meshgrid(*3 * [torch.arange(40.0)], indexing="ij"))
    how = replace(PLAIN, rotation=40.0)
    inside = 0
    for number in range(40):
        random = np.random.default_rng(number)
        positions = Augmenter(task, (5, 5, 5), how)(Example("case", along, nowhere), random)["image"]
        if positions.min() > 8 and positions.max() < 31:  # else it may leave the image, and show it mirrored
            inside += 1
            np.testing.assert_allclose(lengths(positions, task), task.spacing, rtol=1e-4)
    assert inside > 2


@pytest.mark.parametrize(("mirror", "poses", "mirrored"), [("none", 24, 0), ("left_right", 48, 24), ("all", 48, 24)])
def test_quarter_turns_show_every_pose_of_a_cube_and_mirror_nothing_unasked(
    mirror: Any, poses: int, mirrored: int, sided: Task
) -> None:
    augment = Augmenter(sided, CROP, replace(PLAIN, quarter_turns=True, mirror=mirror))
    seen = {}
    for seed in range(600):
        turn, is_mirrored = augment._turn(np.random.default_rng(seed))
        seen[tuple(turn.round(6).ravel().tolist())] = is_mirrored
        assert is_mirrored == (np.linalg.det(turn) < 0)
    assert (len(seen), sum(seen.values())) == (poses, mirrored)


def test_quarter_turns_of_voxels_that_are_no_cubes_are_refused() -> None:
    with pytest.raises(BadConfig, match=r"augmentation\.quarter_turns .* have 4\.6875 x 4\.6875 x 3\.0 mm"):
        load_config(CONFIGS / "headneck_ct_unet.yaml", ["augmentation.quarter_turns=true"])


def test_a_mirror_makes_of_a_right_structure_a_left_one(sided: Task) -> None:
    example = an_example((3, a_block(1)), (4, a_block(14)), unlabelled=(1,))
    values = set()
    for sample in samples(replace(PLAIN, mirror="left_right"), sided, example, crop=(40, 24, 22), count=16):
        inside = sample["label"][0] > 0
        drawn, shown = sample["label"][0][inside].int(), sample["image"][0][inside].round().int()
        assert torch.equal(drawn, shown) or torch.equal(drawn, 7 - shown)
        values.add(bool(torch.equal(drawn, shown)))
        assert sample["unlabelled"].nonzero().flatten().tolist() == [1]
    assert values == {True, False}


def test_only_a_share_of_the_crops_is_rotated_and_the_others_show_voxels_as_they_are(sided: Task) -> None:
    random = torch.rand(1, 20, 24, 22, generator=torch.Generator().manual_seed(0))
    example = replace(an_example((1, a_block(8))), image=random)

    def share_rotated(rotated: float) -> float:
        how = replace(PLAIN, rotation=20, rotated=rotated, beyond=0.0)
        edges = torch.stack([each["image"][0, :, 0, 0] for each in samples(how, sided, example, count=200)])
        as_scanned = torch.isclose(edges[..., None], random.flatten(), atol=1e-5).any(-1).all(-1)
        return 1 - float(as_scanned.float().mean())

    assert share_rotated(1.0) > 0.9
    assert share_rotated(0.25) == pytest.approx(0.25, abs=0.08)


def test_a_sample_is_a_plain_tensor_that_drags_no_notes_through_the_network(sided: Task) -> None:
    how = replace(PLAIN, intensity=0.2, noise=0.1, blur=2.0, scale=(0.4, 0.5))
    for sample in samples(how, sided, an_example((1, a_block(8))), count=3):
        assert type(sample["image"]) is Tensor
        assert type(sample["label"]) is Tensor


def test_a_side_that_nobody_looked_for_is_the_other_one_in_a_mirror(sided: Task) -> None:
    example = an_example((4, a_block(8)), unlabelled=(3,))
    for sample in samples(replace(PLAIN, mirror="left_right"), sided, example, crop=(30, 24, 22)):
        (missing,) = sample["unlabelled"].nonzero().flatten().tolist()
        assert set(sample["label"].unique().tolist()) <= {0, 7 - missing}


def test_what_is_magnified_has_so_many_more_voxels(sided: Task) -> None:
    example = an_example((1, (slice(8, 12), slice(10, 14), slice(9, 13))))
    voxels = 4**3
    for factor in (0.75, 1.5, 2.0):
        how = replace(PLAIN, scale=(factor, factor))
        found = [int((s["label"] == 1).sum()) for s in samples(how, sided, example, crop=(90, 90, 90))]
        # In a third of the crops what lies beyond the image is its reflection, with the object again.
        assert np.median(found) == pytest.approx(voxels * factor**3, rel=0.35)


def test_crops_lie_in_the_image_but_for_the_share_that_may_lie_beyond(sided: Task) -> None:
    # Shorter than the crop along z.
    image = 1 + torch.rand(1, 30, 24, 12, generator=torch.Generator().manual_seed(0))
    example = Example("case", image, torch.zeros(1, 30, 24, 12, dtype=torch.uint8))

    def shares(beyond: float) -> list[float]:
        drawn = samples(replace(PLAIN, beyond=beyond), sided, example, crop=(16, 16, 16), count=200)
        filled = [float((sample["image"] > 0.5).float().mean()) for sample in drawn]
        return [share for share in filled if share < 1]  # elsewhere is the border's value, or a reflection

    # All of the image's 12 planes are in the crop of 16; elsewhere there is nothing but the image.
    assert set(shares(0.0)) == {12 / 16}
    assert min(shares(0.5)) < 0.4


@pytest.mark.parametrize("factor", [0.3, 0.8])
def test_a_crop_of_a_blurred_part_is_that_of_the_blurred_image(
    factor: float, sided: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = torch.rand(2, 50, 24, 41, generator=torch.Generator().manual_seed(0))
    example = Example("case", image, torch.zeros(1, 50, 24, 41, dtype=torch.uint8))
    how, crop = replace(PLAIN, scale=(factor, factor), rotation=20.0), (8, 8, 6)
    cut = samples(how, sided, example, crop, count=30)
    smooth = GaussianSmooth(0.4 * (factor**-2 - 1) ** 0.5)(image)
    monkeypatch.setattr("training.augmentation._blurred", lambda image, coarser, places: smooth)
    for one, whole in zip(cut, samples(how, sided, example, crop, count=30), strict=True):
        torch.testing.assert_close(one["image"], torch.Tensor(whole["image"]), atol=1e-6, rtol=0)


def test_no_more_of_an_image_is_blurred_than_a_crop_shows(sided: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    blurred = []
    filtered = augmentation._filtered
    monkeypatch.setattr(augmentation, "_filtered", lambda image, k: blurred.append(image.shape) or filtered(image, k))
    example = Example("case", torch.zeros(1, 90, 90, 90), torch.zeros(1, 90, 90, 90, dtype=torch.uint8))
    samples(replace(PLAIN, scale=(0.5, 0.5)), sided, example, (8, 8, 8))
    # 8 voxels twice as large, and the filter's reach at either end.
    assert max(max(shape) for shape in blurred) <= 8 * 2 + 2 * 4


def test_crops_may_be_magnified_evenly_or_by_octaves_and_only_a_share_of_them() -> None:
    def factors(**settings: Any) -> np.ndarray:
        how = Augmentation(scale=(0.5, 2.0), **settings)
        return np.array([magnification(how, np.random.default_rng(number)) for number in range(2000)])

    assert np.median(factors()) == pytest.approx(1, abs=0.1)
    assert np.median(factors(scale_drawn="evenly")) == pytest.approx(1.25, abs=0.1)
    some = factors(scale_drawn="evenly", scaled=2 / 3)
    assert (some == 1).mean() == pytest.approx(1 / 3, abs=0.05)
    assert some.min() >= 0.5
    assert some.max() <= 2


def test_every_class_is_cropped_around_and_a_third_of_the_crops_are_anywhere(sided: Task) -> None:
    corner = slice(0, 2), slice(0, 2), slice(0, 2)
    other = slice(18, 20), slice(22, 24), slice(20, 22)
    crops = samples(PLAIN, sided, an_example((1, corner), (2, other)), crop=(4, 4, 4), count=300)
    seen = [{int(value) for value in sample["label"].unique()} - {0} for sample in crops]
    assert sum({1} <= each for each in seen) > 50
    assert sum({2} <= each for each in seen) > 50
    assert 60 < sum(not each for each in seen) < 160


def test_a_sample_follows_from_the_seed_and_its_number_alone(sided: Task) -> None:
    how = Augmentation(rotation=10, blur=2, intensity=0.3)
    cases = [an_example((1, a_block(x))) for x in (2, 6, 10)]

    def drawn(seed: int, *numbers: int) -> list[Tensor]:
        of = Samples(cases, Augmenter(sided, CROP, how), seed)
        return [of[number]["image"] for number in numbers]

    first, again = drawn(0, 5, 6, 7), drawn(0, 7, 6, 5)[::-1]
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], drawn(1, 5)[0])
    assert not torch.equal(first[0], drawn(0, 8)[0])


def test_processes_share_the_numbers_of_an_epoch_between_them() -> None:
    fit = FitConfig(batch=4, checkpoint_every=3)
    whole, *shares = Numbers(fit), Numbers(fit, 0, 2), Numbers(fit, 1, 2)
    for numbers in (whole, *shares):
        numbers.set_epoch(2)
    assert list(whole) == list(range(24, 36))
    assert sorted(list(shares[0]) + list(shares[1])) == list(whole)
    assert len(shares[0]) == len(list(shares[0]))
