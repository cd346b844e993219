"""The convolutions: they commute with rescaling within the bound, on moved grids and on one grid, and compute what they
say."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from rescaling import (
    BOUNDS,
    CLEARLY_BROKEN,
    COLOURS,
    SCALE,
    difference_at_same_place,
    error_between_scales,
    error_on_one_grid,
    image_at,
)
from ScaleEquivSegLib.layers.basis import Jet
from ScaleEquivSegLib.layers.maps import Grid, ScaleAxis, ScaleMaps
from ScaleEquivSegLib.layers.resample import lift
from ScaleEquivSegLib.layers.scale_conv import PlainConv, Pointwise, ScaleConv

pytestmark = pytest.mark.usefixtures("seeded")

# Equivariance, each scale on a grid of its own


@pytest.mark.parametrize("colour", COLOURS)
def test_lifting_and_convolving_commute_with_rescaling(colour: str) -> None:
    assert error_between_scales(ScaleConv(1, 4), colour) < BOUNDS[colour]


@pytest.mark.parametrize("interaction", [1, 2, 3])
@pytest.mark.parametrize("colour", COLOURS)
def test_convolving_a_lifted_map_commutes_with_rescaling(colour: str, interaction: int) -> None:
    layers = nn.Sequential(ScaleConv(1, 4), ScaleConv(4, 4, interaction=interaction))
    assert error_between_scales(layers, colour) < BOUNDS[colour]


@pytest.mark.parametrize("kind", [PlainConv, ScaleConv])
@pytest.mark.parametrize("colour", COLOURS)
def test_the_same_kernel_on_the_same_grid_does_not_commute_with_rescaling(
    colour: str, kind: Callable[[int, int], nn.Module]
) -> None:
    """The control: without a scale axis the difference is a hundred times larger."""
    assert error_on_one_grid(kind(1, 4), colour) > CLEARLY_BROKEN * BOUNDS[colour]


def test_mixing_channels_commutes_with_rescaling() -> None:
    assert error_between_scales(nn.Sequential(ScaleConv(1, 2), Pointwise(2, 3)), "natural") < BOUNDS["natural"]


def test_scales_that_interact_over_an_axis_that_stays_behind_do_not_commute_with_rescaling() -> None:
    """The control for interaction: partners at other distances than those of the image."""
    layers = nn.Sequential(ScaleConv(1, 4), ScaleConv(4, 4, interaction=2))

    def finest(scale: float, ratio: float) -> Tensor:
        with torch.no_grad():
            return layers(lift(image_at(scale, "natural"), ScaleAxis(scale * 1.2, ratio, 2))).tensors[0]

    inner = (..., *[slice(16, 36)] * 3)
    wanted = finest(1.0, 1.5)[inner]
    followed, stayed = ((finest(SCALE, ratio)[inner] - wanted).square().sum() for ratio in (1.5, 1.5 / SCALE))
    assert stayed > CLEARLY_BROKEN * followed


# Equivariance, all scales on the grid of the image

SCALES_OF_ONE_GRID = 4


def one_grid_jet() -> Jet:
    """Scale i of the image is scale i + 1 of the image rescaled; all widths are above one voxel."""
    return Jet(sigma=1.12 * SCALE ** -(SCALES_OF_ONE_GRID - 1), ratio=SCALE, scales=SCALES_OF_ONE_GRID, support=3.5)


@cache
def lifted_on_one_grid(scale: float, colour: str) -> ScaleMaps:
    torch.manual_seed(0)
    with torch.no_grad():
        conv = ScaleConv(1, 2, one_grid_jet())
        return conv(ScaleMaps.on_one_grid(image_at(scale, colour), SCALES_OF_ONE_GRID))


def errors_between_neighbours(layer: nn.Module, colour: str, margin: int) -> list[float]:
    """Per scale but the last, how the image there differs from the rescaled image at the next."""
    with torch.no_grad():
        maps, rescaled = (layer(lifted_on_one_grid(scale, colour)).tensors for scale in (1.0, SCALE))
    return [difference_at_same_place(a, b, margin) for a, b in zip(maps[:-1], rescaled[1:], strict=True)]


@pytest.mark.parametrize("colour", COLOURS)
def test_lifting_by_widths_commutes_with_rescaling(colour: str) -> None:
    assert max(errors_between_neighbours(nn.Identity(), colour, margin=10)) < BOUNDS[colour]


@pytest.mark.parametrize("interaction", [1, 2, 3])
@pytest.mark.parametrize("colour", COLOURS)
def test_convolving_by_widths_commutes_with_rescaling_up_to_the_end_of_the_axis(colour: str, interaction: int) -> None:
    torch.manual_seed(1)
    layer = ScaleConv(2, 2, one_grid_jet(), interaction)
    errors = errors_between_neighbours(layer, colour, margin=18)
    have_partners = SCALES_OF_ONE_GRID - interaction
    assert max(errors[:have_partners]) < BOUNDS[colour]
    # The control: where the axis ends, a scale meets other partners than the same scale of the rescaled image.
    assert all(error > 10 * BOUNDS[colour] for error in errors[have_partners:])


# What is computed


@pytest.mark.parametrize("path", ["dense", "separable"])
def test_the_layer_answers_a_wave_as_its_closed_form_says(path: str) -> None:
    """h_1(x/s) h_0 h_0 / s^3 answers sin(kx) with 2 pi^(3/4) ks exp(-(ks)^2/2) cos(kx) times sqrt(4 pi^(3/2))."""
    width, k = 1.5, 0.4
    jet = Jet(order=1, sigma=width, support=6.0)
    conv = ScaleConv(1, 1, jet, path=path).double().requires_grad_(False)  # type: ignore[arg-type]
    conv.weight.copy_(torch.tensor([float(o == (1, 0, 0)) for o in jet.orders]).reshape(1, 1, -1))
    x = torch.arange(40, dtype=torch.float64).reshape(-1, 1, 1).expand(1, 1, 40, 3, 3)
    (response,) = conv(ScaleMaps.on_one_grid(torch.sin(k * x), 1)).tensors
    line = math.sqrt(2 * math.pi) / math.gamma(0.5) ** 0.5  # of h_0 on a constant
    slope = math.sqrt(2 * math.pi) / math.gamma(1.5) ** 0.5 * k * width * math.exp(-((k * width) ** 2) / 2)
    wanted = line**2 * slope * torch.cos(k * x)
    assert torch.allclose(response[:, :, 10:-10], wanted[:, :, 10:-10], atol=1e-5)


def test_a_convolution_uses_one_kernel_for_all_scales() -> None:
    conv = ScaleConv(2, 3)
    first, second = conv(ScaleMaps.on_one_grid(torch.randn(1, 2, 9, 8, 7), 2)).tensors
    assert torch.equal(first, second)
    assert first.shape == (1, 3, 9, 8, 7)


def test_scales_interact_with_the_next_coarser_and_the_coarsest_is_repeated() -> None:
    conv = ScaleConv(1, 2, interaction=3, bias=True).requires_grad_(False)
    conv.bias.fill_(0.5)
    by_offset = [ScaleConv(1, 2) for _ in range(3)]
    for offset, alone in enumerate(by_offset):
        alone.weight.data = conv.weight.unflatten(2, (3, -1))[:, :, offset]
    images = [torch.randn(1, 1, 5, 4, 6) for _ in range(3)]
    maps = ScaleMaps(images, ScaleMaps.on_one_grid(images[0], 3).grids)
    met = conv(maps)
    for here, found in enumerate(met.tensors):
        wanted = 0.5 + sum(alone(maps).tensors[min(here + offset, 2)] for offset, alone in enumerate(by_offset))
        assert torch.allclose(found, wanted, atol=1e-5)
    assert met.grids == maps.grids


@pytest.mark.parametrize("path", ["dense", "separable"])
@pytest.mark.parametrize("interaction", [1, 2])
def test_a_stride_keeps_every_second_voxel_as_it_is(interaction: int, path: str) -> None:
    # With interaction the coarser map is sampled on the finer grid: on that of the same spacing, that is itself.
    maps = ScaleMaps.on_one_grid(torch.randn(1, 2, 7, 6, 1), 2)
    whole = ScaleConv(2, 3, interaction=interaction, path=path)  # type: ignore[arg-type]
    strided = ScaleConv(2, 3, interaction=interaction, stride=2, path=path)  # type: ignore[arg-type]
    strided.load_state_dict(whole.state_dict())
    for all_voxels, kept in zip(whole(maps).tensors, strided(maps).tensors, strict=True):
        assert torch.allclose(kept, all_voxels[:, :, ::2, ::2, ::2], atol=1e-5)
    assert strided(maps).grids[0] == (Grid(2.0, 0, 4), Grid(2.0, 0, 3), Grid(2.0, 0, 1))


def test_padding_repeats_the_border_or_adds_zeros() -> None:
    constant = ScaleMaps.on_one_grid(torch.ones(1, 1, 9, 9, 9), 1)
    repeating, with_zeros = ScaleConv(1, 1), ScaleConv(1, 1, padding="zeros")
    with_zeros.load_state_dict(repeating.state_dict())
    repeated, zeros = (conv(constant).tensors[0] for conv in (repeating, with_zeros))
    assert torch.allclose(repeated, repeated[:, :, 4:5, 4:5, 4:5].expand_as(repeated), atol=1e-5)
    assert torch.allclose(zeros[:, :, 4, 4, 4], repeated[:, :, 4, 4, 4], atol=1e-5)
    assert (zeros - repeated).abs()[:, :, 0, 0, 0] > 0.01


@pytest.mark.parametrize(
    "make", [lambda: ScaleConv(1, 1), lambda: ScaleConv(1, 1, Jet(support=2.0)), lambda: PlainConv(1, 1)]
)
def test_a_response_depends_on_what_is_within_reach_and_on_nothing_beyond(make: Callable[[], ScaleConv]) -> None:
    conv = make()
    image = torch.randn(1, 1, 21, 3, 3)

    def influence(distance: int) -> float:
        changed = image.clone()
        changed[:, :, 10 + distance] += 1.0
        a, b = (conv(ScaleMaps.on_one_grid(x, 1)).tensors[0] for x in (image, changed))
        return float((a - b)[:, :, 10].detach().abs().max())

    assert influence(conv.reach) > 1e-4
    assert influence(conv.reach + 1) == 0


def test_a_jet_of_other_scales_than_the_map_is_refused() -> None:
    maps = ScaleMaps.on_one_grid(torch.zeros(1, 1, 3, 3, 3), 3)
    with pytest.raises(ValueError, match="2 widths does not fit a map of 3 scales"):
        ScaleConv(1, 1, Jet(scales=2))(maps)


def test_a_plain_convolution_is_an_ordinary_one_with_its_border_repeated() -> None:
    conv = PlainConv(2, 3)
    image = torch.randn(1, 2, 5, 6, 7)
    ordinary = nn.Conv3d(2, 3, 3, padding=1, padding_mode="replicate", bias=False)
    ordinary.weight = conv.conv.weight
    (found,) = conv(ScaleMaps.on_one_grid(image, 1)).tensors
    assert torch.allclose(found, ordinary(image), atol=1e-6)


@pytest.mark.parametrize(
    "make", [lambda: ScaleConv(2, 3, bias=True), lambda: ScaleConv(2, 3, interaction=2), lambda: PlainConv(2, 3)]
)
def test_an_absorbed_gain_and_offset_scale_and_shift_the_output(make: Callable[[], ScaleConv]) -> None:
    conv = make()
    maps = ScaleMaps.on_one_grid(torch.randn(1, 2, 5, 4, 3), 2)
    before = conv(maps)
    gain, offset = torch.tensor([2.0, -0.5, 1.0]), torch.tensor([1.0, 0.0, -3.0])
    for _ in range(2):  # a second time there is a bias to be scaled
        before = before.each(lambda x: x * gain.reshape(3, 1, 1, 1) + offset.reshape(3, 1, 1, 1))
        conv.absorb(gain, offset)
    for found, wanted in zip(conv(maps).tensors, before.tensors, strict=True):
        assert torch.allclose(found, wanted, atol=1e-4)
