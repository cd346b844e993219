"""What happens to all scales alike: normalisation, dropout of channels, and the projection back to the image."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from rescaling import BOUNDS, SCALE, SIZE, difference_at_same_place, error_between_scales, image_at, lifted
from ScaleEquivSegLib.layers.dropout import ScaleChannelDropout
from ScaleEquivSegLib.layers.maps import ScaleAxis, ScaleMaps
from ScaleEquivSegLib.layers.norm import ScaleBatchNorm
from ScaleEquivSegLib.layers.projection import ProjectionKind, ScaleProjection
from ScaleEquivSegLib.layers.resample import lift, sample_at_voxels
from ScaleEquivSegLib.layers.scale_conv import ScaleConv
from training.fields import relative_difference

pytestmark = pytest.mark.usefixtures("seeded")

PROJECTIONS: list[ProjectionKind] = ["attention", "mean", "max"]


def maps_of(*tensors: Tensor) -> ScaleMaps:
    """Tensors at scales of which only the number matters."""
    grids = [ScaleMaps.on_one_grid(x, 1).grids[0] for x in tensors]
    return ScaleMaps(list(tensors), grids)


# Normalisation


def test_normalisation_at_inference_does_not_depend_on_the_crop() -> None:
    norm = ScaleBatchNorm(2)
    norm(maps_of(torch.randn(2, 2, 6, 6, 6) * 3 + 1))
    norm.eval()
    x = torch.randn(1, 2, 8, 8, 8)
    whole, crop = maps_of(x), maps_of(x[..., :4])
    assert torch.equal(norm(whole).tensors[0][..., :4], norm(crop).tensors[0])
    norm.train()
    assert not torch.allclose(norm(whole).tensors[0][..., :4], norm(crop).tensors[0])


def test_normalisation_tells_no_scale_from_another() -> None:
    norm = ScaleBatchNorm(1)
    weak, strong = norm(maps_of(torch.randn(1, 1, 8, 8, 8), 10 * torch.randn(1, 1, 4, 4, 4))).tensors
    assert strong.std() > 5 * weak.std()
    # Every scale weighs the same, however many voxels it has.
    power = (weak.square().mean() + strong.square().mean()).item() / 2
    assert power == pytest.approx(1.0, rel=0.05)


def test_normalised_maps_of_a_rescaled_image_are_those_of_the_image_in_training_and_after_it() -> None:
    layers = nn.Sequential(ScaleConv(1, 2), ScaleBatchNorm(2))
    assert error_between_scales(layers, "natural") < 2e-2  # the statistics are those of a crop with other content
    layers.eval()
    assert error_between_scales(layers, "natural") < BOUNDS["natural"]


def test_running_statistics_approach_those_of_the_batches() -> None:
    norm = ScaleBatchNorm(1, momentum=0.5)
    batch = maps_of(torch.tensor([1.0, 3.0]).reshape(1, 1, 2, 1, 1), torch.full((1, 1, 3, 1, 1), 6.0))
    norm(batch)
    assert norm.running_mean.item() == pytest.approx(0.5 * 4.0)
    assert norm.running_var.item() == pytest.approx(0.5 * 1.0 + 0.5 * ((9 + 1) / 2 + 4) / 2)


def test_gain_and_offset_are_all_that_normalisation_does_at_inference() -> None:
    norm = ScaleBatchNorm(3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm(maps_of(torch.randn(2, 3, 4, 4, 4) * 2 + 1))
    norm.eval()
    x = torch.randn(2, 3, 4, 5, 6)
    gain, offset = norm.gain_and_offset()
    found = norm(maps_of(x)).tensors[0]
    assert torch.allclose(found, x * gain.reshape(3, 1, 1, 1) + offset.reshape(3, 1, 1, 1), atol=1e-6)


def test_a_channel_that_is_constant_is_normalised_to_its_bias() -> None:
    norm = ScaleBatchNorm(1)
    nn.init.constant_(norm.bias, 0.5)
    assert torch.allclose(norm(maps_of(torch.full((1, 1, 3, 3, 3), 7.0))).tensors[0], torch.tensor(0.5))


# Dropout


def test_dropout_silences_whole_channels_the_same_ones_at_every_scale() -> None:
    shapes = [(4, 50, 3, 2, 2), (4, 50, 2, 1, 1)]
    kept = [(x != 0).flatten(2) for x in ScaleChannelDropout(0.4)(maps_of(*map(torch.ones, shapes))).tensors]
    assert torch.equal(kept[0][..., 0], kept[1][..., 0])
    assert all(torch.equal(k.any(2), k.all(2)) for k in kept)
    assert not torch.equal(kept[0][0], kept[0][1])  # every sample loses others


def test_dropout_preserves_the_mean() -> None:
    (dropped,) = ScaleChannelDropout(0.3)(maps_of(torch.ones(100, 100, 1, 1, 1))).tensors
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)


def test_dropout_does_nothing_at_inference_or_where_nothing_is_to_be_dropped() -> None:
    maps = maps_of(torch.randn(2, 3, 2, 2, 2))
    assert ScaleChannelDropout(0.9).eval()(maps) is maps
    assert ScaleChannelDropout(0.0)(maps) is maps


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_a_share_of_channels_that_cannot_be_dropped_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="cannot be dropped"):
        ScaleChannelDropout(p)


# Projection


def projection(kind: ProjectionKind, taper: int = 0) -> ScaleProjection:
    torch.manual_seed(0)
    layer = ScaleProjection(3, 2, kind, taper).requires_grad_(False)
    nn.init.normal_(layer.scores.conv.weight)
    return layer


@pytest.mark.parametrize("kind", PROJECTIONS)
@pytest.mark.parametrize("taper", [0, 1])
def test_the_projection_is_what_its_equation_says(kind: ProjectionKind, taper: int) -> None:
    layer = projection(kind, taper)
    maps = lift(torch.randn(2, 3, 9, 8, 7), ScaleAxis(1.0, 1.5, 3))
    scores = layer.scores(maps)
    sampled = [sample_at_voxels(x, g, (0, 0, 0), (9, 8, 7)) for x, g in zip(scores.tensors, scores.grids, strict=True)]
    weights = [0.5, 1.0, 0.5] if taper else [1.0, 1.0, 1.0]
    found = layer(maps, (9, 8, 7))
    assert found.shape == (2, 2, 9, 8, 7)
    if kind == "max":
        wanted = torch.stack([x + math.log(w) for x, w in zip(sampled, weights, strict=True)]).amax(0)
    else:
        shares = [w * (x[:, 2:].exp() if kind == "attention" else 1.0) for x, w in zip(sampled, weights, strict=True)]
        wanted = sum(s * x[:, :2] for s, x in zip(shares, sampled, strict=True)) / sum(shares)
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("kind", PROJECTIONS)
@pytest.mark.parametrize("taper", [0, 2])
def test_the_projection_does_not_change_when_scales_trade_places(kind: ProjectionKind, taper: int) -> None:
    layer = projection(kind)
    maps = lift(torch.randn(1, 3, 9, 9, 9), ScaleAxis(1.0, 1.5, 3))
    backward = ScaleMaps(maps.tensors[::-1], maps.grids[::-1])
    assert torch.allclose(layer(maps, (9, 9, 9)), layer(backward, (9, 9, 9)), atol=1e-6)


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_the_projection_commutes_with_rescaling_on_an_axis_that_moves_along(kind: ProjectionKind) -> None:
    conv, layer = ScaleConv(1, 3).requires_grad_(False), projection(kind)
    moved = [layer(conv(lifted(scale)), (SIZE,) * 3) for scale in (1.0, SCALE)]
    assert difference_at_same_place(*moved) < 1e-5
    left = [layer(conv(lift(image_at(s, "natural"), ScaleAxis(1.0, 1.5, 2))), (SIZE,) * 3) for s in (1.0, SCALE)]
    assert difference_at_same_place(*left) > 1e-3  # the control: an axis that stays behind


def change_at_the_end(kind: ProjectionKind, taper: int, end: list[Tensor]) -> float:
    """How the scores change when the outermost of some scales, each with a content of its own, becomes another end."""
    torch.manual_seed(1)
    inner = [torch.randn(1, 3, 8, 8, 8) for _ in range(8)]
    layer = projection(kind, taper)
    whole = layer(maps_of(*inner), (8, 8, 8))
    return relative_difference(layer(maps_of(*inner[:-1], *end), (8, 8, 8)), whole)


@pytest.mark.parametrize("kind", ["attention", "mean"])
def test_a_taper_lessens_the_change_when_the_outermost_scale_is_removed(kind: ProjectionKind) -> None:
    assert change_at_the_end(kind, 3, []) < 0.8 * change_at_the_end(kind, 0, [])


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_a_taper_lessens_the_change_when_the_outermost_scale_shows_something_else(kind: ProjectionKind) -> None:
    other = [torch.randn(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(2))]
    assert change_at_the_end(kind, 3, other) < 0.8 * change_at_the_end(kind, 0, other)


def test_an_unknown_projection_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="unknown projection 'median'"):
        ScaleProjection(2, 2, "median")  # type: ignore[arg-type]
