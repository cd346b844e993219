"""The networks as a whole: any size, exact crops, and equivariance that an ordinary U-Net does not have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ScaleEquivSegLib.errors import Cancelled
from ScaleEquivSegLib.inference import class_scores, tiles
from ScaleEquivSegLib.layers.norm import ScaleBatchNorm
from ScaleEquivSegLib.layers.resample import ScaleAxis, apply_along_axes, linear_weights
from ScaleEquivSegLib.networks import UNet, build_network
from ScaleEquivSegLib.networks.unet import restate_statistics
from training.fields import correlation, field

CPU = torch.device("cpu")


def network(name: str, channels: tuple[int, ...] = (4, 8), count: int = 3, in_channels: int = 1) -> UNet:
    """An untrained network with statistics that fit natural images."""
    torch.manual_seed(0)
    axis = {"scale_axis": {"first": 1.0, "ratio": 2**0.5, "count": count}} if name != "unet" else {}
    net = build_network(name, {"in_channels": in_channels, "classes": 3, "channels": channels, **axis})
    images = [field(32, 1.0, "natural", seed).expand(1, in_channels, -1, -1, -1) for seed in (1, 2)]
    restate_statistics(net, images)
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("name", ["unet", "se_unet"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 9), (12, 13, 14)])
def test_any_size_of_volume_is_scored_voxel_by_voxel(name: str, shape: tuple[int, int, int]) -> None:
    scores = network(name)(torch.randn(1, 1, *shape))
    assert scores.shape == (1, 3, *shape)
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("name", ["unet", "se_unet"])
def test_tiles_give_the_scores_of_the_whole_volume(name: str) -> None:
    net = network(name, channels=(4,), count=2)
    image = field(72, 1.0, "white", seed=3)[0, :, :, :20, :11].numpy()
    assert len(list(tiles((72, 20, 11), 9, net.halo))) > 1
    whole = class_scores(net, image, CPU, lambda fraction: None, tile=1000)
    tiled = class_scores(net, image, CPU, lambda fraction: None, tile=9)
    assert np.abs(whole - tiled).max() < 1e-5 * np.abs(whole).max()


def test_a_crop_without_its_halo_is_scored_differently() -> None:
    """The control: the agreement of tiles comes from the halo."""
    net = network("unet", channels=(4, 8))
    image = field(24, 1.0, "white")
    whole = net(image)[..., :12]
    assert (net(image[..., :12]) - whole).abs().max() > 1e-3


def test_tiles_cover_every_voxel_once() -> None:
    shape = (7, 20, 33)
    covered = np.zeros(shape, int)
    for tile in tiles(shape, edge=8, halo=3):
        assert max(core.stop - core.start for core in tile.core) <= 14
        covered[tile.core] += 1
        assert all(crop.start <= core.start for crop, core in zip(tile.crop, tile.core, strict=True))
    assert (covered == 1).all()


def test_an_axis_is_not_cut_where_a_tile_would_see_all_of_it_anyway() -> None:
    assert [tile.core for tile in tiles((20, 40, 5), edge=10, halo=5)] == [
        (slice(0, 20), slice(start, start + 10), slice(0, 5)) for start in (0, 10, 20, 30)
    ]


def test_a_run_reports_its_progress_and_stops_where_it_is_told_to() -> None:
    net = network("unet")
    seen: list[float] = []
    class_scores(net, np.zeros((1, 8, 8, 8)), CPU, seen.append, tile=4)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0

    def stop(fraction: float) -> None:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        class_scores(net, np.zeros((1, 8, 8, 8)), CPU, stop)
    assert not any(module._forward_hooks for module in net.modules())


def _moved(scores: torch.Tensor, scale: float) -> torch.Tensor:
    """Scores at x / scale, as far as they are known."""
    size = scores.shape[-1]
    positions = torch.arange(int((size - 1) * scale), dtype=torch.float64) / scale
    weights = linear_weights(positions, size)
    return apply_along_axes(scores, [weights, weights, weights])


def _agreement(net: UNet, scale: float, axis_of_rescaled: ScaleAxis | None = None) -> float:
    """Correlation in the interior of the rescaled image's scores with the rescaled scores of the image."""
    size = 64
    wanted = _moved(net(field(size, 1.0, "natural")), scale)
    axis, net.axis = net.axis, axis_of_rescaled or net.axis
    found = net(field(size, scale, "natural"))
    net.axis = axis
    reach = min(wanted.shape[-1], size)
    middle = slice(reach // 4, reach - reach // 4)
    return correlation(found[..., middle, middle, middle], wanted[..., middle, middle, middle])


def test_the_equivariant_network_follows_its_input_through_scales() -> None:
    net = network("se_unet", count=5)
    assert _agreement(net, 0.9) > 0.95
    assert _agreement(net, 0.7) > 0.85


def test_an_ordinary_network_follows_much_worse() -> None:
    """The control: the same topology with ordinary convolutions on the image alone."""
    ordinary, equivariant = _agreement(network("unet"), 0.7), _agreement(network("se_unet", count=5), 0.7)
    assert 1 - ordinary > 1.5 * (1 - equivariant)


def test_on_a_scale_axis_moved_along_with_the_input_the_scores_only_move() -> None:
    net = network("se_unet", count=3)
    axis = ScaleAxis(0.8 * net.axis.first, net.axis.ratio, net.axis.count)
    assert _agreement(net, 0.8, axis) > 0.99


def test_restated_statistics_are_those_of_the_batches() -> None:
    norm = ScaleBatchNorm(1)
    net = torch.nn.Sequential(norm)
    batches = [[torch.full((1, 1, 2, 2, 2), value)] for value in (1.0, 4.0)]
    restate_statistics(net, batches)  # type: ignore[arg-type]
    assert norm.running_mean.item() == pytest.approx(2.5)
    assert norm.momentum == 0.1


def test_an_unknown_network_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="transformer"):
        build_network("transformer", {})
