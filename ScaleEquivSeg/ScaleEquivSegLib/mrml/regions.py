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
    """How many there are in all, and millilitres and centres of the largest; centres in the volume's own RAS."""

    count: int
    ml: Sequence[float]
    centres: Sequence[Sequence[float]]


def keep_regions(node: slicer.vtkMRMLSegmentationNode, found: RegionsFound) -> None:
    """Keep them with a node, in the scene and in its file."""
    node.SetAttribute(_REGIONS, json.dumps([found.count, list(found.ml), [list(centre) for centre in found.centres]]))


def kept_regions(node: slicer.vtkMRMLSegmentationNode) -> RegionsFound:
    """What has been kept with a node, no regions if nothing was."""
    return RegionsFound(*json.loads(node.GetAttribute(_REGIONS) or "[0, [], []]"))


def show_region(found: RegionsFound, number: int, volume: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Take all slice views to a region, wherever transforms put the volume."""
    world = [0.0, 0.0, 0.0]
    volume.TransformPointToWorld(found.centres[number], world)
    slicer.vtkMRMLSliceNode.JumpAllSlices(volume.GetScene(), *world, slicer.vtkMRMLSliceNode.CenteredJumpSlice)
