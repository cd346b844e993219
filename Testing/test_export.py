"""The networks can be compiled as one graph and exported, and score as they did."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor

from ScaleEquivSegLib.layers import tracing
from untrained import UNETS, untrained

pytestmark = pytest.mark.usefixtures("seeded")

SMALL = {"channels": (2, 4)}
"""Every operation is traced, and tracing takes a second for a hundred of them."""


def an_image(seed: int) -> Tensor:
    return torch.randn(1, 1, 6, 5, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", UNETS)
def test_a_network_compiled_as_one_graph_gives_the_same_scores(name: str) -> None:
    network = untrained(name, **SMALL)
    torch.compiler.reset()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for seed in (0, 1):
            assert torch.allclose(compiled(an_image(seed)), network(an_image(seed)), atol=1e-5)


@pytest.mark.parametrize("name", UNETS)
def test_an_exported_network_scores_other_images_as_the_network_does(name: str) -> None:
    network = untrained(name, **SMALL)
    network(an_image(0))  # what is kept from an earlier run must not become part of the program
    exported = torch.export.export(network, (an_image(0),)).module()
    assert torch.allclose(exported(an_image(1)), network(an_image(1)), atol=1e-5)
    assert not torch.allclose(exported(an_image(1)), exported(an_image(0)), atol=1e-2)


@pytest.mark.parametrize("path", ["dense", "separable"])
def test_a_network_is_exported_on_either_path(path: str) -> None:
    network = untrained("se_unet", scales=1, channels=(2, 2))
    for block in network.milestones():
        block.conv.path = path
    exported = torch.export.export(network, (an_image(0),)).module()
    assert torch.allclose(exported(an_image(1)), network(an_image(1)), atol=1e-5)


@pytest.mark.parametrize("attention", ["invariant", "scale"])
def test_an_exported_network_chooses_its_kernels_for_the_image_it_is_given(attention: str) -> None:
    network = untrained("dynamic_se_unet", scales=1, channels=(2, 2), attention=attention)
    exported = torch.export.export(network, (an_image(0),)).module()
    assert torch.allclose(exported(an_image(1)), network(an_image(1)), atol=1e-5)


def test_with_a_torch_that_cannot_say_whether_it_compiles_networks_run_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.compiler, "is_compiling")
    assert importlib.reload(tracing).is_compiling() is False
    monkeypatch.undo()
    assert importlib.reload(tracing).is_compiling is torch.compiler.is_compiling
