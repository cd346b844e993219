"""The published configuration: its recorded outputs, the same mathematics done slowly, and what it never used."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import published_oracle as oracle
from ScaleEquivSegLib.layers.published_basis import PublishedBasis
from ScaleEquivSegLib.layers.published_conv import PublishedLiftingConv, PublishedPointwise, PublishedScaleConv
from ScaleEquivSegLib.layers.published_norm import PublishedBatchNorm
from ScaleEquivSegLib.networks import build_network
from ScaleEquivSegLib.networks.published import ChannelDropout, PublishedProjection, load_published_checkpoint

GOLDEN = "SCALEEQUIVSEG_GOLDEN"
TINY = PublishedBasis(scales=(1.0, 0.9, 0.729))


def relative_error(found: Tensor, wanted: np.ndarray) -> float:
    difference = found.detach().double().numpy() - wanted
    return float(np.linalg.norm(difference) / np.linalg.norm(wanted))


# Recorded outputs of the published implementation


@pytest.fixture
def golden_folder() -> Path:
    if GOLDEN not in os.environ:
        pytest.skip(f"set {GOLDEN} to the folder of the published implementation's recorded inputs and outputs")
    return Path(os.environ[GOLDEN])


def recorded(folder: Path, name: str) -> tuple[dict[str, Any], Tensor, np.ndarray, dict[str, Tensor]]:
    """A case's arguments, input, output and weights."""
    arguments = json.loads((folder / "index.json").read_text(encoding="utf-8"))[name]
    with np.load(folder / f"{name}.npz", allow_pickle=False) as case:
        state = {key.removeprefix("w."): torch.from_numpy(case[key]) for key in case if key.startswith("w.")}
        return arguments, torch.from_numpy(case["x"]), case["y"], state


def layer_of(case: dict[str, Any]) -> nn.Module:
    channels = case["in_channels"], case["out_channels"]
    if case["kind"] == "pointwise":
        return PublishedPointwise(*channels)
    basis = PublishedBasis(
        case["basis_type"], tuple(case["scales"]), case["kernel_size"], case["effective_size"], case["kernel_padding"]
    )
    if case["kind"] == "lift":
        return PublishedLiftingConv(*channels, basis, case["stride"], case["padding"])
    transposed = case.get("transposed", False)
    return PublishedScaleConv(*channels, basis, case["scale_size"], case["stride"], case["padding"], transposed)


@pytest.mark.parametrize(
    "name",
    [
        "lift",
        "lift_stride2_valid",
        "scale_conv",
        "scale_conv_interaction2_single_basis",
        "scale_conv_padded_kernels",
        "scale_conv_transposed_stride2",
        "pointwise_bias_ignored",
    ],
)
def test_a_layer_gives_the_recorded_output(golden_folder: Path, name: str) -> None:
    case, x, y, state = recorded(golden_folder, name)
    layer = layer_of(case)
    if "basis" in state:
        assert relative_error(layer.get_buffer("basis"), state["basis"].numpy()) < 1e-6
    layer.load_state_dict({key: tensor for key, tensor in state.items() if key != "basis"}, strict=False)
    assert relative_error(layer(x), y) < 1e-5


@pytest.mark.parametrize(("name", "projection"), [("unet_avg", "mean"), ("unet_max", "max")])
@torch.inference_mode()
def test_the_whole_network_gives_the_recorded_output(golden_folder: Path, name: str, projection: str) -> None:
    case, x, y, state = recorded(golden_folder, name)
    arguments = {"in_channels": 4, "classes": 1, "channels": case["channels"], "projection": projection}
    network = build_network("published_se_unet", arguments).eval()
    assert {key: tensor.shape for key, tensor in network.state_dict().items()} == {
        key: tensor.shape for key, tensor in state.items()
    }
    loaded, _ = load_published_checkpoint(state, projection)
    # Computed by this project's own basis, not the recorded one.
    network.load_state_dict({key: t for key, t in state.items() if not key.endswith("basis")}, strict=False)
    assert relative_error(network(x), y) < 1e-5
    assert relative_error(loaded(x), y) < 1e-5


# The same mathematics, slowly


@pytest.mark.parametrize(
    ("kind", "orders", "kernel_padding", "radii"),
    [
        ("multi", oracle.multi_orders(), False, (2, 2, 2)),
        ("single", oracle.single_orders(), False, (2, 2, 2)),
        ("multi", oracle.multi_orders(), True, (2, 2, 1)),
    ],
)
def test_the_basis_is_that_of_the_formula(kind: str, orders: Any, kernel_padding: bool, radii: Any) -> None:
    basis = PublishedBasis(kind, TINY.scales, kernel_padding=kernel_padding)
    assert basis.orders() == orders
    assert relative_error(basis.samples(), oracle.basis(orders, TINY.scales, radii)) < 1e-6


