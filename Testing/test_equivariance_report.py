"""The report measures what it says: exact followers get 0 or 1, and what does not follow is seen."""

from __future__ import annotations

import functools
import json
import sys
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from ScaleEquivSegLib.bundles import bundled_models, read_bundle
from ScaleEquivSegLib.networks import UNet
from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom
from ScaleEquivSegLib.scaling import largest, magnified, magnified_labels
from ScaleEquivSegLib.segmentation import load_model
from ScaleEquivSegLib.volume import write_volume
from training import equivariance
from training.__main__ import main
from training.ablation import VARIANTS, CutJet, ablate, turned_residual
from training.equivariance import correlations, image_source, layer_figures, moved_axis, random_source, trace
from training.equivariance_report import dice_with_itself, untrained
from training.fields import correlation, field, relative_difference


@pytest.fixture(autouse=True)
def small_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivariance, "SIZE", 61)


def test_a_field_at_half_the_scale_has_every_second_value() -> None:
    large, small = field(40, 2.0, "natural", 3), field(40, 1.0, "natural", 3)
    assert torch.allclose(large[..., ::2, ::2, ::2], small[..., :20, :20, :20], atol=1e-5)


def test_a_white_field_has_unit_variance_and_a_natural_one_is_smoother() -> None:
    white, natural = field(32, 1.0, "white"), field(32, 1.0, "natural")
    assert white.std().item() == pytest.approx(1, abs=0.05)
    assert correlation(natural[..., 1:], natural[..., :-1]) > 0.5 > correlation(white[..., 1:], white[..., :-1])


@functools.cache
def figures_of_layers(colour: str) -> Mapping[str, float]:
    return layer_figures(colour, seed=0)


@pytest.mark.parametrize(("colour", "bound"), [("natural", 3e-5), ("white", 3e-4)])
def test_single_convolutions_follow_and_the_control_does_not(colour: str, bound: float) -> None:
    figures = figures_of_layers(colour)
    assert figures[f"lift.{colour}.delta"] <= bound
    assert figures[f"scale_conv.{colour}.delta"] <= bound
    assert figures[f"control.{colour}.delta"] > 100 * bound


class Threshold(torch.nn.Module):
    """Looks at each voxel alone, so it follows any change of scale."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = torch.nn.Identity()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.tanh(image)


class Position(Threshold):
    """Looks at where a voxel is, so it follows nothing."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.sin(torch.arange(image.shape[-1])).expand_as(image)


def test_the_correlation_tells_who_follows_from_who_does_not() -> None:
    source = random_source("natural", seed=0)
    assert min(correlations(Threshold(), source, (0.9, 0.7, 0.5, 1.4)).values()) > 0.95
    assert max(correlations(Position(), source, (0.9, 0.7, 0.5, 1.4)).values()) < 0.5


def test_a_stride_without_a_blur_and_the_published_lifting_follow_worse() -> None:
    figures = figures_of_layers("white")
    assert figures["plain_stride.white.delta"] > 30 * figures["stride.white.delta"]
    assert figures["published_lift.white.delta"] > 100 * figures["lift.white.delta"]


def two_scales(name: str = "se_unet") -> UNet:
    network = untrained(name, 0, {"channels": (4, 8), "scale_axis": {"ratio": 2**0.5, "count": 2}})
    assert isinstance(network, UNet)
    return network


def test_the_error_after_every_step_names_the_step_that_does_not_follow() -> None:
    network, source = two_scales(), random_source("natural", seed=0)
    good = trace(network, source, 0.9)
    assert next(iter(good)) == "layer.encoder.0.0.conv.delta@0.9"
    assert {"layer.down#1.delta@0.9", "layer.up#1.delta@0.9", "layer.decoder.0.delta@0.9"} <= set(good)
    assert max(good.values()) < 3e-3

    network.encoder[1][0].activation = torch.nn.Dropout(0.5).train()  # type: ignore[index]
    bad = trace(network, source, 0.9)
    before = list(good)[: list(good).index("layer.encoder.1.0.delta@0.9")]
    assert all(bad[name] == good[name] for name in before)
    assert bad["layer.encoder.1.0.delta@0.9"] > 30 * good["layer.encoder.1.0.delta@0.9"]


def test_a_scale_axis_moves_only_for_a_while() -> None:
    network = two_scales()
    axis = network.axis
    with moved_axis(network, 0.5):
        assert network.axis.first == 0.5
    assert network.axis == axis


def test_a_given_image_is_rescaled_like_a_field() -> None:
    source = image_source(field(61, 1.0, "natural"))
    for scale in (0.7, 1.4):
        found, wanted = source(scale), field(61, scale, "natural")
        inner = slice(12, min(found.shape[-1], 61) - 12)
        assert relative_difference(found[..., inner, inner, inner], wanted[..., inner, inner, inner]) < 2e-2


