"""Nodes that the panel has made of others, known by what they were made of: made again they take the same place.
A node that the user made, or that was made of other nodes, is never touched."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import slicer

from .contents import fingerprint
from .segmentations import ATTRIBUTES

_KIND = f"{ATTRIBUTES}Product"
_SOURCE = f"{ATTRIBUTES}Source"
_OUT_OF_DATE = f"{ATTRIBUTES}OutOfDate"
_CONTENTS = f"{ATTRIBUTES}Contents"
"""The fingerprints of what something was measured of, when it was."""


def earlier_product(kind: str, sources: Sequence[slicer.vtkMRMLNode]) -> Any:
    """The node of a kind that was made of the same nodes before, None if there is none."""
    ids = [source.GetID() for source in sources]
    for node in slicer.util.getNodesByClass("vtkMRMLNode", sources[0].GetScene()):
        if node.GetAttribute(_KIND) == _signature(kind, sources) and _source_ids(node) == ids:
            return node
    return None


def products_of(kind: str, source: slicer.vtkMRMLNode) -> list[Any]:
    """All nodes of a kind that were made of this one first, whatever else they were made of."""
    nodes = slicer.util.getNodesByClass("vtkMRMLNode", source.GetScene())
    of_kind = [node for node in nodes if (node.GetAttribute(_KIND) or "").startswith(f"{kind} of ")]
    return [node for node in of_kind if _source_ids(node)[:1] == [source.GetID()]]


def sign_product(node: slicer.vtkMRMLNode, kind: str, sources: Sequence[slicer.vtkMRMLNode]) -> None:
    """Remember what a node was made of; as references, which outlive that nodes get other ids."""
    node.SetAttribute(_KIND, _signature(kind, sources))
    mark_up_to_date(node, sources)
    for number, source in enumerate(sources):
        node.SetNodeReferenceID(f"{_SOURCE}{number}", source.GetID())


def product(class_name: str, kind: str, sources: Sequence[slicer.vtkMRMLNode], name: str) -> Any:
    """The node that was made of the same nodes before, or a new one."""
    node = earlier_product(kind, sources)
    if node is None:
        scene = sources[0].GetScene()
        node = scene.AddNewNodeByClass(class_name, scene.GenerateUniqueName(name))
    sign_product(node, kind, sources)
    return node


def mark_out_of_date(node: slicer.vtkMRMLNode) -> None:
    """What was measured of a node holds no longer; a saved scene knows it, too."""
    node.SetAttribute(_OUT_OF_DATE, "true")


def mark_products_out_of_date(source: slicer.vtkMRMLNode) -> None:
    """The same for every node that was made of this one, whatever else it was made of."""
    for node in slicer.util.getNodesByClass("vtkMRMLNode", source.GetScene()):
        if node.GetAttribute(_KIND) and source.GetID() in _source_ids(node):
            mark_out_of_date(node)


def mark_up_to_date(node: slicer.vtkMRMLNode, measured: Sequence[slicer.vtkMRMLNode]) -> None:
    """It was measured anew, of nodes as they are now, itself or others."""
    node.RemoveAttribute(_OUT_OF_DATE)
    node.SetAttribute(_CONTENTS, json.dumps([fingerprint(each) for each in measured]))


def mark_edited_unseen(sources: Collection[slicer.vtkMRMLNode]) -> None:
    """Mark what was measured of nodes that are seen for the first time, if they are not any more what was measured:
    whoever edited them may have done so before anybody watched."""
    of_id = {source.GetID(): source for source in sources}
    fingerprints: dict[str, str] = {}
    for node in slicer.util.getNodesByClass("vtkMRMLNode"):
        if not node.GetAttribute(_CONTENTS) or is_out_of_date(node):
            continue
        ids = _source_ids(node) if node.GetAttribute(_KIND) else [node.GetID()]
        for source_id, measured in zip(ids, json.loads(node.GetAttribute(_CONTENTS)), strict=False):
            if source_id not in of_id:
                continue
            fingerprints[source_id] = fingerprints.get(source_id) or fingerprint(of_id[source_id])
            if fingerprints[source_id] != measured:
                mark_out_of_date(node)


def is_out_of_date(node: slicer.vtkMRMLNode) -> bool:
    """Whether it was marked so since it was made."""
    return bool(node.GetAttribute(_OUT_OF_DATE))


def _signature(kind: str, sources: Sequence[slicer.vtkMRMLNode]) -> str:
    """With the number of sources: one that left the scene is no reference any more."""
    return f"{kind} of {len(sources)}"


def _source_ids(node: slicer.vtkMRMLNode) -> list[str]:
    ids: list[str] = []
    while source := node.GetNodeReferenceID(f"{_SOURCE}{len(ids)}"):
        ids.append(source)
    return ids
