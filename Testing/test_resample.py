"""Moving between grids: lifting, octaves down and up and pooling follow a rescaling; aliasing, where it is let in, does
not."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from rescaling import COLOURS, SCALE, difference_at, difference_at_same_index, error_between_scales, image_at
from ScaleEquivSegLib.layers.basis import Jet
from ScaleEquivSegLib.layers.maps import Grid, ScaleAxis, ScaleMaps
from ScaleEquivSegLib.layers.resample import (
    BlurredStride,
    OctaveUp,
    apply_along_axes,
    cubic_weights,
    gaussian_weights,
    grids_covering,
    lift,
    linear_weights,
    sample_at_voxels,
    sample_on,
    spatial_maxima,
    spatial_means,
)
from ScaleEquivSegLib.layers.scale_conv import ScaleConv

pytestmark = pytest.mark.usefixtures("seeded")

# Sampling


@pytest.mark.parametrize("shape", [(150, 140, 3), (3, 150, 70), (20, 4, 130)])
def test_matrices_with_many_rows_are_applied_like_those_with_few(shape: tuple[int, ...]) -> None:
    sizes = [max(2, size // 2) for size in shape]
    weights = [
        linear_weights(torch.linspace(-2, size + 1, count, dtype=torch.float64), size)
        for count, size in zip(shape, sizes, strict=True)
    ]
    maps = torch.randn(1, 2, *sizes, dtype=torch.float64)
    wanted = torch.einsum("bcxyz,ix,jy,kz->bcijk", maps, *weights)
    torch.testing.assert_close(apply_along_axes(maps, weights), wanted)


INTERPOLATIONS = [linear_weights, cubic_weights, lambda positions, size: gaussian_weights(positions, size, 1.3)]
KINDS = ["linear", "cubic", "gaussian"]


@pytest.mark.parametrize("weights_at", INTERPOLATIONS, ids=KINDS)
def test_sampling_weights_are_averages_that_leave_a_ramp_in_place(weights_at: Callable[[Tensor, int], Tensor]) -> None:
    positions = torch.linspace(6, 13, 9, dtype=torch.float64)
    weights = weights_at(positions, 20)
    assert torch.allclose(weights.sum(1), torch.ones(9, dtype=torch.float64))
    assert torch.allclose(weights @ torch.arange(20, dtype=torch.float64), positions, atol=2e-3)


@pytest.mark.parametrize("weights_at", INTERPOLATIONS, ids=KINDS)
def test_beyond_its_ends_a_signal_is_repeated(weights_at: Callable[[Tensor, int], Tensor]) -> None:
    far = torch.tensor([-9.0, 14.0], dtype=torch.float64)
    signal = torch.tensor([1.0, 5.0, 2.0, 4.0], dtype=torch.float64)
    assert torch.allclose(weights_at(far, 4) @ signal, torch.tensor([1.0, 4.0], dtype=torch.float64))


def test_cubic_interpolation_is_exact_for_a_parabola_where_linear_is_not() -> None:
    positions = torch.linspace(2, 7, 11, dtype=torch.float64)
    parabola = torch.arange(10, dtype=torch.float64) ** 2
    assert torch.allclose(cubic_weights(positions, 10) @ parabola, positions**2)
    assert not torch.allclose(linear_weights(positions, 10) @ parabola, positions**2, atol=0.1)


def test_a_matrix_per_axis_is_applied_along_that_axis() -> None:
    maps = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    x, y, z = (torch.randn(out, size, dtype=torch.float64) for out, size in ((7, 4), (2, 5), (3, 6)))
    assert torch.allclose(apply_along_axes(maps, [x, y, z]), torch.einsum("xi,yj,zk,ncijk->ncxyz", x, y, z, maps))


def test_sampling_at_voxels_returns_the_image_from_its_own_grid() -> None:
    image = torch.randn(1, 1, 5, 6, 7)
    grids = grids_covering((5, 6, 7), 1.0)
    assert torch.allclose(sample_at_voxels(image, grids, (0, 0, 0), (5, 6, 7)), image, atol=1e-6)


def test_a_slab_of_a_map_is_sampled_at_the_voxels_it_lies_on() -> None:
    image = torch.randn(1, 1, 8, 6, 7)
    whole = sample_at_voxels(image, grids_covering((14, 11, 13), 2.0), (0, 0, 0), (14, 11, 13))
    slab = (Grid(2.0, 3, 4), *grids_covering((14, 11, 13), 2.0)[1:])
    found = sample_at_voxels(image[:, :, 3:7], slab, (6, 0, 0), (7, 11, 13))
    assert torch.allclose(found, whole[:, :, 6:13], atol=1e-6)


def test_a_map_on_the_grid_it_lies_on_is_itself_and_on_a_finer_one_lies_where_it_did() -> None:
    coarse, fine = grids_covering((13, 9, 7), 2.0), grids_covering((13, 9, 7), 1.5)
    along_x = coarse[0].positions(0).reshape(-1, 1, 1).expand(1, 1, *(grid.count for grid in coarse))
    assert sample_on(along_x, coarse, coarse) is along_x
    found = sample_on(along_x, coarse, fine)
    assert found.shape[2:] == (9, 7, 5)
    assert torch.allclose(found[:, :, 2:-2, 0, 0], fine[0].positions(0)[2:-2])


# Lifting


@pytest.mark.parametrize("spacing", [1.0, 1.5, 2.0])
def test_a_lifted_gaussian_is_a_wider_gaussian(spacing: float) -> None:
    width, lifted_width = 3.0, (3.0**2 + (0.7 * spacing) ** 2) ** 0.5
    line = torch.arange(41, dtype=torch.float64) - 20

    def gaussian(at: Tensor, sigma: float) -> Tensor:
        g = torch.exp(-0.5 * (at / sigma) ** 2) / sigma
        return (g[:, None, None] * g[:, None] * g)[None, None]

    maps = lift(gaussian(line, width), ScaleAxis(spacing))
    wanted = gaussian(maps.grids[0][0].positions(20), lifted_width)
    assert (maps.tensors[0] - wanted).abs().max() < 3e-3 * wanted.max()


@pytest.mark.parametrize("colour", COLOURS)
def test_lifting_to_a_coarser_grid_commutes_with_rescaling(colour: str) -> None:
    assert error_between_scales(lambda maps: maps, colour, axis=ScaleAxis(2.0)) < 1e-6


@pytest.mark.parametrize("colour", COLOURS)
def test_sampling_without_a_blur_does_not_commute_with_rescaling(colour: str) -> None:
    """The control: what the coarser grid can't carry comes back as something else."""

    def sampled(scale: float) -> Tensor:
        image = image_at(scale, colour)
        grids = grids_covering(image.shape[2:], 2.0 * scale)
        return apply_along_axes(image, [linear_weights(g.positions(0), image.shape[-1]) for g in grids])

    assert difference_at_same_index(sampled(1.0), sampled(SCALE)) > 1e-2