def test_the_ablation_shows_what_a_width_below_one_costs() -> None:
    chosen = tuple(v for v in VARIANTS if v.name in ("as built", "sigma 0.5"))
    figures = ablate(seed=0, variants=chosen)
    for key in ("group.delta@0.9", "white.group.delta@0.9"):
        assert figures[f"sigma 0.5: {key}"] > 10 * figures[f"as built: {key}"]
    assert len({v.name for v in VARIANTS}) == len(VARIANTS)


def test_a_complete_jet_can_be_turned_and_a_cut_one_cannot() -> None:
    assert turned_residual(CutJet(order=2, kept=10)) < 1e-10
    assert turned_residual(CutJet(order=4)) > 0.5
    assert len(CutJet(order=4).orders) == 27


def test_the_command_prints_a_table_draws_the_error_and_writes_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image, table, picture = tmp_path / "image.nrrd", tmp_path / "figures.json", tmp_path / "error.png"
    write_volume(make_phantom(PhantomSpec(seed=1, size=(40, 38, 36))).channels[0], image)
    arguments = ["equivariance", "--network", "unet", "--image", image, "--json", table, "--figure", picture]
    monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
    main()
    figures = json.loads(table.read_text())
    assert set(figures) == {f"unet.correlation@{scale}" for scale in ("0.9", "0.8", "0.7", "0.5", "1.4")}
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["x0.9", "x0.8", "x0.7", "x0.5", "x1.4"]
    assert row.split()[0] == "unet.correlation"
    assert picture.stat().st_size > 10_000


def test_a_bundle_of_several_channels_takes_an_image_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [tmp_path / f"{number}.nrrd" for number in range(4)]
    phantom = make_phantom(PhantomSpec(seed=1, size=(40, 38, 36), channels=4))
    for path, channel in zip(images, phantom.channels, strict=True):
        write_volume(channel, path)
    arguments = ["training", "equivariance", "--bundle", str(bundled_models() / "phantom-4ch-unet"), "--image"]
    monkeypatch.setattr(sys, "argv", [*arguments, *map(str, images)])
    main()
    assert "dice_with_itself" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*arguments, *map(str, images[:3])])
    with pytest.raises(SystemExit):
        main()
    assert "takes 4 volume(s) (T1, T1ce, T2, FLAIR), got 3" in capsys.readouterr().err


def test_untrained_networks_take_one_image(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["training", "equivariance", "--image", "a.nrrd", "b.nrrd"])
    with pytest.raises(SystemExit):
        main()
    assert "one --image" in capsys.readouterr().err


def test_magnifying_by_one_changes_nothing() -> None:
    phantom = make_phantom(PhantomSpec(seed=1, size=(20, 18, 16)))
    volume = phantom.channels[0]
    assert np.array_equal(magnified(volume, 1.0).array, volume.array)
    assert np.array_equal(magnified_labels(phantom.labels, 1.0, 2).array, phantom.labels.array)


def test_magnifying_enlarges_the_contents_about_the_centre() -> None:
    small = make_phantom(PhantomSpec(seed=1, size=(64, 64, 64))).labels
    wanted = make_phantom(PhantomSpec(seed=1, size=(96, 96, 96), scale=1.5)).labels
    found = magnified_labels(small, 1.5, 2)
    assert found.geometry.agrees_with(wanted.geometry)
    assert (found.array == wanted.array).mean() > 0.995
    assert found.array.any()


def test_of_many_classes_one_mask_at_a_time_is_in_memory_and_the_first_of_equal_ones_wins() -> None:
    random = np.random.default_rng(0)
    masks = random.integers(3, size=(40, 30, 30, 30)).astype(np.float32)
    tracemalloc.start()
    try:
        found = largest(mask.copy() for mask in masks)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(found, masks.argmax(0))
    assert peak < 6 * masks[0].nbytes


def test_a_bundle_agrees_with_itself_where_nothing_is_rescaled() -> None:
    model = load_model(read_bundle(bundled_models() / "phantom-unet"))
    volume = make_phantom(PhantomSpec(seed=200_000)).channels[0]
    figures = dice_with_itself(model, [volume], [1.0, 0.5])
    assert figures["dice_with_itself@1"] == 1
    assert figures["dice_with_itself@0.5"] < 0.9


def test_relative_difference_and_correlation_of_known_arrays() -> None:
    a = torch.tensor([1.0, 2.0, 3.0])
    assert relative_difference(a, a) == 0
    assert relative_difference(2 * a, a) == pytest.approx(1)
    assert correlation(a, -2 * a + 1) == pytest.approx(-1)
