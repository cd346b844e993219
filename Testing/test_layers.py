"""The layers keep what they promise: complete isotropic jets, responses that move with the scale, exact grids."""

from __future__ import annotations

import pytest
import torch

from ScaleEquivSegLib.layers.basis import jet_basis, jet_orders
from ScaleEquivSegLib.layers.norm import ScaleBatchNorm
from ScaleEquivSegLib.layers.projection import AttentionProjection
from ScaleEquivSegLib.layers.resample import (
    BlurredStride,
    Grid,
    ScaleAxis,
    apply_along_axes,
    gaussian_weights,
    lift,
    linear_weights,
    octave_up,
    sample_at_voxels,
)
from ScaleEquivSegLib.layers.scale_conv import PlainConv, Pointwise, ScaleConv
from training.fields import field, relative_difference

ORIGIN = (0, 0, 0)


def interior(maps: torch.Tensor, margin: int = 8) -> torch.Tensor:
    return maps[:, :, margin:-margin, margin:-margin, margin:-margin]


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_a_jet_holds_every_function_up_to_its_order(order: int) -> None:
    orders = jet_orders(order)
    assert len(orders) == len(set(orders)) == (order + 1) * (order + 2) * (order + 3) // 6
    assert all(sum(o) <= order for o in orders)


def test_jet_functions_have_unit_norm_and_are_independent() -> None:
    # Continuous norm 1; sigma^-3 scales the squared norm of the samples by sigma^-3.
    basis = jet_basis(2, sigma=2.0).double().flatten(1)
    norms = basis.square().sum(1) * 2.0**3
    assert torch.allclose(norms, torch.ones_like(norms), atol=1e-2)
    assert torch.linalg.matrix_rank(basis) == len(basis)


def test_a_rotated_jet_is_a_combination_of_the_jet() -> None:
    """Completeness makes the filters isotropic; a jet cut off in storage order fails this."""
    sigma, order = 1.0, 2
    basis = jet_basis(order, sigma).double()
    rotated = _rotated_samples(basis, order, sigma)
    assert _residual(basis.flatten(1), rotated) < 1e-6
    incomplete = basis[:-1].flatten(1)
    assert _residual(incomplete, rotated) > 1e-2


def _rotated_samples(basis: torch.Tensor, order: int, sigma: float) -> torch.Tensor:
    """x^n y^m z^l exp(-r^2/2) of rotated coordinates, on the same voxels."""
    radius = basis.shape[-1] // 2
    line = torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma
    points = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    turn, _ = torch.linalg.qr(torch.tensor([[1.0, 2, 3], [-2, 1, 0.5], [0.3, 2, -1]], dtype=torch.float64))
    turned = points @ turn.T
    gauss = torch.exp(-points.square().sum(1) / 2)
    return torch.stack([(turned ** torch.tensor(o, dtype=torch.float64)).prod(1) * gauss for o in jet_orders(order)])


def _residual(basis: torch.Tensor, functions: torch.Tensor) -> float:
    fit = torch.linalg.lstsq(basis.T, functions.T).solution
    return relative_difference(basis.T @ fit, functions.T)


@pytest.mark.parametrize(("colour", "bound"), [("natural", 1e-4), ("white", 3e-3)])
def test_lifting_and_convolving_commute_with_rescaling(colour: str, bound: float) -> None:
    torch.manual_seed(0)
    conv = ScaleConv(1, 4).requires_grad_(False)
    image, rescaled = field(64, 1.0, colour), field(64, 0.9, colour)
    for spacing in (1.0, 2**0.5, 2.0):
        (a,) = conv(lift(image, ScaleAxis(spacing), ORIGIN, 1)[0])
        (b,) = conv(lift(rescaled, ScaleAxis(0.9 * spacing), ORIGIN, 1)[0])
        size = min(a.shape[-1], b.shape[-1])
        a, b = (interior(m[..., :size, :size, :size]) for m in (a, b))
        assert relative_difference(b, a) < bound


def test_the_same_kernel_on_the_same_grid_does_not_commute_with_rescaling() -> None:
    """The control: without a scale axis the difference is a hundred times larger."""
    torch.manual_seed(0)
    conv = PlainConv(1, 4).requires_grad_(False)
    image, rescaled = field(64, 1.0, "natural"), field(64, 0.9, "natural")
    (a,), (b,) = conv([image]), conv([rescaled])
    moved = apply_along_axes(a, [linear_weights(torch.arange(57, dtype=torch.float64) / 0.9, 64)] * 3)
    assert relative_difference(interior(b[..., :57, :57, :57]), interior(moved)) > 1e-2


