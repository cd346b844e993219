"""Regions of disagreement, kept with the segmentation that shows them, and the views taken to one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import slicer

from .segmentations import ATTRIBUTES

_REGIONS = f"{ATTRIBUTES}Regions"


@dataclass(frozen=True)
class RegionsFound:
    """How many there are in all, and millilitres and centres of the largest; centres in the node's own RAS."""

    count: int
    ml: Sequence[float]
    centres: Sequence[Sequence[float]]


def keep_regions(node: slicer.vtkMRMLSegmentationNode, found: RegionsFound) -> None:
    """Keep them with a node, in the scene and in its file."""
    node.SetAttribute(_REGIONS, json.dumps([found.count, list(found.ml), [list(centre) for centre in found.centres]]))


def kept_regions(node: slicer.vtkMRMLSegmentationNode) -> RegionsFound:
    """What has been kept with a node, no regions if nothing was."""
    return RegionsFound(*json.loads(node.GetAttribute(_REGIONS) or "[0, [], []]"))


def show_region(node: slicer.vtkMRMLSegmentationNode, number: int) -> None:
    """Take all slice views to a region kept with a node, wherever transforms put the node."""
    world = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(kept_regions(node).centres[number], world)
    slicer.vtkMRMLSliceNode.JumpAllSlices(node.GetScene(), *world, slicer.vtkMRMLSliceNode.CenteredJumpSlice)
