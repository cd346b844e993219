"""Several nodes that come into the scene together or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import slicer


@contextmanager
def all_or_nothing(scene: slicer.vtkMRMLScene) -> Iterator[None]:
    """What fails in here leaves no node behind that was added in here, and is raised again."""
    before = set(_ids(scene))
    try:
        yield
    except BaseException:
        for node_id in _ids(scene):
            node = None if node_id in before else scene.GetNodeByID(node_id)
            if node is not None:  # else it left along with another
                scene.RemoveNode(node)
        raise


def _ids(scene: slicer.vtkMRMLScene) -> list[str]:
    """All nodes but those that there is one of, which Slicer makes when somebody first asks for them."""
    nodes = slicer.util.getNodesByClass("vtkMRMLNode", scene)
    return [node.GetID() for node in nodes if not node.GetSingletonTag()]
