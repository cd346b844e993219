"""What Compare does: two segmentations, and perhaps a reference, to figures, maps of agreement and regions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..bundles import Label
from ..comparison import AGREEMENT_LABELS, ERROR_LABELS, Agreement
from ..errors import UnsuitableVolume
from ..labelmap import Labelmap, class_key, class_title
from ..mrml.contents import Contents, Source, contents_of, edited_since, place_of
from ..mrml.labels import labels_on_grid
from ..mrml.products import earlier_product, mark_products_out_of_date, product, products_of, sign_product
from ..mrml.regions import RegionsFound, keep_regions
from ..mrml.segmentations import ATTRIBUTES, import_segmentation, move_into, reference_notes, reference_volume
from ..mrml.tables import fill_table
from ..mrml.volumes import grid_of
from ..volume import Volume, read_volume, write_volume
from .job import Reply, Request

INPUTS = f"{ATTRIBUTES}input_voxels_sha256"
"""The attribute of a result that tells the voxels that it was made of from all others, a word for each channel."""
AGREEMENT, ERRORS, FIGURES = "agreement", "errors", "figures"
"""What is made of the segmentations, as `mrml.products` knows it."""


@dataclass(frozen=True)
class Compared:
    """Two segmentations and perhaps a reference, on the grid of a volume."""

    volume: slicer.vtkMRMLScalarVolumeNode
    pair: tuple[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLSegmentationNode]
    reference: slicer.vtkMRMLSegmentationNode | None

    @staticmethod
    def of(
        a: slicer.vtkMRMLSegmentationNode,
        b: slicer.vtkMRMLSegmentationNode,
        reference: slicer.vtkMRMLSegmentationNode | None,
        otherwise: slicer.vtkMRMLScalarVolumeNode | None = None,
    ) -> Compared:
        """Two that can be compared, with the volume that both were made from; others are an error.

        Segmentations that were loaded from files name no volume: they are laid on the other one.
        """
        if a is b or reference in (a, b):
            raise UnsuitableVolume(_("Choose segmentations that differ from each other."))
        volumes = [volume for node in (a, b) if (volume := reference_volume(node)) is not None]
        volumes = volumes or ([] if otherwise is None else [otherwise])
        if not volumes:
            raise UnsuitableVolume(
                _(
                    "These segmentations name no volume of the scene; choose theirs in Input (in a script: give "
                    "volumeNode)."
                )
            )
        if volumes[0] is not volumes[-1]:
            raise UnsuitableVolume(_("These segmentations belong to different volumes."))
        grid_of(volumes[0])  # which refuses one without voxels
        return Compared(volumes[0], (a, b), reference)

    @property
    def segmentations(self) -> list[slicer.vtkMRMLSegmentationNode]:
        """All that there are."""
        return [*self.pair, *([self.reference] if self.reference is not None else [])]

    @property
    def figures(self) -> slicer.vtkMRMLTableNode | None:
        """The table that was made of them, None if none was."""
        return earlier_product(FIGURES, self.segmentations)

    @property
    def agreement(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The map of where the two agree, None if it was not made."""
        return earlier_product(AGREEMENT, self.pair)

    @property
    def errors(self) -> list[slicer.vtkMRMLSegmentationNode | None]:
        """The errors of each against the reference, None for those that were not made; empty without a reference."""
        return [earlier_product(ERRORS, [node, self.reference]) for node in self.pair if self.reference is not None]


@dataclass(frozen=True)
class _Comparison:
    """One of the comparisons: the first with the second of two segmentations."""

    title: str
    nodes: tuple[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLSegmentationNode]
    against_reference: bool


