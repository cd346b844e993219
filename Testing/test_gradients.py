"""The gradients of every layer are right, with respect to its maps and to its weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from every_layer import EVERY_LAYER
from ScaleEquivSegLib.layers.maps import ScaleAxis, ScaleMaps
from ScaleEquivSegLib.layers.resample import lift

pytestmark = pytest.mark.usefixtures("double_precision")


def gradients_are_right(layer: nn.Module, maps: ScaleMaps) -> bool:
    names = [name for name, _ in layer.named_parameters()]
    weights = [w.detach().clone().requires_grad_() for w in layer.parameters()]
    tensors = [x.detach().clone().requires_grad_() for x in maps.tensors]

    def outputs(*inputs: Tensor) -> list[Tensor]:
        parameters = dict(zip(names, inputs[len(tensors) :], strict=True))
        # The running statistics are part of the module and would move between the evaluations.
        state = {name: buffer.clone() for name, buffer in layer.named_buffers()}
        of_call = ScaleMaps(list(inputs[: len(tensors)]), maps.grids)
        return torch.func.functional_call(layer, {**parameters, **state}, (of_call,)).tensors

    return torch.autograd.gradcheck(outputs, (*tensors, *weights), fast_mode=True)


@pytest.mark.parametrize("name", EVERY_LAYER)
def test_gradients_of_the_layer_are_right(name: str) -> None:
    maps = lift(torch.randn(1, 2, 3, 4, 2), ScaleAxis(1.0, 1.5, 2))
    assert gradients_are_right(EVERY_LAYER[name]().double(), maps)


def test_a_gradient_that_is_wrong_is_found() -> None:
    """The control: an offset that depends on the maps behind autograd's back."""

    class Cheating(nn.Module):
        def forward(self, maps: ScaleMaps) -> ScaleMaps:
            return maps.each(lambda x: x + x.detach().square())

    with pytest.raises(GradcheckError):
        gradients_are_right(Cheating(), lift(torch.randn(1, 2, 3, 4, 2), ScaleAxis()))
