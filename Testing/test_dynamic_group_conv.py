"""Dynamic group convolutions commute exactly with their group, whatever mixture of kernels the input chooses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ScaleEquivSegLib.layers.dynamic_group_conv import (
    DynamicGroupConv,
    KernelAttention,
)
from ScaleEquivSegLib.layers.group_conv import GroupConv
from ScaleEquivSegLib.layers.groups import finite_group
from ScaleEquivSegLib.layers.mixture import load_balance, set_temperature
from turning import (
    ATTENTIONS,
    CLEARLY_BROKEN,
    EXACT,
    GROUPS,
    Unconstrained,
    dynamic,
    error_between_maps,
    gradients_are_right,
    opinionated,
    some_maps,
)

pytestmark = pytest.mark.usefixtures("double_precision")


# Equivariance, for every element


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", GROUPS)
def test_dynamic_convolution_commutes_with_the_group_under_every_attention(name: str, attention: str) -> None:
    group = finite_group(name)
    assert error_between_maps(dynamic(group, attention).eval(), group) < EXACT


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", ["p4m", "O"])
def test_dynamic_convolution_with_a_stride_commutes_with_the_group(name: str, attention: str) -> None:
    group = finite_group(name)
    assert error_between_maps(dynamic(group, attention, stride=2).eval(), group) < EXACT


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", GROUPS)
def test_the_attention_turns_with_the_input(name: str, attention: str) -> None:
    group = finite_group(name)
    scores = dynamic(group, attention).attention
    maps = some_maps(group)
    whole = scores(maps).expand(2, 3, group.order, *maps.shape[3:])

    def whole_attention(x: Tensor) -> Tensor:
        return scores(x).expand(2, 3, group.order, *x.shape[3:])

    assert error_between_maps(whole_attention, group, maps) < EXACT
    assert whole.std() > CLEARLY_BROKEN
    depends_on = {"invariant": (False, False), "pose": (True, False), "local": (True, True)}[attention]
    assert (bool(whole.std(2).max() > CLEARLY_BROKEN), bool(whole.std(3).max() > CLEARLY_BROKEN)) == depends_on


@pytest.mark.parametrize("attention", ["pose", "local"])
@pytest.mark.parametrize("name", GROUPS)
def test_an_attention_that_knows_the_absolute_pose_breaks_the_layer(name: str, attention: str) -> None:
    group = finite_group(name)
    layer = dynamic(group, attention)
    layer.attention.last = Unconstrained(group, 4, 3)
    layer.attention.last.mix.weight.data *= 20
    assert error_between_maps(layer, group) > CLEARLY_BROKEN


# What the layer computes


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_dynamic_convolution_is_the_sum_of_its_parallel_convolutions(attention: str, stride: int) -> None:
    group = finite_group("p4m")
    layer = dynamic(group, attention, stride)
    maps = some_maps(group)
    parallel = [GroupConv(group, 2, 2, stride=stride) for _ in range(3)]
    for conv, weight in zip(parallel, layer.bank.weight, strict=True):
        conv.bank.weight.data = weight[None].data
    alpha = layer.attention(maps)
    assert torch.allclose(layer(maps), sum(alpha[:, None, k] * conv(maps) for k, conv in enumerate(parallel)))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_with_one_kernel_a_dynamic_convolution_is_the_static_one(attention: str) -> None:
    group = finite_group("p4m")
    layer, static = dynamic(group, attention, kernels=1), GroupConv(group, 2, 2)
    static.bank.load_state_dict(layer.bank.state_dict())
    maps = some_maps(group)
    assert torch.allclose(layer(maps), static(maps))


def test_each_sample_of_a_batch_is_filtered_by_its_own_mixture() -> None:
    group = finite_group("p4")
    for attention in ATTENTIONS:
        layer, maps = dynamic(group, attention), some_maps(group, batch=3)
        one_by_one = torch.cat([layer(x) for x in maps.split(1)])
        assert torch.allclose(layer(maps), one_by_one)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_gradients_of_dynamic_convolutions_are_right(attention: str) -> None:
    group = finite_group("p4")
    layer = opinionated(DynamicGroupConv(group, 1, 1, kernels=2, attention=attention))
    assert gradients_are_right(layer, torch.randn(2, 1, 4, 3, 2))


# Attention: uniform start, temperature, load


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_every_kernel_has_the_same_share_at_the_start(attention: str) -> None:
    group = finite_group("p4m")
    layer = DynamicGroupConv(group, 2, 2, kernels=4, attention=attention)
    assert torch.equal(layer.attention(some_maps(group)).unique(), torch.tensor([0.25]))


def test_a_high_temperature_softens_every_mixture_and_a_low_one_sharpens_it() -> None:
    group = finite_group("p4")
    network = nn.Sequential(dynamic(group, "pose"), dynamic(group, "invariant"))
    maps = some_maps(group)
    spreads = []
    for temperature in (30.0, 1.0, 0.1):
        set_temperature(network, temperature)
        spreads.append([layer.attention(maps).std(1).mean().item() for layer in network])
    for soft, normal, sharp in zip(*spreads, strict=True):
        assert soft < 0.2 * normal
        assert normal < sharp


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_load_is_balanced_at_zero_and_worst_when_one_kernel_does_everything(attention: str) -> None:
    group = finite_group("p4")
    layer = DynamicGroupConv(group, 2, 2, kernels=3, attention=attention)
    layer(some_maps(group))
    assert layer.load_balance().item() == pytest.approx(0.0, abs=1e-12)
    bias = next(p for name, p in layer.attention.last.named_parameters() if name.endswith("bias"))
    bias.data = torch.tensor([50.0, 0.0, 0.0])
    layer(some_maps(group))
    assert layer.load_balance().item() == pytest.approx(2.0, abs=1e-9)


def test_descending_the_load_balance_brings_starved_kernels_back() -> None:
    group = finite_group("p4")
    network = nn.Sequential(dynamic(group, "pose"), dynamic(group, "local"))
    maps = some_maps(group)
    network(maps)
    before = load_balance(network).item()
    optimiser = torch.optim.SGD(network.parameters(), 0.3)
    for _ in range(50):
        optimiser.zero_grad()
        network(maps)
        load_balance(network).backward()
        optimiser.step()
    assert before > 0.01
    assert load_balance(network).item() < 0.2 * before


def test_a_load_balance_before_any_training_batch_is_refused() -> None:
    layer = dynamic(finite_group("p4"), "pose").eval()
    layer(some_maps(finite_group("p4")))
    with pytest.raises(RuntimeError, match="training"):
        layer.load_balance()


def test_an_unknown_attention_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="cosine"):
        KernelAttention(finite_group("p4"), 4, 2, "cosine")  # type: ignore[arg-type]
