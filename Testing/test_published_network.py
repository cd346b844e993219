"""The published U-Net as a whole: its wiring, its state's names, its checkpoints, and what it cannot do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ScaleEquivSegLib.layers.resample import apply_along_axes, linear_weights
from ScaleEquivSegLib.networks import PublishedUNet, build_network
from ScaleEquivSegLib.networks.published import idle_biases, load_published_checkpoint
from ScaleEquivSegLib.networks.unet import parameter_count
from training.fields import correlation, field, relative_difference

POINTWISE = "model.1.submodule.1.submodule.1.submodule.residual.bias"


def network(in_channels: int = 1, classes: int = 1, projection: str = "mean") -> PublishedUNet:
    """An untrained network, away from the initial ones and zeros of its biases and normalisations."""
    torch.manual_seed(0)
    arguments = {"in_channels": in_channels, "classes": classes, "projection": projection}
    net: PublishedUNet = build_network("published_se_unet", arguments)
    for name, parameter in net.named_parameters():
        if name.endswith("bias") or "batch_norm" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return net.eval()


def changed(state: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    return {name: tensor + 1 if name in names else tensor for name, tensor in state.items()}


def scores_with(state: dict[str, Tensor], image: Tensor) -> Tensor:
    return load_published_checkpoint(state)[0](image)


@pytest.mark.parametrize("projection", ["mean", "max"])
@torch.inference_mode()
def test_the_network_is_wired_as_its_state_is_named(projection: str) -> None:
    net = network(2, 3, projection)
    image = torch.randn(1, 2, 29, 29, 37)
    maps = _straight_line(net, image)
    wanted = maps.mean(2) if projection == "mean" else maps.max(2).values
    assert relative_difference(net(image), wanted) < 1e-8


def _straight_line(net: nn.Module, image: Tensor) -> Tensor:
    """The network once more in a straight line, its convolutions and normalisations called by their names."""

    def bare(path: str, maps: Tensor, kind: str = "h_h") -> Tensor:
        result: Tensor = net.get_submodule(f"model.{path}.conv_{kind}")(maps)
        return result

    def unit(path: str, maps: Tensor, kind: str = "h_h") -> Tensor:
        maps = net.get_submodule(f"model.{path}.batch_norm")(bare(path, maps, kind))
        return maps * torch.sigmoid(maps)

    def refined(path: str, maps: Tensor) -> Tensor:
        return maps + unit(f"{path}.conv.unit0", maps)

    second, third = "1.submodule", "1.submodule.1.submodule"
    bottom = f"{third}.1.submodule"
    a = unit("0.conv.unit1", unit("0.conv.unit0", image, "z_h")) + bare("0.residual", image, "z_h")
    b = unit(f"{second}.0.conv.unit1", unit(f"{second}.0.conv.unit0", a)) + bare(f"{second}.0.residual", a)
    c = unit(f"{third}.0.conv.unit1", unit(f"{third}.0.conv.unit0", b)) + bare(f"{third}.0.residual", b)
    d = unit(f"{bottom}.conv.unit1", unit(f"{bottom}.conv.unit0", c))
    d = d + net.get_submodule(f"model.{bottom}.residual")(c)
    c = refined(f"{third}.2.1", unit(f"{third}.2.0", torch.cat([c, d], 1)))
    b = refined(f"{second}.2.1", unit(f"{second}.2.0", torch.cat([b, c], 1)))
    a = unit("2.0.0", torch.cat([a, b], 1))
    return a + bare("2.0.1.conv.unit0", a)


def test_the_published_network_holds_75555_numbers_and_trains_all_but_32() -> None:
    net = network(in_channels=4, classes=1)
    assert sum(parameter.numel() for parameter in net.parameters()) == 75_555
    assert parameter_count(net) == 75_555 - 32


def test_a_gradient_reaches_every_trainable_number_and_not_the_pointwise_bias() -> None:
    net = network()
    net(torch.randn(1, 1, 29, 29, 29)).square().sum().backward()
    assert {name for name, p in net.named_parameters() if p.grad is None} == {POINTWISE}
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


@torch.inference_mode()
def test_a_checkpoint_gives_the_network_it_was_taken_from() -> None:
    net = network(2, 3)
    image = torch.randn(1, 2, 29, 29, 29)
    loaded, remarks = load_published_checkpoint(net.state_dict())
    assert torch.equal(loaded(image), net(image))
    assert not loaded.training
    assert len(remarks) == 2
    assert remarks[0] == f"held and never added: 32 numbers in {POINTWISE}"
    assert "147 numbers in model.0.conv.unit0.conv_z_h.bias" in remarks[1]  # one more for each further class


@torch.inference_mode()
def test_the_idle_parts_of_a_checkpoint_change_no_score_and_any_other_bias_does() -> None:
    state = network().state_dict()
    image = torch.randn(1, 1, 29, 29, 29)
    before = scores_with(state, image)
    never_added, cancelled = idle_biases(network())
    assert never_added == [POINTWISE]
    assert torch.equal(scores_with(changed(state, never_added), image), before)
    assert torch.allclose(scores_with(changed(state, cancelled), image), before, atol=1e-4)
    others = [name for name in state if name.endswith("bias") and name not in never_added + cancelled]
    assert len(others) == 13 + 4  # of the normalisations, three residual convolutions and the last
    for name in others:
        assert not torch.allclose(scores_with(changed(state, [name]), image), before, atol=1e-3), name


@torch.inference_mode()
def test_a_checkpoint_with_another_basis_is_used_as_it_is_and_says_so() -> None:
    state = network().state_dict()
    name = "model.0.residual.conv_z_h.basis"
    foreign = {**state, name: 2 * state[name]}
    loaded, remarks = load_published_checkpoint(foreign)
    assert remarks[-1] == f"not the basis of the published scales, used as it is: {name}"
    assert torch.equal(loaded.get_buffer(name), 2 * state[name])


def test_what_is_no_published_checkpoint_is_refused() -> None:
    state = network().state_dict()
    with pytest.raises(ValueError, match="weight' is missing"):
        load_published_checkpoint({})
    with pytest.raises(ValueError, match=POINTWISE):
        load_published_checkpoint({name: tensor for name, tensor in state.items() if name != POINTWISE})
    arguments = {"in_channels": 1, "classes": 1, "scale_size": 2}
    with pytest.raises(ValueError, match="its own arguments"):
        load_published_checkpoint(build_network("published_se_unet", arguments).state_dict())


@pytest.mark.parametrize("shape", [(1, 1, 1), (30, 7, 37)])
@torch.inference_mode()
def test_any_size_of_image_is_scored_voxel_by_voxel(shape: tuple[int, int, int]) -> None:
    scores = network(classes=2)(torch.randn(1, 1, *shape))
    assert scores.shape == (1, 2, *shape)
    assert torch.isfinite(scores).all()


@torch.inference_mode()
def test_an_image_that_does_not_fit_is_scored_as_part_of_one_that_does() -> None:
    net = network()
    assert [net.fitting_size(size) for size in (1, 29, 30, 37, 240)] == [29, 29, 37, 37, 245]
    image = torch.randn(1, 1, 37, 26, 29)
    first, last = image[:, :, :, :1], image[:, :, :, -1:]
    extended = torch.cat([first, image, last, last], dim=3)
    assert torch.allclose(net(image), net(extended)[:, :, :, 1:-2], atol=1e-6)


@torch.inference_mode()
def test_no_margin_gives_a_crop_the_scores_of_the_whole_volume() -> None:
    """What far-away voxels hold changes a score through the statistics, although no filter reaches as far."""
    net = network()
    image = torch.randn(1, 1, 29, 29, 149)
    elsewhere = image.clone()
    elsewhere[..., 130:] *= 5
    assert (net(image) - net(elsewhere))[..., :8].abs().max() > 1e-3


@torch.inference_mode()
def test_the_published_network_does_not_follow_its_input_through_scales() -> None:
    net = network()
    size, scale = 53, 0.9
    scores = net(field(size, 1.0, "natural"))
    reach = int((size - 1) * scale)
    weights = linear_weights(torch.arange(reach, dtype=torch.float64) / scale, size)
    wanted = apply_along_axes(scores, [weights] * 3)
    found = net(field(size, scale, "natural"))[..., :reach, :reach, :reach]
    middle = slice(reach // 4, reach - reach // 4)
    assert abs(correlation(found[..., middle, middle, middle], wanted[..., middle, middle, middle])) < 0.5


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"projection": "median"}, "'median'; known: mean, max"),
        ({"basis": {"kind": "fourier"}}, "'fourier'; known: multi, single"),
        ({"basis": {"kernel_size": 4}}, "must be odd"),
        ({"basis": {"effective_size": 4}}, "wants more"),
        ({"basis": {"scales": []}}, "positive"),
        ({"channels": [4]}, "two or more"),
    ],
)
def test_an_impossible_configuration_is_refused(arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        build_network("published_se_unet", {"in_channels": 1, "classes": 1, **arguments})