# Octaves: at a factor of 2 every second voxel of the image lies on a voxel of the rescaled one, on strided maps too


OCTAVE_SIZE = 96


@cache
def with_widths_2_and_1(scale: float, colour: str) -> ScaleMaps:
    torch.manual_seed(0)
    with torch.no_grad():
        conv = ScaleConv(1, 2, Jet(sigma=2.0, ratio=0.5, scales=2))
        return conv(ScaleMaps.on_one_grid(image_at(scale, colour, size=OCTAVE_SIZE), 2))


@torch.no_grad()
def error_after_an_octave(*layers: Callable[[ScaleMaps], ScaleMaps], colour: str) -> float:
    """How layers differ between the wider map of an image and the narrower one of the image at half its size."""
    found = []
    for scale in (1.0, 0.5):
        maps = with_widths_2_and_1(scale, colour)
        for layer in layers:
            maps = layer(maps)
        found.append(maps.tensors)
    of_image, of_half = found[0][0], found[1][1]
    length = of_image.shape[-1]
    index = torch.arange(length // 7, length // 2 - length // 7)
    return difference_at(of_image, 2 * index, of_half, index)


def plain_stride(maps: ScaleMaps) -> ScaleMaps:
    return maps.filtered([x[:, :, ::2, ::2, ::2] for x in maps.tensors], 0, stride=2)


def convolution_on_the_strided_grid() -> ScaleConv:
    torch.manual_seed(1)
    return ScaleConv(2, 2, Jet(sigma=2.0, ratio=0.5, scales=2)).requires_grad_(False)


def test_a_stride_after_a_blur_in_proportion_commutes_with_rescaling() -> None:
    conv = convolution_on_the_strided_grid()
    assert error_after_an_octave(BlurredStride((2.8, 1.4)), conv, colour="white") < 1e-3


@pytest.mark.parametrize("stride", [plain_stride, BlurredStride((1.4,))], ids=["no_blur", "one_blur_for_all_scales"])
def test_a_stride_after_no_blur_or_the_same_for_all_scales_does_not(stride: Callable[[ScaleMaps], ScaleMaps]) -> None:
    """The control."""
    conv = convolution_on_the_strided_grid()
    assert error_after_an_octave(stride, conv, colour="white") > 5e-2


def raised(maps: ScaleMaps) -> ScaleMaps:
    return OctaveUp()(maps, ScaleMaps.on_one_grid(torch.empty(1, 1, *[OCTAVE_SIZE] * 3), len(maps.tensors)))


def repeated(maps: ScaleMaps) -> ScaleMaps:
    return maps.each(lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4))