class Comparing:
    """Compares the two with each other and, if there is a reference, each with it."""

    def __init__(self, compared: Compared) -> None:
        self.nodes: Sequence[slicer.vtkMRMLNode] = [compared.volume, *compared.segmentations]
        self._compared = compared
        self._names: Mapping[int, str] = {}
        self._notes: list[str] = []
        self._contents: dict[Source, Contents] = {}
        self._place: Contents = ()

    def requests(self, folder: Path) -> Sequence[Request]:
        """Write the labels that can be compared and ask for each comparison."""
        segmentations = self._compared.segmentations
        self._contents = {node: contents_of(node) for node in segmentations}
        self._place = place_of(self._compared.volume)
        found = [labels_on_grid(node, self._compared.volume) for node in segmentations]
        for node, labels in zip(segmentations, found, strict=True):
            if labels.overlapping:
                self._notes.append(
                    _("In {name} segments overlap in {count} voxels; there the last segment counts.").format(
                        name=node.GetName(), count=labels.overlapping
                    )
                )
        titles = [node.GetName() for node in segmentations]
        volumes, self._names, unmatched = in_shared_classes([labels.labelmap for labels in found], titles)
        self._notes += unmatched
        paths = {node.GetID(): folder / f"labels{n}.nrrd" for n, node in enumerate(segmentations)}
        for path, volume in zip(paths.values(), volumes, strict=True):
            write_volume(volume, path, compress=False)
        return [self._request(n, comparison, paths, folder) for n, comparison in enumerate(self._comparisons())]

    def _request(self, number: int, comparison: _Comparison, paths: Mapping[str, Path], folder: Path) -> Request:
        a, b = (str(paths[node.GetID()]) for node in comparison.nodes)
        content = {
            "type": "compare",
            "a": a,
            "b": b,
            "names": {str(value): name for value, name in self._names.items()},
            "against_reference": comparison.against_reference,
            "output": str(folder / f"map{number}.seg.nrrd"),
        }
        return Request(comparison.title, content)

    def _comparisons(self) -> list[_Comparison]:
        titles = [_("A"), _("B"), _("ref.")]
        numbered = list(enumerate(self._compared.segmentations))
        return [
            _Comparison(_("{one}/{other}").format(one=titles[n], other=titles[m]), (a, b), m == 2)
            for (n, a), (m, b) in combinations(numbered, 2)
        ]

    def finish(self, replies: Sequence[Reply]) -> Sequence[str]:
        """Import all maps before one of them replaces an earlier one."""
        if place_of(self._compared.volume) != self._place:
            raise UnsuitableVolume(
                _("{name} was moved while it was compared on; compare again.").format(
                    name=self._compared.volume.GetName()
                )
            )
        comparisons = self._comparisons()
        maps = [
            self._imported_map(comparison, read_volume(Path(reply["output"])))
            for comparison, reply in zip(comparisons, replies, strict=True)
        ]
        for comparison, reply, imported in zip(comparisons, replies, maps, strict=True):
            node = self._shown_map(comparison, imported)
            if not comparison.against_reference:
                regions = reply["regions"]
                found = [[region[key] for region in regions] for key in ("ml", "centre")]
                keep_regions(node, RegionsFound(int(reply["figures"]["disagreement_regions"]), *found))
        for node in self._other_errors():
            node.GetDisplayNode().SetVisibility(False)  # they would cover what was found now
        name = _("{a} / {b}: figures").format(a=self._compared.pair[0].GetName(), b=self._compared.pair[1].GetName())
        table = product("vtkMRMLTableNode", FIGURES, self._compared.segmentations, name)
        rows = [row for c, reply in zip(comparisons, replies, strict=True) for row in self._rows(c, reply["figures"])]
        fill_table(table, _titles(), rows)
        for node in edited_since(self._contents):  # while it was compared
            mark_products_out_of_date(node)
        return [*self._notes, *self._origin_notes()]

    def _origin_notes(self) -> list[str]:
        """What is worth knowing of where the segmentations come from."""
        a, b = self._compared.pair
        notes = reference_notes(self._compared.reference, self._compared.volume)
        inputs = [node.GetAttribute(INPUTS) or "" for node in (a, b)]
        if all(inputs) and len({words.split()[0] for words in inputs}) > 1:
            notes.append(
                _("{a} and {b} were made of different voxels of {volume}, such as two frames.").format(
                    a=a.GetName(), b=b.GetName(), volume=self._compared.volume.GetName()
                )
            )
        return notes

    def _other_errors(self) -> list[slicer.vtkMRMLSegmentationNode]:
        """Maps of errors of the two against another reference than the one that is chosen, if one is."""
        return [
            node
            for each in self._compared.pair
            for node in products_of(ERRORS, each)
            if node not in self._compared.errors
        ]

    def _rows(self, comparison: _Comparison, figures: Mapping[str, Any]) -> list[list[str | float]]:
        """One row per class, and one of means."""
        volumes = [(figures[f"ml.{name}.a"], figures[f"ml.{name}.b"]) for name in self._names.values()]
        lines = [(name, name, ml) for name, ml in zip(self._names.values(), volumes, strict=True)]
        lines.append((_("mean"), "mean", tuple(np.mean(volumes, axis=0))))
        return [
            [comparison.title, title, *_overlap(figures, name), *_volumes(first, second)]
            for title, name, (first, second) in lines
        ]

    def _imported_map(self, comparison: _Comparison, labels: Volume) -> slicer.vtkMRMLSegmentationNode:
        a, b = (node.GetName() for node in comparison.nodes)
        if comparison.against_reference:
            classes, title = _error_labels(), _("{a}: errors against {b}").format(a=a, b=b)
        else:
            classes, title = _agreement_labels(a, b), _("{a} / {b}: agreement").format(a=a, b=b)
        return import_segmentation(labels, classes, self._compared.volume, title)

    def _shown_map(
        self, comparison: _Comparison, imported: slicer.vtkMRMLSegmentationNode
    ) -> slicer.vtkMRMLSegmentationNode:
        """A map in place of an earlier one, if there is one; what both have found is hidden, as it covers the rest."""
        kind = ERRORS if comparison.against_reference else AGREEMENT
        node = earlier_product(kind, comparison.nodes) or imported
        if node is not imported:
            move_into(imported, node)
        sign_product(node, kind, comparison.nodes)
        display = node.GetDisplayNode()
        display.SetSegmentVisibility(f"Segment_{Agreement.BOTH.value}", False)
        display.SetVisibility3D(False)
        # The errors of each say more than where they agree.
        display.SetVisibility(comparison.against_reference or self._compared.reference is None)
        return node


