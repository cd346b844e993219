"""No turn of the image changes a score of the static and dynamic classifiers; the plain one is the control."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ScaleEquivSegLib.layers.group_conv import GroupBatchNorm
from ScaleEquivSegLib.layers.groups import Group, finite_group
from ScaleEquivSegLib.layers.mixture import dynamic_layers, load_balance, set_temperature
from ScaleEquivSegLib.networks import build_classifier
from ScaleEquivSegLib.networks.classifier import Classifier
from turning import ATTENTIONS, CLEARLY_BROKEN, EXACT, GROUPS, difference, opinionated

pytestmark = pytest.mark.usefixtures("double_precision")


FAMILIES = [("static", {}), *[("dynamic", {"attention": a, "kernels": 2}) for a in ATTENTIONS]]


def classifier(family: str, group: str, **more: object) -> Classifier:
    """An untrained classifier whose statistics fit what it sees."""
    arguments = {"group": group, "in_channels": 1, "classes": 3, "channels": (2, 3), **more}
    network = opinionated(build_classifier(family, arguments))
    network(images(finite_group(group)))
    return network.eval()


def images(group: Group, sides: tuple[int, ...] = (6, 5, 4)) -> Tensor:
    """Noise, each image stronger than the last so that their scores differ; even and odd sides, none alike."""
    strength = torch.arange(1.0, 4.0).reshape(3, *[1] * (group.dimension + 1))
    return strength * torch.randn(3, 1, *sides[: group.dimension])


def error_of_scores(network: nn.Module, image: Tensor, group: Group) -> float:
    """The change of scores under the worst element, measured by how much the scores of different images differ."""
    with torch.no_grad():
        scores = network(image)
        turned = [network(group.act_on_image(g, image)) for g in range(group.order)]
    return max(float((t - scores).norm()) for t in turned) / float((scores - scores.mean(0)).norm())


# Invariance, for every element


@pytest.mark.parametrize(("family", "more"), FAMILIES)
@pytest.mark.parametrize("name", GROUPS)
def test_no_element_of_the_group_changes_a_score(name: str, family: str, more: dict[str, object]) -> None:
    group = finite_group(name)
    network = classifier(family, name, **more)
    assert network(images(group)).shape == (3, 3)
    assert error_of_scores(network, images(group), group) < EXACT


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("sides", [(8, 9), (1, 2), (7, 7)])
def test_no_element_changes_a_score_in_training_with_either_pooling_at_any_size(
    sides: tuple[int, int], pooling: str
) -> None:
    group = finite_group("p4m")
    network = classifier("dynamic", "p4m", pooling=pooling).train()
    assert error_of_scores(network, images(group, sides), group) < EXACT


@pytest.mark.parametrize("name", GROUPS)
def test_a_plain_classifier_changes_its_scores(name: str) -> None:
    group = finite_group(name)
    assert error_of_scores(classifier("plain", name), images(group), group) > CLEARLY_BROKEN


# Precision, weights on disk, tracing


@pytest.mark.parametrize(("family", "more"), FAMILIES)
def test_lower_precision_stays_close_to_double(family: str, more: dict[str, object]) -> None:
    network = classifier(family, "p4m", **more)
    image = torch.randn(4, 1, 8, 7)
    with torch.no_grad():
        exact = network(image)
        assert difference(copy.deepcopy(network).float()(image.float()), exact) < 1e-5
        assert difference(copy.deepcopy(network).bfloat16()(image.bfloat16()), exact) < 5e-2
        single = copy.deepcopy(network).float()
        with torch.autocast("cpu", torch.bfloat16):
            assert difference(single(image.float()), exact) < 5e-2


@pytest.mark.parametrize(("family", "more"), FAMILIES)
def test_weights_loaded_into_a_fresh_network_give_the_same_scores(family: str, more: dict[str, object]) -> None:
    network = classifier(family, "p4m", **more)
    set_temperature(network, 7.0)
    image = torch.randn(2, 1, 8, 7)
    with torch.no_grad():
        expected = network(image)
        fresh = classifier(family, "p4m", **more)
        fresh(image)
        fresh.load_state_dict(network.state_dict())
        assert torch.equal(fresh(image), expected)


def test_saved_weights_hold_no_tables_and_no_posed_kernels() -> None:
    network = classifier("dynamic", "p4m")
    with torch.no_grad():
        network(torch.randn(1, 1, 8, 8))
    saved = sum(value.numel() for value in network.state_dict().values())
    statistics = sum(b.numel() for m in network.modules() if isinstance(m, GroupBatchNorm) for b in m.buffers())
    temperatures = len(dynamic_layers(network))
    assert saved == sum(p.numel() for p in network.parameters()) + statistics + temperatures


@pytest.mark.filterwarnings("error:.*assigned during export")
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_classifier_can_be_exported_for_any_batch(attention: str) -> None:
    network = classifier("dynamic", "p4", attention=attention)
    image, other = torch.randn(2, 1, 6, 5), torch.randn(5, 1, 6, 5)
    with torch.no_grad():
        expected = network(other)
        program = torch.export.export(network, (image,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        assert torch.allclose(program.module()(other), expected)
        assert torch.equal(network(other), expected)


# The builder, and learning


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="transformer"):
        build_classifier("transformer", {"in_channels": 1, "classes": 2})


def parameters(family: str, channels: tuple[int, ...], **more: object) -> int:
    arguments = {"group": "p4m", "in_channels": 1, "classes": 2, "channels": channels, **more}
    return sum(p.numel() for p in build_classifier(family, arguments).parameters())


def test_families_reach_equal_parameters_by_the_ratio_of_channels_they_document() -> None:
    plain = parameters("plain", (34, 68, 136))
    static = parameters("static", (12, 24, 48))
    mixed = parameters("dynamic", (6, 12, 24), kernels=4, attention="invariant")
    assert static == pytest.approx(plain, rel=0.1)
    assert mixed == pytest.approx(plain, rel=0.1)


def test_a_dynamic_classifier_learns_what_its_group_can_tell_apart() -> None:
    """Bars against crosses in any pose and place: a few steps of training, then turned images it has not seen."""
    generator = torch.Generator().manual_seed(1)
    images, labels = bars_and_crosses(generator, 48)
    network = build_classifier("dynamic", {"group": "p4", "in_channels": 1, "classes": 2, "channels": (4, 4)})
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    for step in range(25):
        set_temperature(network, max(1.0, 30.0 - 1.5 * step))
        optimiser.zero_grad()
        loss = F.cross_entropy(network(images), labels) + 0.1 * load_balance(network)
        loss.backward()
        optimiser.step()
    network.eval()
    unseen, truth = bars_and_crosses(generator, 48)
    with torch.no_grad():
        assert (network(unseen.rot90(1, (2, 3))).argmax(1) == truth).double().mean() > 0.9


def bars_and_crosses(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    images = 0.1 * torch.randn(count, 1, 9, 9, generator=generator)
    labels = torch.arange(count) % 2
    places = torch.randint(2, 7, (count, 2), generator=generator).tolist()
    for image, label, (x, y) in zip(images, labels, places, strict=True):
        image[0, x - 2 : x + 3, y] += 1
        if label:
            image[0, x, y - 2 : y + 3] += 1
    return images, labels
