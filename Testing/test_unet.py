"""The networks as a whole: any size, exact slabs, any axis, and equivariance that an ordinary U-Net does not have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ScaleEquivSegLib.errors import Cancelled
from ScaleEquivSegLib.inference import WorkingImage
from ScaleEquivSegLib.layers.maps import ScaleAxis, ScaleMaps
from ScaleEquivSegLib.layers.norm import ScaleBatchNorm
from ScaleEquivSegLib.layers.resample import apply_along_axes, linear_weights
from ScaleEquivSegLib.networks import UNet, build_network
from ScaleEquivSegLib.networks.unet import fold_normalisation, parameter_count
from training.fields import correlation, field
from training.statistics import restate_statistics
from untrained import UNETS, class_scores, untrained

pytestmark = pytest.mark.usefixtures("seeded")

VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"name": name} for name in UNETS},
    "interaction 2": {"name": "se_unet", "interaction": 2},
    "invariant attention": {"name": "dynamic_se_unet", "attention": "invariant"},
    "attention per scale": {"name": "dynamic_se_unet", "attention": "scale"},
    "mean of tapered scales": {"name": "se_unet", "projection": "mean", "taper": 1, "scales": 3},
    "maximum over scales": {"name": "se_unet", "projection": "max"},
    "larger jets": {"name": "se_unet", "jet": {"order": 3, "sigma": 1.2, "support": 4.0}},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 9), (12, 13, 14)])
def test_any_size_of_volume_is_scored_voxel_by_voxel(variant: str, shape: tuple[int, int, int]) -> None:
    scores = untrained(**VARIANTS[variant])(torch.randn(1, 1, *shape))
    assert scores.shape == (1, 3, *shape)
    assert torch.isfinite(scores).all()


# Slabs


def scored_in_slabs(network: nn.Module, image: Tensor, slab: int, **arguments: Any) -> Tensor:
    channels = [channel.numpy().transpose(2, 1, 0) for channel in image[0]]
    working = WorkingImage(channels, [np.asarray] * len(channels))
    return class_scores(network, working, slab, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(41, 9, 6), (7, 25, 6), (5, 8, 26)])
def test_slabs_give_the_scores_of_the_whole_volume(variant: str, shape: tuple[int, int, int]) -> None:
    network = untrained(**VARIANTS[variant])
    image = torch.randn(1, 1, *shape)
    (wanted,) = network(image)
    for slab in (1, 5):
        found = scored_in_slabs(network, image, slab)
        assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_a_slab_on_its_own_is_scored_differently() -> None:
    """The control: the agreement comes from what a slab is told of its neighbours."""
    network = untrained("unet")
    image = field(24, 1.0, "white")
    assert (network(image[..., :12]) - network(image)[..., :12]).abs().max() > 1e-3


def test_a_network_that_sees_all_of_its_input_is_run_whole_whatever_the_slab() -> None:
    network = build_network("published_se_unet", {"in_channels": 1, "classes": 2, "channels": (2, 2)}).eval()
    seen: list[torch.Size] = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    image = torch.randn(1, 1, 20, 9, 8)
    found = scored_in_slabs(network, image, slab=3)
    assert seen == [image.shape]
    with torch.no_grad():
        assert torch.allclose(found, network(image)[0], atol=1e-6)


@pytest.mark.parametrize("name", ["unet", "published_se_unet"])
def test_a_run_reports_its_progress_and_stops_where_it_is_told_to(name: str) -> None:
    network = build_network(name, {"in_channels": 1, "classes": 2, "channels": (2, 2)}).eval()
    image, seen = torch.zeros(1, 1, 8, 8, 8), list[float]()
    scored_in_slabs(network, image, slab=4, checkpoint=seen.append)
    assert len(seen) > 2
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)

    def stop(fraction: float) -> None:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        scored_in_slabs(network, image, slab=4, checkpoint=stop)
    assert not any(module._forward_hooks for module in network.modules())


# The scale axis


def test_the_axis_may_be_replaced_by_a_longer_one_and_back() -> None:
    network, image = untrained("se_unet"), torch.randn(1, 1, 9, 8, 7)
    before, trained_with = network(image), network.axis
    network.axis = ScaleAxis(0.5, 2**0.5, 6)
    longer = network(image)
    assert longer.shape == before.shape
    assert not torch.allclose(longer, before, atol=1e-3)
    assert (longer - scored_in_slabs(network, image, 2)).abs().max() < 1e-5 * longer.abs().max()
    network.axis = trained_with
    assert torch.equal(network(image), before)
    assert parameter_count(network.requires_grad_(True)) == parameter_count(
        untrained("se_unet", 6).requires_grad_(True)
    )


def _moved(scores: Tensor, scale: float) -> Tensor:
    """Scores at x / scale, as far as they are known."""
    size = scores.shape[-1]
    positions = torch.arange(int((size - 1) * scale), dtype=torch.float64) / scale
    weights = linear_weights(positions, size)
    return apply_along_axes(scores, [weights, weights, weights])


def _agreement(network: UNet, scale: float, axis_of_rescaled: ScaleAxis | None = None) -> float:
    """Correlation in the interior of the rescaled image's scores with the rescaled scores of the image."""
    size = 64
    wanted = _moved(network(field(size, 1.0, "natural")), scale)
    axis, network.axis = network.axis, axis_of_rescaled or network.axis
    found = network(field(size, scale, "natural"))
    network.axis = axis
    reach = min(wanted.shape[-1], size)
    middle = slice(reach // 4, reach - reach // 4)
    return correlation(found[..., middle, middle, middle], wanted[..., middle, middle, middle])


@pytest.mark.parametrize("name", ["se_unet", "dynamic_se_unet"])
def test_the_equivariant_networks_follow_their_input_through_scales(name: str) -> None:
    network = untrained(name, scales=5)
    assert _agreement(network, 0.9) > 0.95
    assert _agreement(network, 0.7) > 0.85


def test_an_ordinary_network_follows_much_worse() -> None:
    """The control: the same topology with ordinary convolutions on the image alone."""
    ordinary, equivariant = _agreement(untrained("unet"), 0.7), _agreement(untrained("se_unet", scales=5), 0.7)
    assert 1 - ordinary > 1.5 * (1 - equivariant)


@pytest.mark.parametrize("variant", ["se_unet", "dynamic_se_unet", "interaction 2", "maximum over scales"])
def test_on_a_scale_axis_moved_along_with_the_input_the_scores_only_move(variant: str) -> None:
    network = untrained(**{"scales": 3, **VARIANTS[variant]})
    axis = ScaleAxis(0.8 * network.axis.first, network.axis.ratio, network.axis.count)
    assert _agreement(network, 0.8, axis) > 0.99


# Normalisation and dropout


@pytest.mark.parametrize("variant", VARIANTS)
def test_folded_normalisation_leaves_the_scores_as_they_were(variant: str) -> None:
    network = untrained(**VARIANTS[variant])
    for block in network.milestones():
        nn.init.normal_(block.norm.weight, mean=1.0, std=0.3)
        nn.init.normal_(block.norm.bias)
    image = torch.randn(1, 1, 9, 8, 7)
    before = network(image)
    fold_normalisation(network)
    assert not any(isinstance(module, ScaleBatchNorm) for module in network.modules())
    assert (network(image) - before).abs().max() < 1e-5 * before.abs().max()
    fold_normalisation(network)  # there is nothing left to fold
    assert (network(image) - before).abs().max() < 1e-5 * before.abs().max()


def _silent_channels(maps: ScaleMaps) -> list[bool]:
    return [bool((x[0, channel] == 0).all()) for x in maps.tensors for channel in range(x.shape[1])]


def test_dropout_silences_channels_within_the_network_and_never_those_of_its_last_map() -> None:
    network = untrained("se_unet", channels=(8, 8, 8), dropout=0.4).train()
    within: list[bool] = []
    last: list[bool] = []
    network.encoder[0][0].register_forward_hook(lambda module, inputs, output: within.extend(_silent_channels(output)))
    network.projection.register_forward_pre_hook(lambda module, inputs: last.extend(_silent_channels(inputs[0])))
    for _ in range(4):
        network(torch.randn(1, 1, 6, 6, 6))
    assert 0.2 < np.mean(within) < 0.6
    assert not any(last)


@pytest.mark.parametrize("name", UNETS)
def test_dropout_does_nothing_at_inference(name: str) -> None:
    image = torch.randn(1, 1, 7, 6, 5)
    with_dropout, without = untrained(name, dropout=0.5), untrained(name)
    with_dropout.load_state_dict(without.state_dict())
    assert torch.equal(with_dropout(image), without(image))


def test_restated_statistics_are_those_of_the_batches() -> None:
    norm = ScaleBatchNorm(1)
    batches = [ScaleMaps.on_one_grid(torch.full((1, 1, 2, 2, 2), value), 1) for value in (1.0, 4.0)]
    restate_statistics(nn.Sequential(norm).eval(), batches)  # type: ignore[arg-type]
    assert norm.running_mean.item() == pytest.approx(2.5)
    assert norm.momentum == 0.1
    assert not norm.training


def test_restated_statistics_are_those_of_a_network_that_drops_nothing() -> None:
    """At inference it will drop nothing, either."""
    statistics = []
    for dropout in (0.0, 0.5):
        torch.manual_seed(0)
        network = build_network("unet", {"in_channels": 1, "classes": 2, "channels": [4, 8], "dropout": dropout})
        restate_statistics(network, [field(20, 1.0, "natural", seed) for seed in (1, 2)])
        statistics.append({key: value for key, value in network.state_dict().items() if "running" in key})
    assert statistics[0]
    assert all(torch.equal(statistics[0][key], statistics[1][key]) for key in statistics[0])


@pytest.mark.parametrize("name", ["se_unet", "dynamic_se_unet"])
def test_filters_of_several_widths_see_a_whole_image_at_once(name: str) -> None:
    arguments = {"scale_axis": {"count": 2, "ratio": 1.4}, "jet": {"scales": 2, "ratio": 1.2}, "channels": [4, 8]}
    network = build_network(name, {"in_channels": 1, "classes": 2, **arguments}).eval()
    assert isinstance(network, UNet)
    assert not network.sweepable
    image = np.random.default_rng(0).normal(size=(9, 9, 9)).astype(np.float32)
    shown = WorkingImage([image], [lambda array: array])
    assert class_scores(network, shown).shape == (2, 9, 9, 9)


def test_an_unknown_network_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="transformer"):
        build_network("transformer", {})
