"""The jets: complete and isotropic, with the response the closed form gives, cut off tightly at every width."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ScaleEquivSegLib.layers.basis import Jet, support_radius
from training.fields import relative_difference


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_a_jet_holds_every_function_up_to_its_order(order: int) -> None:
    orders = Jet(order).orders
    assert len(orders) == len(set(orders)) == (order + 1) * (order + 2) * (order + 3) // 6
    assert all(sum(o) <= order for o in orders)


def test_jet_functions_have_unit_norm_and_are_independent() -> None:
    # Continuous norm 1; sigma^-3 scales the squared norm of the samples by sigma^-3.
    functions = Jet(2).functions(2.0).flatten(1)
    norms = functions.square().sum(1) * 2.0**3
    assert torch.allclose(norms, torch.ones_like(norms), atol=1e-2)
    assert torch.linalg.matrix_rank(functions) == len(functions)


def test_a_rotated_jet_is_a_combination_of_the_jet() -> None:
    """Completeness makes the filters isotropic; a jet cut off in storage order fails this."""
    jet = Jet(order=2)
    functions = jet.functions(1.0)
    rotated = _rotated_samples(jet, functions.shape[-1] // 2)
    assert _residual(functions.flatten(1), rotated) < 1e-6
    incomplete = functions[:-1].flatten(1)
    assert _residual(incomplete, rotated) > 1e-2


def _rotated_samples(jet: Jet, radius: int) -> Tensor:
    """x^n y^m z^l exp(-r^2/2) of rotated coordinates, on the same voxels."""
    line = torch.arange(-radius, radius + 1, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    turn, _ = torch.linalg.qr(torch.tensor([[1.0, 2, 3], [-2, 1, 0.5], [0.3, 2, -1]], dtype=torch.float64))
    turned = points @ turn.T
    gauss = torch.exp(-points.square().sum(1) / 2)
    return torch.stack([(turned ** torch.tensor(o, dtype=torch.float64)).prod(1) * gauss for o in jet.orders])


def _residual(functions: Tensor, wanted: Tensor) -> float:
    fit = torch.linalg.lstsq(functions.T, wanted.T).solution
    return relative_difference(functions.T @ fit, wanted.T)


WAVE = (0.5, -0.3, 0.2)
"""A frequency in radians per voxel."""


def _response_to_a_wave(jet: Jet, width: float, wave: tuple[float, float, float]) -> Tensor:
    """sum_x psi_nml(x; width) exp(i k x) for every function."""
    radius = jet.radius(width)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    x, y, z = (torch.exp(1j * k * offsets) for k in wave)
    return torch.einsum("fxyz,x,y,z->f", jet.functions(width).to(x.dtype), x, y, z)


@pytest.mark.parametrize("width", [1.4, 2.0])
def test_the_response_to_a_plane_wave_is_its_closed_form(width: float) -> None:
    """int h_n(t/s) exp(ikt) dt/s = sqrt(2 pi) (iks)^n exp(-(ks)^2/2) / ||h_n||,   ||h_n||^2 = Gamma(n + 1/2)."""
    jet = Jet(order=3, support=7.0)

    def along(k: float, n: int) -> complex:
        return math.sqrt(2 * math.pi / math.gamma(n + 0.5)) * (1j * k * width) ** n * math.exp(-((k * width) ** 2) / 2)

    wanted = [along(WAVE[0], n) * along(WAVE[1], m) * along(WAVE[2], l) for n, m, l in jet.orders]
    found = _response_to_a_wave(jet, width, WAVE)
    assert torch.allclose(found, torch.tensor(wanted, dtype=found.dtype), atol=1e-6)


def test_a_rescaled_wave_gives_the_same_response_at_the_rescaled_width() -> None:
    jet = Jet(order=2, support=7.0)
    wide = _response_to_a_wave(jet, 3.0, WAVE)
    narrow = _response_to_a_wave(jet, 1.5, (2 * WAVE[0], 2 * WAVE[1], 2 * WAVE[2]))
    assert torch.allclose(wide, narrow, atol=1e-6)
    control = _response_to_a_wave(jet, 1.5, WAVE)
    assert not torch.allclose(wide, control, atol=1e-2)


def test_every_scale_has_its_own_width_and_the_support_that_width_needs() -> None:
    jet = Jet(order=1, sigma=2.0, ratio=0.5, scales=3, support=3.0)
    assert jet.widths == (2.0, 1.0, 0.5)
    assert [jet.functions(width).shape for width in jet.widths] == [(4, 13, 13, 13), (4, 7, 7, 7), (4, 5, 5, 5)]
    assert [tuple(jet.lines(width).shape) for width in jet.widths] == [(2, 13), (2, 7), (2, 5)]


@pytest.mark.parametrize("width", [0.7, 1.0, 1.37, 2.5])
def test_nothing_within_the_support_is_cut_off_and_nothing_far_beyond_is_kept(width: float) -> None:
    assert 3 * width <= support_radius(width) < 3 * width + 1
    assert 4 * width <= Jet(support=4.0).radius(width) < 4 * width + 1


@pytest.mark.parametrize(
    "bad", [{"order": -1}, {"sigma": 0.0}, {"sigma": -1.0}, {"ratio": 0.0}, {"scales": 0}, {"support": 0.0}], ids=str
)
def test_values_that_make_no_jet_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no jet"):
        Jet(**bad)
