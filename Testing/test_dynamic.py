"""A dynamic scale convolution follows its input through the scales, and its mixture with it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from rescaling import BOUNDS, CLEARLY_BROKEN, SCALE, difference_at_same_index, image_at
from ScaleEquivSegLib.layers.basis import Jet
from ScaleEquivSegLib.layers.dynamic import DynamicScaleConv, ScaleAttention, ScaleAttentionKind
from ScaleEquivSegLib.layers.maps import ScaleAxis, ScaleMaps
from ScaleEquivSegLib.layers.mixture import load_balance, set_temperature
from ScaleEquivSegLib.layers.resample import lift
from ScaleEquivSegLib.layers.scale_conv import ScaleConv
from ScaleEquivSegLib.networks import build_network
from untrained import sharpened

pytestmark = pytest.mark.usefixtures("seeded")

KINDS: list[ScaleAttentionKind] = ["invariant", "scale", "local"]


def dynamic(kind: ScaleAttentionKind, out_channels: int = 2, kernels: int = 4) -> DynamicScaleConv:
    """With an attention that has an opinion."""
    return sharpened(DynamicScaleConv(2, out_channels, kernels=kernels, attention=kind)).requires_grad_(False)


def some_maps(batch: int = 1, channels: int = 2) -> ScaleMaps:
    maps = ScaleMaps.on_one_grid(torch.empty(batch, channels, 9, 8, 7), 2)
    return maps.each(torch.randn_like)


# Equivariance


@pytest.mark.parametrize("kind", ["invariant", "scale"])
def test_the_mixture_of_a_magnified_map_is_that_of_the_map(kind: ScaleAttentionKind) -> None:
    attention = dynamic(kind).attention
    attention.margin = 0
    small = some_maps()
    large = small.each(lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4))
    for a, b in zip(attention(small).tensors, attention(large).tensors, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
        assert a.max() > 1.2 / a.shape[1]


def test_a_sum_over_space_would_not_do() -> None:
    """The control for the mean: a descriptor that grows with the volume changes the mixture."""
    attention = dynamic("scale").attention
    maps = some_maps().each(lambda x: x + 0.1)
    mean, total = (attention(maps.each(lambda x, f=factor: f * x)).tensors[0] for factor in (1, 8))
    assert not torch.allclose(mean, total, atol=1e-2)


@torch.no_grad()
def error_of_a_scene(layer: nn.Module) -> float:
    """How the layer differs at the worst scale between a scene and the rescaled scene, each filling its image."""
    found = []
    for scale in (1.0, SCALE):
        shown = round(60 * scale) + 1  # from the first voxel to the last it is 60 voxels or 54
        image = image_at(scale, "natural")[..., :shown, :shown, :shown]
        found.append(layer(lift(image, ScaleAxis(scale / SCALE, 1 / SCALE, 3))).tensors)
    return max(map(difference_at_same_index, *found))


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_commutes_with_rescaling(kind: ScaleAttentionKind) -> None:
    layers = nn.Sequential(ScaleConv(1, 2), dynamic(kind))
    assert error_of_a_scene(layers) < BOUNDS["natural"]


def test_a_mixture_that_depends_on_the_place_and_not_the_content_does_not_commute() -> None:
    """The control: shares that stay where they are while the image is rescaled."""
    layer = dynamic("local")

    def by_place(maps: ScaleMaps) -> ScaleMaps:
        def waves(x: Tensor, spacing: float) -> Tensor:
            place = 0.5 * spacing * torch.arange(x.shape[2]).reshape(1, 1, -1, 1, 1)
            return torch.softmax(torch.cat([3 * torch.sin(place + k) for k in range(4)], 1), 1).expand(
                -1, -1, *x.shape[2:]
            )

        pairs = zip(maps.tensors, maps.grids, strict=True)
        return maps.with_tensors([waves(x, grids[0].spacing) for x, grids in pairs])

    layer.attention.forward = by_place  # type: ignore[method-assign]
    layers = nn.Sequential(ScaleConv(1, 2), layer)
    assert error_of_a_scene(layers) > CLEARLY_BROKEN * BOUNDS["natural"]


# What is computed


@pytest.mark.parametrize("kind", KINDS)
def test_the_mixture_starts_uniform_and_the_layer_with_one_kernel_is_static(kind: ScaleAttentionKind) -> None:
    maps = some_maps(batch=2, channels=3)
    for alpha in ScaleAttention(3, 4, kind, 3)(maps).tensors:
        assert torch.allclose(alpha, torch.tensor(0.25))
    layer = DynamicScaleConv(3, 2, kernels=1, attention=kind)
    static = ScaleConv(3, 2)
    static.load_state_dict(layer.bank.state_dict())
    for a, b in zip(layer(maps).tensors, static(maps).tensors, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "of_scale", "of_place"), [("invariant", False, False), ("scale", True, False), ("local", True, True)]
)
def test_the_mixture_depends_on_scale_and_place_as_its_kind_says(
    kind: ScaleAttentionKind, of_scale: bool, of_place: bool
) -> None:
    fine, coarse = dynamic(kind).attention(some_maps(batch=3)).tensors
    assert (fine[:, :, 0, 0, 0] != coarse[:, :, 0, 0, 0]).any() == of_scale
    assert fine.shape == (3, 4, *((9, 8, 7) if of_place else (1, 1, 1)))
    assert not torch.allclose(fine[0], fine[1], atol=1e-3)  # every sample has a mixture of its own


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["dense", "separable"])
@pytest.mark.parametrize("bias", [False, True])
def test_mixing_kernels_equals_mixing_responses(kind: ScaleAttentionKind, path: str, bias: bool) -> None:
    layer = dynamic(kind, out_channels=3)
    layer.bank.path = path  # type: ignore[assignment]
    if bias:
        layer.absorb(torch.ones(3), torch.randn(3))
        layer.bank.bias = nn.Parameter(torch.randn(12), requires_grad=False)  # a different one in every kernel
    maps = some_maps(batch=2)
    alphas, responses = layer.attention(maps), layer.bank(maps)
    for found, alpha, response in zip(layer(maps).tensors, alphas.tensors, responses.tensors, strict=True):
        wanted = (response.unflatten(1, (4, 3)) * alpha.unsqueeze(2)).sum(1)
        assert torch.allclose(found, wanted, atol=1e-5)
        assert alpha.std() > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_maps_on_one_grid_are_filtered_with_a_width_each(kind: ScaleAttentionKind) -> None:
    layer = DynamicScaleConv(2, 1, Jet(sigma=1.5, ratio=0.7, scales=2), 3, kind)
    maps = ScaleMaps.on_one_grid(torch.randn(2, 2, 6, 5, 4), 2)
    wanted = layer.bank(maps).each(lambda x: x.mean(1, keepdim=True))  # of a uniform mixture
    for a, b in zip(layer(maps).tensors, wanted.tensors, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert not torch.allclose(wanted.tensors[0], wanted.tensors[1], atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_an_absorbed_gain_and_offset_scale_and_shift_the_output(kind: ScaleAttentionKind) -> None:
    layer, maps = dynamic(kind), some_maps(batch=2)
    before = layer(maps)
    layer.absorb(torch.tensor([2.0, -0.5]), torch.tensor([1.0, -3.0]))
    for found, old in zip(layer(maps).tensors, before.tensors, strict=True):
        wanted = torch.tensor([2.0, -0.5]).reshape(2, 1, 1, 1) * old + torch.tensor([1.0, -3.0]).reshape(2, 1, 1, 1)
        assert torch.allclose(found, wanted, atol=1e-5)


def test_the_descriptor_leaves_out_voxels_whose_filter_reaches_over_the_border() -> None:
    layer = dynamic("scale")
    maps = ScaleMaps.on_one_grid(torch.randn(1, 2, 15, 15, 15), 1)
    alpha = layer.attention(maps).tensors[0]
    at_border, inside = maps.tensors[0].clone(), maps.tensors[0].clone()
    at_border[:, :, : layer.reach] += 5.0
    inside[:, :, layer.reach] += 5.0
    assert torch.equal(layer.attention(maps.with_tensors([at_border])).tensors[0], alpha)
    assert not torch.allclose(layer.attention(maps.with_tensors([inside])).tensors[0], alpha, atol=1e-3)


# The mixture's temperature and balance


def test_the_temperature_flattens_the_mixture() -> None:
    layer, maps = dynamic("local"), some_maps()
    sharp = layer.attention(maps).tensors[0].std()
    set_temperature(layer, 30.0)
    assert layer.attention(maps).tensors[0].std() < 0.3 * sharp
    restored = DynamicScaleConv(2, 2)
    restored.load_state_dict(layer.state_dict())
    assert restored.attention.get_buffer("temperature").item() == 30.0


def test_the_load_balance_is_zero_for_even_use_and_k_minus_one_for_a_single_kernel() -> None:
    layer = DynamicScaleConv(2, 2, kernels=4)
    with pytest.raises(RuntimeError, match="no load"):
        layer.load_balance()
    maps = some_maps()
    layer(maps)
    assert layer.load_balance().item() == pytest.approx(0, abs=1e-5)
    layer.attention.last.conv.bias.data[2] = 100.0
    layer(maps)
    assert layer.load_balance().item() == pytest.approx(3)
    assert load_balance(nn.Sequential(layer)).item() == pytest.approx(3)
    layer.eval()(some_maps())
    assert copy.deepcopy(layer).eval()(maps).tensors[0].shape == (1, 2, 9, 8, 7)  # a graph's node would not be copied


def test_the_dynamic_network_is_built_by_name_and_unknown_attention_refused() -> None:
    arguments = {"in_channels": 1, "classes": 3, "channels": [4, 8], "scale_axis": {"ratio": 1.5, "count": 2}}
    for kind in KINDS:
        network = build_network("dynamic_se_unet", {**arguments, "attention": kind})
        assert network(torch.randn(2, 1, 9, 8, 7)).shape == (2, 3, 9, 8, 7)
    with pytest.raises(ValueError, match="unknown attention"):
        build_network("dynamic_se_unet", {**arguments, "attention": "global"})
