"""What Segment does: volumes through each network to a segmentation node each."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..bundles import Bundle
from ..errors import UnsuitableVolume
from ..mrml.contents import Contents, Source, contents_of, edited_since
from ..mrml.placing import region_seen_from
from ..mrml.products import mark_up_to_date
from ..mrml.segmentations import ATTRIBUTES, import_segmentation, move_into
from ..mrml.volumes import check_scan, grid_of, volume_from_node
from ..volume import Volume, read_volume, write_volume
from .job import Reply, Request

VOLUMES_ML = f"{ATTRIBUTES}ml"
"""The attribute of a result that has the volume of each of its segments, as JSON."""


@dataclass(frozen=True)
class Target:
    """A network, and the segmentation that its result replaces, None for a new one."""

    bundle: Bundle
    output: slicer.vtkMRMLSegmentationNode | None = None


@dataclass(frozen=True)
class Result:
    """One network's result in the scene."""

    bundle: Bundle
    node: slicer.vtkMRMLSegmentationNode


class Segmenting:
    """Segments one case with several networks, one after the other; `deliver` gets what is in the scene then."""

    def __init__(
        self,
        volumes: Sequence[slicer.vtkMRMLScalarVolumeNode],
        region: slicer.vtkMRMLMarkupsROINode | None,
        targets: Sequence[Target],
        settings: Mapping[str, Any],
        deliver: Callable[[Sequence[Result]], None],
    ) -> None:
        self.nodes: Sequence[slicer.vtkMRMLNode] = [
            *volumes,
            *(target.output for target in targets if target.output is not None),
        ]
        self._volumes = volumes
        self._region = region
        self._targets = targets
        self._settings = settings
        self._deliver = deliver
        self._contents: dict[Source, Contents] = {}

    def requests(self, folder: Path) -> Sequence[Request]:
        """Write the channels once and ask for a segmentation by each network."""
        inputs = written_volumes(self._volumes, folder)
        self._contents = {node: contents_of(node) for node in self._volumes}
        region = region_values(self._volumes[0], self._region)
        times = times_beside_each_other([target.bundle for target in self._targets])
        return [
            Request(
                target.bundle.name,
                {
                    "type": "segment",
                    "bundle": str(target.bundle.folder),
                    "inputs": inputs,
                    "output": str(folder / f"{target.bundle.name}.seg.nrrd"),
                    "roi": region,
                    **self._settings,
                },
                time,
            )
            for target, time in zip(self._targets, times, strict=True)
        ]

    def finish(self, replies: Sequence[Reply]) -> Sequence[str]:
        """Import all results before one of them replaces anything; voxel for voxel on the volume where it is now."""
        labels = [_on_grid_of(self._volumes[0], read_volume(Path(reply["output"]))) for reply in replies]
        parts = zip(self._targets, replies, labels, strict=True)
        found = [_imported(target.bundle, reply, label, self._volumes[0]) for target, reply, label in parts]
        self._deliver([_placed(target, node) for target, node in zip(self._targets, found, strict=True)])
        changed = [
            _("{name} was changed during the run; the result is of what it was before.").format(name=node.GetName())
            for node in edited_since(self._contents)
        ]
        return [*changed, *(text for reply in replies for text in reply["warnings"])]


def written_volumes(nodes: Sequence[slicer.vtkMRMLScalarVolumeNode], folder: Path) -> list[str]:
    """The files of volumes, written for the worker to read, all of them as they lie in the first one's coordinates."""
    for node in nodes or [None]:
        check_scan(node)
    paths = [folder / f"input{number}.nrrd" for number in range(len(nodes))]
    for node, path in zip(nodes, paths, strict=True):
        write_volume(volume_from_node(node, nodes[0]), path, compress=False)
    return [str(path) for path in paths]


def times_beside_each_other(bundles: Sequence[Bundle]) -> list[float]:
    """What the networks take for the same voxels, by their cards; as if all took the same where one does not say."""
    expected = [bundle.card.get("expected", {"seconds": 0, "size": [1]}) for bundle in bundles]
    times = [of["seconds"] / math.prod(of["size"]) for of in expected]
    return times if all(times) else [1.0] * len(bundles)


def region_values(
    volume: slicer.vtkMRMLScalarVolumeNode, region: slicer.vtkMRMLMarkupsROINode | None
) -> dict[str, Any] | None:
    """A region of interest as the worker takes it, in the volume's coordinates; None for the whole volume."""
    return None if region is None else region_seen_from(volume, region).as_values()


def _on_grid_of(volume: slicer.vtkMRMLScalarVolumeNode, labels: Volume) -> Volume:
    """Labels of a volume's voxels: it may have been moved since, but not cut."""
    grid = grid_of(volume)
    if grid.shape != labels.geometry.shape:
        raise UnsuitableVolume(
            _("{name} has other voxels than when the run began; the result was discarded.").format(
                name=volume.GetName()
            )
        )
    return Volume(labels.array, grid)


def _imported(bundle: Bundle, reply: Reply, labels: Volume, volume: slicer.vtkMRMLScalarVolumeNode) -> Any:
    kind = _("baseline") if bundle.is_baseline else _("equivariant")
    node = import_segmentation(labels, bundle.labels, volume, f"{volume.GetName()} {kind}")
    for key, value in reply["provenance"].items():
        node.SetAttribute(f"{ATTRIBUTES}{key}", value)
    node.SetAttribute(VOLUMES_ML, json.dumps(reply["ml"]))
    mark_up_to_date(node, [node])
    return node


def _placed(target: Target, node: slicer.vtkMRMLSegmentationNode) -> Result:
    if target.output is None:
        return Result(target.bundle, node)
    move_into(node, target.output)
    return Result(target.bundle, target.output)
