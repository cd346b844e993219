"""The report measures what it says: exact followers get 0 or 1, and what does not follow is seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ScaleEquivSegLib.bundles import bundled_models, read_bundle
from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom
from ScaleEquivSegLib.segmentation import load_model
from training import equivariance
from training.equivariance import dice_with_itself, layer_figures, magnified, magnified_labels, network_figures
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


@pytest.mark.parametrize(("colour", "bound"), [("natural", 3e-5), ("white", 3e-4)])
def test_single_convolutions_follow_and_the_control_does_not(colour: str, bound: float) -> None:
    figures = layer_figures(colour, seed=0)
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


def test_the_correlation_tells_who_follows_from_who_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivariance, "_has_scale_axis", lambda network: False)
    assert min(network_figures(Threshold(), seed=0).values()) > 0.95
    assert max(network_figures(Position(), seed=0).values()) < 0.5


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


def test_a_bundle_agrees_with_itself_where_nothing_is_rescaled() -> None:
    model = load_model(read_bundle(bundled_models() / "phantom-unet"))
    volume = make_phantom(PhantomSpec(seed=200_000)).channels[0]
    figures = dice_with_itself(model, volume, [1.0, 0.5])
    assert figures["dice_with_itself@1"] == 1
    assert figures["dice_with_itself@0.5"] < 0.9


def test_relative_difference_and_correlation_of_known_arrays() -> None:
    a = torch.tensor([1.0, 2.0, 3.0])
    assert relative_difference(a, a) == 0
    assert relative_difference(2 * a, a) == pytest.approx(1)
    assert correlation(a, -2 * a + 1) == pytest.approx(-1)