def test_an_octave_down_and_up_again_commutes_with_rescaling_and_repeated_voxels_do_not() -> None:
    down = BlurredStride((2.8, 1.4))
    assert error_after_an_octave(down, raised, colour="natural") < 1.5e-2
    assert error_after_an_octave(down, repeated, colour="natural") > 5e-2


@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_a_stride_of_two_keeps_even_voxels_where_they_are_and_up_puts_them_back(size: int) -> None:
    ramp = torch.arange(size, dtype=torch.float64).reshape(1, 1, size, 1, 1).expand(1, 1, size, 3, 2)
    fine = ScaleMaps.on_one_grid(ramp, 1)
    coarse = BlurredStride()(fine)
    assert coarse.tensors[0].shape == (1, 1, (size + 1) // 2, 2, 1)
    assert coarse.grids[0] == (Grid(2.0, 0, (size + 1) // 2), Grid(2.0, 0, 2), Grid(2.0, 0, 1))
    up = OctaveUp()(coarse.with_tensors([ramp[:, :, ::2, ::2, ::2]]), fine)
    assert up.tensors[0].shape == ramp.shape
    assert up.grids == fine.grids
    inner = size - 1 if size % 2 == 0 else size  # past the last coarse voxel values are repeated
    assert torch.allclose(up.tensors[0][:, :, :inner], ramp[:, :, :inner])


def test_a_blurred_stride_is_a_gaussian_at_every_second_voxel_with_a_width_for_each_scale() -> None:
    image = torch.randn(1, 2, 12, 9, 7)
    sigmas = (0.8, 1.4, 2.0)
    found = BlurredStride(sigmas)(ScaleMaps.on_one_grid(image, 3))
    for x, sigma in zip(found.tensors, sigmas, strict=True):
        weights = [gaussian_weights(torch.arange(0, n, 2, dtype=torch.float64), n, sigma) for n in (12, 9, 7)]
        assert torch.allclose(x, apply_along_axes(image, weights), atol=1e-2)
    constant = BlurredStride()(ScaleMaps.on_one_grid(torch.full((1, 1, 5, 6, 7), 3.0), 2))
    assert all(torch.allclose(x, torch.tensor(3.0)) for x in constant.tensors)


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_a_wave_that_a_stride_of_two_cannot_carry_is_gone_before_it(axis: int) -> None:
    wave = torch.ones(1, 1, 14, 14, 14)
    wave.index_fill_(axis, torch.arange(1, 14, 2), -1.0)  # voxel by voxel up and down
    (strided,) = BlurredStride()(ScaleMaps.on_one_grid(wave, 1)).tensors
    assert strided.narrow(axis, 3, 1).abs().max() < 1e-3
    assert plain_stride(ScaleMaps.on_one_grid(wave, 1)).tensors[0].abs().min() == 1  # the control


def test_blurs_for_other_scales_than_the_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="2 blurs do not fit a map of 3 scales"):
        BlurredStride((1.0, 2.0))(ScaleMaps.on_one_grid(torch.zeros(1, 1, 4, 4, 4), 3))


# Pooling


def blobs(size: int) -> Tensor:
    """The same content whatever the size of the volume."""
    line = torch.linspace(0, 1, size)
    centres, widths = torch.tensor([0.3, 0.5, 0.65]), torch.tensor([0.09, 0.12, 0.08])
    g = torch.exp(-0.5 * ((line - centres[:, None]) / widths[:, None]) ** 2)
    return torch.einsum("bx,by,bz->xyz", g, g.flip(0), g)[None, None]


@pytest.mark.parametrize("pool", [spatial_means, spatial_maxima])
def test_what_is_pooled_over_space_does_not_change_when_the_content_is_magnified(
    pool: Callable[..., list[Tensor]],
) -> None:
    small, large = blobs(25), blobs(49)
    of_small, of_large = (pool(lift(image, ScaleAxis((image.shape[-1] - 1) / 24, 1.4, 2))) for image in (small, large))
    for a, b in zip(of_small, of_large, strict=True):
        assert a.shape == (1, 1, 1, 1, 1)
        assert torch.allclose(a, b, rtol=0.02)
    assert large.sum() > 7 * small.sum()  # the control: a sum grows with the cube of the scale


def test_pooling_leaves_out_a_margin_and_of_a_short_axis_keeps_the_middle() -> None:
    image = torch.full((1, 1, 9, 2, 3), 100.0)
    image[:, :, 3:-3, :, 1] = torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1)
    maps = ScaleMaps.on_one_grid(image, 1)
    assert spatial_means(maps, margin=3)[0].item() == 2.0
    assert spatial_maxima(maps, margin=3)[0].item() == 3.0
    assert spatial_maxima(maps)[0].item() == 100.0
