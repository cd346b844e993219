"""A dynamic scale convolution follows its input through the scales, and its mixture with it."""

from __future__ import annotations

import pytest
import torch

from ScaleEquivSegLib.layers.dynamic import DynamicScaleConv, ScaleAttention
from ScaleEquivSegLib.layers.resample import ScaleAxis, lift
from ScaleEquivSegLib.layers.scale_conv import ScaleConv
from ScaleEquivSegLib.networks import build_network
from training.fields import field, relative_difference

KINDS = ["invariant", "scale", "local"]


def sharpened(layer: DynamicScaleConv) -> DynamicScaleConv:
    """With an attention that has an opinion: it starts without one."""
    for parameter in layer.attention.last.parameters():
        torch.nn.init.normal_(parameter, std=3.0)
    return layer.requires_grad_(False)


def maps_at(scale: float, colour: str = "natural") -> list[torch.Tensor]:
    """Two channels of an image rescaled, on a scale axis that moves along."""
    image = torch.cat([field(64, scale, colour, seed) for seed in (0, 1)], 1)
    return lift(image, ScaleAxis(1.4 * scale, 1.4, 2), (0, 0, 0), 1)[0]


def interior_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    size = min(a.shape[-1], b.shape[-1])
    inner = slice(8, size - 8)
    return relative_difference(b[..., inner, inner, inner], a[..., inner, inner, inner])


@pytest.mark.parametrize("kind", ["invariant", "scale"])
def test_the_mixture_of_a_rescaled_image_is_that_of_the_image(kind: str) -> None:
    torch.manual_seed(0)
    attention = sharpened(DynamicScaleConv(2, 2, attention=kind)).attention  # type: ignore[arg-type]
    # Twice the field of view at twice the scale: the same content on twice the grid.
    small = [torch.randn(1, 2, 12, 12, 12) for _ in range(2)]
    large = [x.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4) for x in small]
    attention.margin = 0
    for a, b in zip(attention(small), attention(large), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
        assert a.max() > 1.2 / a.shape[1]


def test_a_sum_over_space_would_not_do() -> None:
    """The control for the mean: a descriptor that grows with the volume changes the mixture."""
    torch.manual_seed(0)
    attention = sharpened(DynamicScaleConv(2, 2, attention="scale")).attention
    maps = [torch.randn(1, 2, 8, 8, 8) + 0.1]
    assert not torch.allclose(attention(maps)[0], attention([8 * maps[0]])[0], atol=1e-2)


def test_a_local_mixture_commutes_with_rescaling() -> None:
    torch.manual_seed(0)
    layer = sharpened(DynamicScaleConv(2, 3, attention="local"))
    for a, b in zip(layer(maps_at(1.0)), layer(maps_at(0.9)), strict=True):
        assert interior_difference(a, b) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_mixture_starts_uniform_and_the_layer_with_one_kernel_is_static(kind: str) -> None:
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, 9, 8, 7), torch.randn(2, 3, 5, 4, 3)]
    for alpha in ScaleAttention(3, 4, kind, 3)(maps):  # type: ignore[arg-type]
        assert torch.allclose(alpha, torch.tensor(0.25))
    dynamic = DynamicScaleConv(3, 2, kernels=1, attention=kind)  # type: ignore[arg-type]
    static = ScaleConv(3, 2)
    static.weight.data = dynamic.bank.weight.data
    for a, b in zip(dynamic(maps), static(maps), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_mixing_kernels_equals_mixing_responses(kind: str) -> None:
    torch.manual_seed(0)
    layer = sharpened(DynamicScaleConv(2, 3, kernels=4, attention=kind))  # type: ignore[arg-type]
    maps = [torch.randn(2, 2, 9, 8, 7)]
    (alpha,) = layer.attention(maps)
    (responses,) = layer.bank(maps)
    wanted = (responses.unflatten(1, (4, 3)) * alpha.unsqueeze(2)).sum(1)
    assert torch.allclose(layer(maps)[0], wanted, atol=1e-5)
    assert alpha.std() > 0.05


def test_the_temperature_flattens_the_mixture() -> None:
    torch.manual_seed(0)
    attention = sharpened(DynamicScaleConv(2, 2)).attention
    maps = [torch.randn(1, 2, 6, 6, 6)]
    sharp = attention(maps)[0].std()
    attention.get_buffer("temperature").fill_(30.0)
    assert attention(maps)[0].std() < 0.3 * sharp


def test_the_load_balance_is_zero_for_even_use_and_k_minus_one_for_a_single_kernel() -> None:
    layer = DynamicScaleConv(2, 2, kernels=4)
    with pytest.raises(RuntimeError, match="no load"):
        layer.load_balance()
    maps = [torch.randn(1, 2, 5, 5, 5)]
    layer(maps)
    assert layer.load_balance().item() == pytest.approx(0, abs=1e-5)
    layer.attention.last.conv.bias.data[2] = 100.0
    layer(maps)
    assert layer.load_balance().item() == pytest.approx(3)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_layer_are_right(kind: str) -> None:
    torch.manual_seed(0)
    layer = DynamicScaleConv(1, 1, order=1, kernels=2, attention=kind).double()  # type: ignore[arg-type]
    torch.nn.init.normal_(layer.attention.last.conv.weight)
    x = torch.randn(1, 1, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda maps: layer([maps])[0], (x,))


def test_the_dynamic_and_the_pyramid_network_are_built_by_name() -> None:
    arguments = {"in_channels": 1, "classes": 3, "channels": [4, 8], "scale_axis": {"ratio": 1.5, "count": 2}}
    for name in ("dynamic_se_unet", "pyramid_unet"):
        network = build_network(name, arguments)
        assert network(torch.randn(1, 1, 9, 8, 7)).shape == (1, 3, 9, 8, 7)
    with pytest.raises(ValueError, match="unknown attention"):
        build_network("dynamic_se_unet", {**arguments, "attention": "global"})
