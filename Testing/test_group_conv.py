"""Group convolutions commute exactly with every element of their group and compute what their equations say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ScaleEquivSegLib.layers.group_conv import (
    GroupBatchNorm,
    GroupConv,
    GroupPointwise,
    GroupPool,
    LiftingConv,
    halve,
)
from ScaleEquivSegLib.layers.groups import finite_group
from turning import (
    CLEARLY_BROKEN,
    EXACT,
    GROUPS,
    Unconstrained,
    an_image,
    error_between_maps,
    gradients_are_right,
    some_maps,
    worst_error,
)

pytestmark = pytest.mark.usefixtures("double_precision")


# Equivariance, for every element


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", GROUPS)
def test_lifting_commutes_with_the_group(name: str, stride: int) -> None:
    group = finite_group(name)
    layer = LiftingConv(group, 2, 3, stride=stride, bias=True).eval()
    nn.init.normal_(layer.bias)
    image = an_image(group)
    assert layer(image).shape[:3] == (2, 3, group.order)
    assert worst_error(layer, image, group, group.act_on_image, group.act_on_maps) < EXACT


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", ["p4m", "O"])
def test_group_convolution_commutes_with_the_group(name: str, stride: int, size: int) -> None:
    group = finite_group(name)
    layer = GroupConv(group, 2, 2, size, stride, bias=True).eval()
    nn.init.normal_(layer.bias)
    assert error_between_maps(layer, group) < EXACT


@pytest.mark.parametrize("name", ["p4", "O_h"])
def test_group_convolution_commutes_with_the_smallest_and_the_largest_group(name: str) -> None:
    group = finite_group(name)
    assert error_between_maps(GroupConv(group, 2, 2).eval(), group) < EXACT


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", GROUPS)
def test_normalisation_and_pointwise_mixing_commute_with_the_group(name: str, training: bool) -> None:
    group = finite_group(name)
    norm = GroupBatchNorm(2)
    norm(some_maps(group) * 3 + 1)
    norm.train(training)
    assert error_between_maps(nn.Sequential(norm, GroupPointwise(2, 3)), group) < EXACT


@pytest.mark.parametrize("kind", ["mean", "max"])
@pytest.mark.parametrize("name", GROUPS)
def test_pooling_over_the_group_leaves_an_image_that_turns_with_the_input(name: str, kind: str) -> None:
    group = finite_group(name)
    maps = some_maps(group)
    assert worst_error(GroupPool(kind), maps, group, group.act_on_maps, group.act_on_image) < EXACT
    assert torch.equal(GroupPool("max")(maps), maps.max(2).values)


@pytest.mark.parametrize("sides", [(6, 5, 4), (5, 3, 7), (1, 2, 9)])
def test_halving_commutes_with_the_group_at_every_size(sides: tuple[int, int, int]) -> None:
    for group in (finite_group("p4m"), finite_group("O_h")):
        maps = torch.randn(1, 2, group.order, *sides[: group.dimension])
        assert error_between_maps(halve, group, maps) < EXACT
        assert halve(maps).shape[3:] == tuple((n + 1) // 2 for n in maps.shape[3:])
        assert torch.allclose(halve(torch.ones_like(maps)), torch.tensor(1.0))


# Controls: a layer without its constraint fails the same measurement


@pytest.mark.parametrize("name", GROUPS)
def test_an_unconstrained_map_over_group_and_channel_does_not_commute(name: str) -> None:
    group = finite_group(name)
    assert error_between_maps(Unconstrained(group, 2, 2), group) > CLEARLY_BROKEN


@pytest.mark.parametrize("name", GROUPS)
def test_one_kernel_for_all_poses_does_not_commute(name: str) -> None:
    group = finite_group(name)
    layer = GroupConv(group, 2, 2)
    layer.bank.table = layer.bank.table[:1].expand(group.order, -1)
    assert error_between_maps(layer, group) > CLEARLY_BROKEN


def test_statistics_for_each_pose_do_not_commute() -> None:
    group = finite_group("p4m")
    norm = nn.BatchNorm1d(2 * group.order)
    poses_differ = torch.arange(group.order).reshape(-1, 1, 1) * some_maps(group)
    norm(poses_differ.flatten(1, 2).flatten(2))
    norm.eval()
    layer = lambda maps: norm(maps.flatten(1, 2).flatten(2)).reshape(maps.shape)  # noqa: E731
    assert error_between_maps(layer, group) > CLEARLY_BROKEN


def test_a_bias_for_each_pose_does_not_commute() -> None:
    group = finite_group("p4")
    bias = torch.randn(group.order, 1, 1)
    assert error_between_maps(lambda maps: maps + bias, group) > CLEARLY_BROKEN


def test_keeping_one_pose_instead_of_pooling_does_not_commute() -> None:
    group = finite_group("O")
    keep_first = lambda maps: maps[:, :, 0]  # noqa: E731
    error = worst_error(keep_first, some_maps(group), group, group.act_on_maps, group.act_on_image)
    assert error > CLEARLY_BROKEN


def test_a_stride_at_an_even_size_does_not_commute() -> None:
    group = finite_group("p4")
    maps = torch.randn(1, 2, 4, 6, 6)
    assert error_between_maps(GroupConv(group, 2, 2, stride=2).eval(), group, maps) > CLEARLY_BROKEN


# What the layers compute


@pytest.mark.parametrize("name", ["p4m", "O"])
def test_lifting_is_one_ordinary_convolution_for_each_turned_kernel(name: str) -> None:
    group = finite_group(name)
    layer = LiftingConv(group, 2, 3)
    image = an_image(group)
    kernel = layer.bank.weight[0].reshape(3, 2, *[3] * group.dimension)
    convolution = F.conv2d if group.dimension == 2 else F.conv3d
    for h in range(group.order):
        assert torch.allclose(layer(image)[:, :, h], convolution(image, group.act_on_image(h, kernel), padding=1))


def test_group_convolution_is_the_sum_its_equation_says() -> None:
    group = finite_group("p4m")
    layer = GroupConv(group, 2, 1)
    maps = some_maps(group)
    kernel = layer.bank.weight[0].reshape(1, 2, group.order, 3, 3)
    for h in range(group.order):
        expected = sum(
            F.conv2d(maps[:, :, j], group.act_on_image(h, kernel[:, :, group.cayley[group.inverse[h], j]]), padding=1)
            for j in range(group.order)
        )
        assert torch.allclose(layer(maps)[:, :, h], expected)


@pytest.mark.parametrize(("name", "reference"), [("p1", nn.Conv2d), ("C_1", nn.Conv3d)])
def test_on_the_identity_alone_it_is_the_ordinary_convolution(name: str, reference: type[nn.Module]) -> None:
    group = finite_group(name)
    layer, plain = GroupConv(group, 2, 3, bias=True), reference(2, 3, 3, padding=1)
    layer.bank.weight.data = plain.weight.data.reshape(layer.bank.weight.shape)
    layer.bias.data = plain.bias.data
    image = an_image(group)
    assert torch.allclose(layer(image.unsqueeze(2)).squeeze(2), plain(image))


def test_normalisation_gives_each_channel_zero_mean_and_unit_power() -> None:
    maps = GroupBatchNorm(2)(some_maps(finite_group("p4"), batch=8) * 3 + 1)
    assert torch.allclose(maps.mean((0, 2, 3, 4)), torch.zeros(2), atol=1e-9)
    assert torch.allclose(maps.square().mean((0, 2, 3, 4)), torch.ones(2), atol=1e-4)


@pytest.mark.parametrize("size", [2, 4])
def test_a_kernel_without_a_centre_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="odd"):
        GroupConv(finite_group("p4"), 1, 1, size)


def test_an_unknown_pooling_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="median"):
        GroupPool("median")  # type: ignore[arg-type]


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_static_convolutions_are_right(stride: int) -> None:
    group = finite_group("p4")
    assert gradients_are_right(LiftingConv(group, 1, 1, stride=stride, bias=True), torch.randn(2, 1, 3, 2))
    assert gradients_are_right(GroupConv(group, 1, 1, stride=stride, bias=True), torch.randn(1, 1, 4, 3, 2))


def test_gradients_in_three_dimensions_are_right() -> None:
    assert gradients_are_right(LiftingConv(finite_group("O"), 1, 1), torch.randn(1, 1, 2, 2, 1))
