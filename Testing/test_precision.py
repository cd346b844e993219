"""In another precision every layer and network gives what it gives in single precision, as far as that one can tell."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from every_layer import EVERY_LAYER
from ScaleEquivSegLib.layers.dropout import ScaleChannelDropout
from ScaleEquivSegLib.layers.maps import ScaleAxis, ScaleMaps
from ScaleEquivSegLib.layers.norm import ScaleBatchNorm
from ScaleEquivSegLib.layers.resample import lift
from ScaleEquivSegLib.layers.scale_conv import ScaleConv
from ScaleEquivSegLib.networks import UNet
from untrained import UNETS, untrained

pytestmark = pytest.mark.usefixtures("seeded")

PRECISIONS = {torch.float64: 1e-5, torch.float16: 5e-3, torch.bfloat16: 5e-2}
"""How far results may lie from those in single precision, of their own norm."""


def maps_in(dtype: torch.dtype) -> ScaleMaps:
    image = torch.randn(1, 2, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    return lift(image, ScaleAxis(1.0, 1.5, 2)).each(lambda x: x.to(dtype))


def single_precision(name: str) -> tuple[nn.Module, list[Tensor]]:
    torch.manual_seed(0)
    layer = EVERY_LAYER[name]()
    return layer, [x.detach() for x in layer(maps_in(torch.float32)).tensors]


def difference(found: Tensor, wanted: Tensor) -> float:
    return float((found.detach().float() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", EVERY_LAYER)
def test_a_layer_answers_in_the_precision_it_is_asked_in(name: str, dtype: torch.dtype) -> None:
    layer, wanted = single_precision(name)
    for a, b in zip(layer.to(dtype)(maps_in(dtype)).tensors, wanted, strict=True):
        assert a.dtype == dtype
        assert difference(a, b) < PRECISIONS[dtype]


@pytest.mark.parametrize("name", EVERY_LAYER)
def test_a_layer_works_under_autocast(name: str) -> None:
    layer, wanted = single_precision(name)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(maps_in(torch.float32)).tensors
    for a, b in zip(found, wanted, strict=True):
        assert difference(a, b) < PRECISIONS[torch.bfloat16]


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_dropout_keeps_the_precision(dtype: torch.dtype) -> None:
    assert all(x.dtype == dtype for x in ScaleChannelDropout(0.5)(maps_in(dtype)).tensors)


IMAGE = torch.randn(1, 1, 9, 8, 7, generator=torch.Generator().manual_seed(1))


@cache
def scored(name: str) -> tuple[UNet, Tensor]:
    network = untrained(name)
    return network, network(IMAGE)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", UNETS)
def test_a_network_answers_in_the_precision_it_is_asked_in(name: str, dtype: torch.dtype) -> None:
    network, wanted = scored(name)
    found = copy.deepcopy(network).to(dtype)(IMAGE.to(dtype))
    assert found.dtype == dtype
    assert difference(found, wanted) < PRECISIONS[dtype]


@pytest.mark.parametrize("name", UNETS)
def test_a_network_works_under_autocast_and_afterwards_as_before(name: str) -> None:
    network, wanted = scored(name)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(IMAGE)
    assert difference(found, wanted) < PRECISIONS[torch.bfloat16]
    assert torch.equal(network(IMAGE), wanted)


@pytest.mark.parametrize("name", UNETS)
def test_a_network_trains_under_autocast(name: str) -> None:
    network = untrained(name).train().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = network(IMAGE).square().mean()
    loss.backward()
    gradients = [w.grad for w in network.parameters() if w.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("path", ["dense", "separable"])
def test_kernels_made_under_autocast_are_not_kept_for_full_precision(path: str) -> None:
    layer = ScaleConv(2, 3, path=path).eval().requires_grad_(False)  # type: ignore[arg-type]
    maps = maps_in(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        layer(maps)
    after = layer(maps).tensors[0]
    assert after.dtype == torch.float32
    layer.path = layer.path  # forgets what it kept
    assert torch.equal(layer(maps).tensors[0], after)


@pytest.mark.parametrize("bright", [300.0, 3000.0])
def test_large_values_in_half_precision_leave_the_statistics_finite(bright: float) -> None:
    """The square of either is beyond the largest number in half precision."""
    norm = ScaleBatchNorm(1)
    maps = ScaleMaps.on_one_grid(torch.randn(1, 1, 8, 8, 8), 2).each(lambda x: (bright * x).half())
    (found, _) = norm(maps).tensors
    assert found.dtype == torch.float16
    assert found.std().item() == pytest.approx(1.0, rel=1e-2)
    assert norm.running_var.item() == pytest.approx(0.9 + 0.1 * bright**2, rel=0.2)