def test_the_multi_basis_is_cut_so_that_the_axes_differ() -> None:
    x, y, z = zip(*PublishedBasis().orders(), strict=True)
    assert (max(x), max(y), max(z)) == (4, 4, 2)


@pytest.mark.parametrize(("stride", "padding"), [(1, 2), (2, 0), (2, 1)])
def test_lifting_is_a_sum_over_the_image(stride: int, padding: int) -> None:
    torch.manual_seed(0)
    conv = PublishedLiftingConv(2, 2, TINY, stride, padding)
    nn.init.normal_(conv.bias)
    image = torch.randn(2, 5, 6, 7)
    wanted = oracle.lifted(image.numpy(), *_learnt(conv), _functions(), stride, padding)
    assert relative_error(conv(image[None])[0], wanted) < 1e-5


@pytest.mark.parametrize("scale_size", [1, 2, 4])
@pytest.mark.parametrize(
    ("transposed", "stride", "padding"), [(False, 1, 2), (False, 2, 1), (True, 2, 0), (True, 1, 2), (True, 3, 1)]
)
def test_a_scale_convolution_is_a_sum_over_space_and_the_next_scales(
    scale_size: int, transposed: bool, stride: int, padding: int
) -> None:
    torch.manual_seed(0)
    conv = PublishedScaleConv(2, 2, TINY, scale_size, stride, padding, transposed)
    nn.init.normal_(conv.bias)
    maps = torch.randn(2, 3, 3, 4, 5)
    wanted = oracle.convolved(maps.numpy(), *_learnt(conv), _functions(), stride, padding, transposed)
    assert relative_error(conv(maps[None])[0], wanted) < 1e-5


def _learnt(conv: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    return conv.get_parameter("weight").detach().numpy(), conv.get_parameter("bias").detach().numpy()


def _functions() -> np.ndarray:
    return oracle.basis(oracle.multi_orders(), TINY.scales, (2, 2, 2))


def test_gradients_of_the_convolutions_are_right() -> None:
    for transposed in (False, True):
        conv = PublishedScaleConv(1, 1, TINY, 2, stride=2, padding=1, transposed=transposed).double()
        maps = torch.randn(1, 1, 3, 3, 4, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(conv, (maps,))


@pytest.mark.parametrize("training", [True, False])
def test_normalisation_uses_the_unbiased_statistics_of_its_own_input(training: bool) -> None:
    torch.manual_seed(0)
    norm = PublishedBatchNorm(2).train(training)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm(100 * torch.randn(1, 2, 1, 2, 2, 2))  # an earlier input leaves no trace
    maps = 3 * torch.randn(2, 2, 2, 1, 2, 1) + 5
    assert relative_error(norm(maps), oracle.normalised(maps.double().numpy(), *_learnt(norm))) < 1e-5


def test_a_pointwise_convolution_mixes_channels_and_leaves_its_bias_out() -> None:
    conv = PublishedPointwise(2, 3)
    maps = torch.randn(1, 2, 4, 2, 3, 2)
    before = conv(maps)
    nn.init.normal_(conv.bias)
    assert torch.equal(conv(maps), before)
    wanted = np.tensordot(_learnt(conv)[0][:, :, 0, 0, 0], maps[0].numpy(), axes=1)
    assert relative_error(before[0], wanted) < 1e-6


def test_dropout_takes_whole_channels_at_all_scales_and_only_in_training() -> None:
    torch.manual_seed(0)
    maps = torch.ones(1, 400, 4, 2, 1, 3)
    dropout = ChannelDropout(0.25)
    per_channel = dropout(maps).flatten(2)[0]
    assert torch.equal(per_channel.amin(1), per_channel.amax(1))
    assert per_channel.unique().tolist() == pytest.approx([0, 4 / 3])
    assert 0.2 < float((per_channel[:, 0] == 0).float().mean()) < 0.3
    assert torch.equal(dropout.eval()(maps), maps)


def test_the_projection_is_over_the_scales() -> None:
    maps = torch.randn(2, 3, 4, 5, 6, 7)
    assert torch.allclose(PublishedProjection("mean")(maps), torch.stack(maps.unbind(2)).sum(0) / 4)
    assert torch.equal(PublishedProjection("max")(maps), maps.max(dim=2).values)
