"""What Segment does: volumes through each network to a segmentation node each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..bundles import Bundle
from ..mrml.segmentations import import_segmentation
from ..mrml.volumes import volume_from_node
from ..volume import Volume, read_volume, write_volume
from .job import Reply, Request


@dataclass(frozen=True)
class Result:
    """One network's result in the scene."""

    bundle: Bundle
    node: slicer.vtkMRMLSegmentationNode
    ml: Mapping[str, float]


class Segmenting:
    """Segments one case with several bundles, one after the other; `deliver` gets what is in the scene then."""

    def __init__(
        self,
        volumes: Sequence[slicer.vtkMRMLScalarVolumeNode],
        bundles: Sequence[Bundle],
        settings: Mapping[str, Any],
        deliver: Callable[[Sequence[Result]], None],
    ) -> None:
        self.nodes = volumes
        self._bundles = bundles
        self._settings = settings
        self._deliver = deliver

    def requests(self, folder: Path) -> Sequence[Request]:
        """Write the channels once and ask for a segmentation by each bundle."""
        inputs = written_volumes(self.nodes, folder)
        return [
            Request(
                bundle.name,
                {
                    "type": "segment",
                    "bundle": str(bundle.folder),
                    "inputs": inputs,
                    "output": str(folder / f"{bundle.name}.seg.nrrd"),
                    **self._settings,
                },
            )
            for bundle in self._bundles
        ]

    def finish(self, replies: Sequence[Reply]) -> str:
        """Import all results, or none: one that cannot be read leaves nothing behind."""
        labels = [read_volume(Path(reply["output"])) for reply in replies]
        parts = zip(self._bundles, replies, labels, strict=True)
        self._deliver([_imported(bundle, reply, found, self.nodes[0]) for bundle, reply, found in parts])
        return " ".join([_("Done."), *(text for reply in replies for text in reply["warnings"])])


def written_volumes(nodes: Sequence[slicer.vtkMRMLScalarVolumeNode], folder: Path) -> list[str]:
    """The files of volumes, written for the worker to read."""
    paths = [folder / f"input{number}.nrrd" for number in range(len(nodes))]
    for node, path in zip(nodes, paths, strict=True):
        write_volume(volume_from_node(node), path, compress=False)
    return [str(path) for path in paths]


def _imported(bundle: Bundle, reply: Reply, labels: Volume, volume: slicer.vtkMRMLScalarVolumeNode) -> Result:
    kind = _("baseline") if bundle.is_baseline else _("equivariant")
    node = import_segmentation(labels, bundle.labels, volume, f"{volume.GetName()} {kind}")
    for key, value in reply["provenance"].items():
        node.SetAttribute(f"ScaleEquivSeg.{key}", value)
    return Result(bundle, node, reply["ml"])
