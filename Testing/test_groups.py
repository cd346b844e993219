"""The groups are groups, and they act on the grid as their matrices say."""

from __future__ import annotations

import itertools

import pytest
import torch

from ScaleEquivSegLib.layers.groups import finite_group
from turning import GROUPS, SIDES, some_maps

pytestmark = pytest.mark.usefixtures("double_precision")

ORDERS = {"p1": 1, "p4": 4, "p4m": 8, "C_1": 1, "O": 24, "O_h": 48}


@pytest.mark.parametrize("name", ORDERS)
def test_a_group_has_as_many_elements_as_it_should_and_all_are_different(name: str) -> None:
    group = finite_group(name)
    assert group.order == ORDERS[name]
    assert len({tuple(m.flatten().tolist()) for m in group.matrices}) == group.order
    assert torch.equal(group.matrices[0], torch.eye(group.dimension, dtype=torch.int64))


@pytest.mark.parametrize("name", ORDERS)
def test_products_and_inverses_stay_in_the_group(name: str) -> None:
    group = finite_group(name)
    for a, b in itertools.product(range(group.order), repeat=2):
        assert torch.equal(group.matrices[a] @ group.matrices[b], group.matrices[group.cayley[a, b]])
    for a in range(group.order):
        assert torch.equal(group.matrices[group.inverse[a]], group.matrices[a].T)


@pytest.mark.parametrize(("name", "reflections"), [("p4", 0), ("p4m", 4), ("O", 0), ("O_h", 24)])
def test_half_of_the_elements_are_reflections_where_the_group_has_any(name: str, reflections: int) -> None:
    assert int((torch.linalg.det(finite_group(name).matrices.double()) < 0).sum()) == reflections


@pytest.mark.parametrize("name", GROUPS)
def test_a_turned_image_holds_at_each_point_what_was_at_the_point_turned_back(name: str) -> None:
    group = finite_group(name)
    image = torch.randn(SIDES[: group.dimension])
    centre = (torch.tensor(image.shape) - 1) / 2
    for g in range(group.order):
        turned = group.act_on_image(g, image)
        turned_centre = (torch.tensor(turned.shape) - 1) / 2
        for index in itertools.product(*map(range, turned.shape)):
            source = group.matrices[g].T.double() @ (torch.tensor(index) - turned_centre) + centre
            assert turned[index] == image[tuple(source.long().tolist())]


@pytest.mark.parametrize("name", GROUPS)
def test_turning_twice_is_turning_by_the_product(name: str) -> None:
    group = finite_group(name)
    maps = some_maps(group)
    for a, b in itertools.product(range(group.order), range(1, group.order, 5)):
        assert torch.equal(
            group.act_on_maps(a, group.act_on_maps(b, maps)), group.act_on_maps(int(group.cayley[a, b]), maps)
        )


def test_an_unknown_group_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="p6"):
        finite_group("p6")
