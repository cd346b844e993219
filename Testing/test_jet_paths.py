"""Dense and separable are two ways to one result; in evaluation the kernels of either are made once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ScaleEquivSegLib.layers import jet_filter
from ScaleEquivSegLib.layers.basis import Jet
from ScaleEquivSegLib.layers.jet_filter import Padding, apply_kernel, cheaper_path
from ScaleEquivSegLib.layers.maps import ScaleAxis, ScaleMaps
from ScaleEquivSegLib.layers.resample import lift
from ScaleEquivSegLib.layers.scale_conv import ScaleConv

PATHS: tuple[Literal["dense"], Literal["separable"]] = ("dense", "separable")

arguments = st.fixed_dictionaries(
    {
        "in_channels": st.integers(1, 3),
        "out_channels": st.integers(1, 3),
        "interaction": st.integers(1, 3),
        "stride": st.sampled_from([1, 2]),
        "padding": st.sampled_from(["replicate", "zeros"]),
        "bias": st.booleans(),
    }
)
jets = st.builds(
    Jet,
    order=st.integers(0, 3),
    sigma=st.floats(0.7, 2.0),
    ratio=st.sampled_from([0.8, 1.25]),
    scales=st.sampled_from([1, 3]),
    support=st.floats(1.5, 3.0),
)

pytestmark = pytest.mark.usefixtures("seeded")
shapes = st.tuples(*[st.sampled_from([1, 2, 5, 8])] * 3)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(jet=jets, arguments=arguments, shape=shapes, seed=st.integers(0, 1000))
def test_both_paths_give_the_same_responses(
    jet: Jet, arguments: dict[str, Any], shape: tuple[int, ...], seed: int
) -> None:
    torch.manual_seed(seed)
    image = torch.randn(2, arguments["in_channels"], *shape)
    # Several widths are for maps on one grid; a single one for a grid of each scale's own.
    maps = ScaleMaps.on_one_grid(image, 3) if jet.scales > 1 else lift(image, ScaleAxis(1.0, 1.4, 3))
    dense, separable = (ScaleConv(**arguments, jet=jet, path=path) for path in PATHS)
    with torch.no_grad():
        for parameter in dense.parameters():
            parameter.normal_()
        separable.load_state_dict(dense.state_dict())
        pairs = zip(dense(maps).tensors, separable(maps).tensors, strict=True)
        for a, b in pairs:
            assert a.shape == b.shape
            assert (a - b).norm() <= 1e-5 * a.norm()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    stride=st.sampled_from([1, 2]),
    padding=st.sampled_from(["replicate", "zeros"]),
    open_axis=st.sampled_from([None, 0, 1, 2]),
    shape=st.tuples(*[st.sampled_from([9, 12, 15])] * 3),
    kilobytes=st.sampled_from([1, 4, 9]),
)
def test_a_map_filtered_in_blocks_is_the_map_filtered_at_once(
    stride: int, padding: Padding, open_axis: int | None, shape: tuple[int, ...], kilobytes: int
) -> None:
    maps = torch.randn(1, 2, *shape, dtype=torch.float64)
    lines = torch.randn(3, 7, dtype=torch.float64)
    kernel = torch.randn(3, 3, 4, 2, 7, dtype=torch.float64)  # (m, l, out, in, x)
    bias = torch.randn(4, dtype=torch.float64)

    def respond() -> Tensor:
        return apply_kernel("separable", maps, kernel, lines, padding, stride, 1, bias, open_axis)

    at_once = respond()
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(jet_filter, "BLOCK_BYTES", 1024 * kilobytes)
        torch.testing.assert_close(respond(), at_once)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["replicate", "zeros"])
def test_both_paths_have_the_same_gradients(padding: Padding, stride: int) -> None:
    dense, separable = (
        ScaleConv(2, 3, Jet(order=2, sigma=1.1), path=path, padding=padding, stride=stride).double() for path in PATHS
    )
    separable.load_state_dict(dense.state_dict())
    image = torch.randn(2, 2, 9, 8, 10, dtype=torch.float64)
    slopes = []
    for layer in (dense, separable):
        shown = image.clone().requires_grad_()
        sum(x.square().sum() for x in layer(lift(shown, ScaleAxis(1.0, 1.4, 2))).tensors).backward()
        slopes.append([shown.grad, *(parameter.grad for parameter in layer.parameters())])
    for a, b in zip(*slopes, strict=True):
        torch.testing.assert_close(a, b)


def test_a_state_tells_nothing_of_the_path_it_was_trained_on() -> None:
    dense, separable = (ScaleConv(2, 3, bias=True, path=path) for path in PATHS)
    assert dense.state_dict().keys() == separable.state_dict().keys() == {"weight", "bias"}
    assert [v.shape for v in dense.state_dict().values()] == [v.shape for v in separable.state_dict().values()]


@pytest.mark.parametrize(
    ("radius", "channels", "path"), [(1, 8, "dense"), (3, 1, "dense"), (5, 16, "separable"), (8, 8, "separable")]
)
def test_small_kernels_are_convolved_at_once_and_large_ones_line_by_line(radius: int, channels: int, path: str) -> None:
    assert cheaper_path(Jet(), radius, channels, channels) == path


@pytest.mark.parametrize(("jet", "path"), [(Jet(sigma=0.5, support=2.0), "dense"), (Jet(sigma=2.0), "separable")])
def test_a_layer_takes_the_cheaper_path_unless_told_otherwise(jet: Jet, path: Literal["dense", "separable"]) -> None:
    maps = ScaleMaps.on_one_grid(torch.randn(1, 4, 6, 6, 6), 1)
    layer = ScaleConv(4, 4, jet).eval().requires_grad_(False)
    (found,) = layer(maps).tensors
    layer.path = path
    assert torch.equal(layer(maps).tensors[0], found)
    assert layer.path == path


# Kernels are kept in evaluation


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[ScaleConv]:
    """The layers that made kernels, in order."""
    made: list[ScaleConv] = []
    build = ScaleConv._build

    def counted(self: ScaleConv) -> list[Tensor]:
        made.append(self)
        return build(self)

    monkeypatch.setattr(ScaleConv, "_build", counted)
    return made


def inference_layer() -> ScaleConv:
    return ScaleConv(2, 3, interaction=2, bias=True).eval()


MAPS = ScaleMaps.on_one_grid(torch.linspace(-1, 1, 2 * 5 * 4 * 3).sin().reshape(1, 2, 5, 4, 3), 2)


def response(layer: ScaleConv, dtype: torch.dtype = torch.float32) -> Tensor:
    with torch.inference_mode():
        return layer(MAPS.each(lambda x: x.to(dtype))).tensors[0]


def test_evaluation_makes_the_kernels_once(builds: list[ScaleConv]) -> None:
    layer = inference_layer()
    first = response(layer)
    assert torch.equal(response(layer), first)
    with torch.no_grad():
        assert torch.equal(layer(MAPS).tensors[0], first)
    assert len(builds) == 1


def change_in_place(layer: ScaleConv) -> None:
    with torch.no_grad():
        layer.weight.mul_(2)


def replace_the_data(layer: ScaleConv) -> None:
    layer.weight.data = layer.weight.data * 2


def load_weights(layer: ScaleConv) -> None:
    layer.load_state_dict({"weight": 2 * layer.weight, "bias": layer.bias})


def write_through_data_and_say_so(layer: ScaleConv) -> None:
    layer.weight.data.mul_(2)
    layer.eval()


def absorb_a_gain(layer: ScaleConv) -> None:
    layer.absorb(torch.full((3,), 2.0), torch.zeros(3))


@pytest.mark.parametrize(
    "change",
    [change_in_place, replace_the_data, load_weights, write_through_data_and_say_so, absorb_a_gain],
    ids=lambda f: f.__name__,
)
def test_changed_weights_are_noticed(change: Callable[[ScaleConv], None], builds: list[ScaleConv]) -> None:
    layer = inference_layer()
    before = response(layer)
    change(layer)
    assert torch.allclose(response(layer), 2 * before, atol=1e-5)
    response(layer)
    assert len(builds) == 2


def test_another_path_and_another_precision_have_kernels_of_their_own(builds: list[ScaleConv]) -> None:
    layer = inference_layer()
    layer.path = "dense"
    before = response(layer)
    layer.path = "separable"
    assert torch.allclose(response(layer), before, atol=1e-5)
    layer.double()
    found = response(layer, torch.float64)
    assert found.dtype == torch.float64
    assert torch.allclose(found.float(), before, atol=1e-5)
    assert len(builds) == 3


def test_a_copy_makes_kernels_of_its_own(builds: list[ScaleConv]) -> None:
    layer = inference_layer()
    before = response(layer)
    copied = copy.deepcopy(layer)
    assert torch.equal(response(copied), before)
    assert builds == [layer, copied]
    change_in_place(copied)
    assert torch.allclose(response(copied), 2 * before, atol=1e-5)
    assert torch.equal(response(layer), before)
    assert builds == [layer, copied, copied]


def test_training_makes_the_kernels_at_every_step_and_leaves_none_behind(builds: list[ScaleConv]) -> None:
    layer = inference_layer()
    before = response(layer)
    layer.train()
    optimiser = torch.optim.Adam(layer.parameters(), 0.1)
    for _ in range(2):
        layer(MAPS).tensors[0].square().sum().backward()
        optimiser.step()
    assert len(builds) == 3
    layer.eval()
    assert not torch.allclose(response(layer), before, atol=1e-2)
    assert len(builds) == 4


def test_a_gradient_at_inference_reaches_the_weights(builds: list[ScaleConv]) -> None:
    layer = inference_layer()
    response(layer)
    layer(MAPS).tensors[0].sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().max() > 0
    assert len(builds) == 2
