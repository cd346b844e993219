"""In evaluation the posed kernels are made once, and anew whenever the weights are no longer those they came from."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ScaleEquivSegLib.layers.group_conv import GroupConv, LiftingConv
from ScaleEquivSegLib.layers.groups import finite_group
from turning import an_image, dynamic, some_maps

pytestmark = pytest.mark.usefixtures("double_precision")


def kept_bank_layers() -> list[tuple[nn.Module, Tensor]]:
    group = finite_group("p4m")
    return [
        (LiftingConv(group, 2, 2), an_image(group)),
        (GroupConv(group, 2, 2), some_maps(group)),
        (dynamic(group, "pose"), some_maps(group)),
        (dynamic(group, "local"), some_maps(group)),
    ]


def test_evaluation_makes_the_kernel_bank_once_and_gives_the_same_result() -> None:
    for layer, x in kept_bank_layers():
        trained = layer(x)
        layer.eval()
        with torch.no_grad():
            assert layer.bank() is layer.bank()
            assert torch.equal(layer(x), trained)
            assert torch.equal(layer(x), trained)


def change_in_place(layer: nn.Module) -> None:
    with torch.no_grad():
        layer.bank.weight.mul_(2)


def replace_the_data(layer: nn.Module) -> None:
    layer.bank.weight.data = layer.bank.weight.data * 2


def load_weights(layer: nn.Module) -> None:
    layer.bank.load_state_dict({"weight": layer.bank.weight * 2})


def write_through_data_and_say_so(layer: nn.Module) -> None:
    layer.bank.weight.data.mul_(2)
    layer.eval()


@pytest.mark.parametrize(
    "change", [change_in_place, replace_the_data, load_weights, write_through_data_and_say_so], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_changed_weights_are_noticed_in_evaluation(change: Callable[[nn.Module], None], mode: type) -> None:
    for layer, x in kept_bank_layers():
        layer.eval()
        with mode():
            before = layer(x)
        change(layer)
        with mode():
            assert torch.allclose(layer(x), 2 * before)


def test_a_training_step_is_noticed_in_evaluation() -> None:
    for layer, x in kept_bank_layers():
        layer.eval()
        with torch.no_grad():
            before = layer(x)
        layer.train()
        optimiser = torch.optim.Adam(layer.parameters(), 0.1)
        layer(x).square().sum().backward()
        optimiser.step()
        expected = layer(x)
        layer.eval()
        with torch.no_grad():
            assert torch.equal(layer(x), expected)
            assert not torch.allclose(layer(x), before)


def test_another_precision_is_noticed_in_evaluation() -> None:
    for layer, x in kept_bank_layers():
        layer.eval()
        with torch.no_grad():
            layer(x)
            assert layer.float()(x.float()).dtype == torch.float32


def test_weights_can_be_differentiated_in_evaluation() -> None:
    for layer, x in kept_bank_layers():
        layer.eval()
        with torch.inference_mode():
            layer(x)
        layer(x).sum().backward()
        assert layer.bank.weight.grad.abs().sum() > 0


def test_weights_made_for_inference_only_are_followed_too() -> None:
    with torch.inference_mode():
        for layer, x in kept_bank_layers():
            layer.eval()
            before = layer(x)
            change_in_place(layer)
            assert torch.allclose(layer(x), 2 * before)


def test_the_input_of_a_frozen_layer_can_be_differentiated_after_inference() -> None:
    for layer, x in kept_bank_layers():
        layer.eval().requires_grad_(False)
        with torch.inference_mode():
            layer(x)
        x.requires_grad_()
        layer(x).sum().backward()
        assert x.grad.abs().sum() > 0


def saved_and_loaded(layer: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, saved_and_loaded], ids=lambda f: f.__name__)
def test_a_copy_of_a_used_layer_follows_its_own_weights(copied: Callable[[nn.Module], nn.Module]) -> None:
    for layer, x in kept_bank_layers():
        layer(x)  # in training a dynamic layer keeps its load, a node of a graph
        layer.eval()
        with torch.no_grad():
            layer.bank.weight.mul_(2)  # counted as a change; the copy counts anew
            before = layer(x)
            twin = copied(layer)
            twin.bank.weight.mul_(2)
            assert torch.allclose(twin(x), 2 * before)
            assert torch.equal(layer(x), before)