def _agreement_labels(a: str, b: str) -> list[Label]:
    only = _("Only {name}")
    names = only.format(name=a), only.format(name=b), _("Both"), _("Different classes")
    return [replace(label, name=name) for label, name in zip(AGREEMENT_LABELS, names, strict=True)]


def _error_labels() -> list[Label]:
    names = _("False positive"), _("False negative"), _("True positive"), _("Wrong class")
    return [replace(label, name=name) for label, name in zip(ERROR_LABELS, names, strict=True)]


def _titles() -> list[str]:
    return [
        *(_("Pair"), _("Class"), _("Dice"), _("HD95 (mm)")),
        *(_("First (ml)"), _("Second (ml)"), _("Second - first (ml)")),
    ]


def _overlap(figures: Mapping[str, Any], name: str) -> list[float]:
    distance = figures[f"hd95.{name}"]
    return [round(figures[f"dice.{name}"], 4), math.inf if distance is None else round(distance, 2)]


def _volumes(first: float, second: float) -> list[float]:
    return [round(float(ml), 3) for ml in (first, second, second - first)]


def in_shared_classes(
    labelmaps: Sequence[Labelmap], titles: Sequence[str]
) -> tuple[list[Volume], dict[int, str], list[str]]:
    """The labels of the classes that all have, numbered as the first has them, and what was left out of which.

    Classes are the same if their names are, whatever the case; segments of one name are one class.
    """
    keys = [{value: class_key(name) for value, name in labelmap.names.items()} for labelmap in labelmaps]
    shared = set.intersection(*(set(own.values()) for own in keys))
    if not shared:
        lists = "; ".join(
            f"{title}: {', '.join(labelmap.names.values())}" for title, labelmap in zip(titles, labelmaps, strict=True)
        )
        raise UnsuitableVolume(
            _(
                "The segmentations have no segment name in common. Rename the segments that mean the same. {lists}."
            ).format(lists=lists)
        )
    numbers: dict[str, int] = {}
    for value, key in keys[0].items():
        if key in shared:
            numbers.setdefault(key, value)
    volumes, notes = [], []
    for title, labelmap, own in zip(titles, labelmaps, keys, strict=True):
        lookup = np.array([0, *(numbers.get(own[value], 0) for value in sorted(own))], np.uint16)
        volumes.append(Volume(lookup[labelmap.volume.array], labelmap.volume.geometry))
        left_out = [name for value, name in labelmap.names.items() if own[value] not in shared]
        if left_out:
            notes.append(
                _("Not compared, as not all have it: {names} of {title}.").format(
                    names=", ".join(left_out), title=title
                )
            )
    return volumes, {value: class_title(labelmaps[0].names[value]) for value in numbers.values()}, notes