def test_a_convolution_uses_one_kernel_for_all_scales() -> None:
    conv = ScaleConv(2, 3)
    x = torch.randn(1, 2, 9, 8, 7)
    first, second = conv([x, x])
    assert torch.equal(first, second)
    assert first.shape == (1, 3, 9, 8, 7)


def test_gradients_of_the_convolution_are_right() -> None:
    conv = ScaleConv(1, 2).double()
    x = torch.randn(1, 1, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda maps: conv([maps])[0], (x,))


@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_a_stride_of_two_keeps_even_voxels_where_they_are_and_up_puts_them_back(size: int) -> None:
    ramp = torch.arange(size, dtype=torch.float64).reshape(1, 1, size, 1, 1).expand(1, 1, size, 3, 2)
    down = BlurredStride().double()(ramp)
    assert down.shape == (1, 1, (size + 1) // 2, 2, 1)
    constant = torch.full_like(ramp, 3.0)
    assert torch.allclose(BlurredStride().double()(constant), torch.tensor(3.0, dtype=torch.float64))
    up = octave_up(ramp[:, :, ::2, ::2, ::2], ramp.shape[2:])
    assert up.shape == ramp.shape
    inner = size - 1 if size % 2 == 0 else size  # past the last coarse voxel values are repeated
    assert torch.allclose(up[:, :, :inner], ramp[:, :, :inner])


def test_sampling_weights_are_averages_that_leave_a_ramp_in_place() -> None:
    positions = torch.linspace(6, 13, 9, dtype=torch.float64)
    ramp = torch.arange(20, dtype=torch.float64)
    for weights in (gaussian_weights(positions, 20, 1.3), linear_weights(positions, 20)):
        assert torch.allclose(weights.sum(1), torch.ones(9, dtype=torch.float64))
        assert torch.allclose(weights @ ramp, positions, atol=2e-3)


def test_a_crop_samples_where_the_whole_volume_would() -> None:
    for origin in (0, 5, 37):
        grid = Grid.covering(20, origin, 2**0.5, alignment=4)
        assert grid.first % 4 == 0
        positions = grid.positions(origin) + origin
        assert torch.allclose(positions / 2**0.5, (positions / 2**0.5).round())
        assert positions[0] <= origin
        assert positions[-1] >= origin + 19


def test_normalisation_at_inference_does_not_depend_on_the_crop() -> None:
    norm = ScaleBatchNorm(2)
    norm([torch.randn(2, 2, 6, 6, 6) * 3 + 1])
    norm.eval()
    x = torch.randn(1, 2, 8, 8, 8)
    assert torch.equal(norm([x])[0][..., :4], norm([x[..., :4]])[0])
    norm.train()
    assert not torch.allclose(norm([x])[0][..., :4], norm([x[..., :4]])[0])


def test_normalisation_tells_no_scale_from_another() -> None:
    norm = ScaleBatchNorm(1)
    weak, strong = norm([torch.randn(1, 1, 8, 8, 8), 10 * torch.randn(1, 1, 4, 4, 4)])
    assert strong.std() > 5 * weak.std()
    power = (weak.square().mean() + strong.square().mean()).item() / 2
    assert power == pytest.approx(1.0, rel=0.05)


def test_the_projection_does_not_change_when_scales_trade_places() -> None:
    torch.manual_seed(0)
    projection = AttentionProjection(3, 2)
    maps, grids = lift(torch.randn(1, 1, 9, 9, 9), ScaleAxis(1.0, 1.5, 3), ORIGIN, 1)
    maps = Pointwise(1, 3)(maps)
    forward = projection(maps, grids, ORIGIN, (9, 9, 9))
    backward = projection(maps[::-1], grids[::-1], ORIGIN, (9, 9, 9))
    assert torch.allclose(forward, backward, atol=1e-6)
    assert forward.shape == (1, 2, 9, 9, 9)


def test_sampling_at_voxels_returns_the_image_from_its_own_grid() -> None:
    image = torch.randn(1, 1, 5, 6, 7)
    grids = [Grid(1.0, 0, n) for n in (5, 6, 7)]
    assert torch.allclose(sample_at_voxels(image, grids, ORIGIN, (5, 6, 7)), image, atol=1e-6)
