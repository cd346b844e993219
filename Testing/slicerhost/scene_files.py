"""Slicer's input/output manager over real storage nodes: what `slicer.util.loadVolume`, `saveNode` and
`saveScene` reach for. A storage node that wrote a file cannot read it, so each call makes a fresh one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import slicer
import vtk

_NODE_OF_FILE_TYPE = {
    "SegmentationFile": "vtkMRMLSegmentationNode",
    "TableFile": "vtkMRMLTableNode",
    "TransformFile": "vtkMRMLTransformNode",
    "ModelFile": "vtkMRMLModelNode",
    "TextFile": "vtkMRMLTextNode",
    "SequenceFile": "vtkMRMLSequenceNode",
    "ColorTableFile": "vtkMRMLColorTableNode",
}
_FILE_TYPE_OF_SUFFIX = {
    ".mrml": "SceneFile",
    ".mrb": "SceneFile",
    ".seg.nrrd": "SegmentationFile",
    ".csv": "TableFile",
    ".tsv": "TableFile",
    ".h5": "TransformFile",
    ".tfm": "TransformFile",
    ".vtk": "ModelFile",
    ".vtp": "ModelFile",
    ".stl": "ModelFile",
    ".txt": "TextFile",
    ".seq.nrrd": "SequenceFile",
}


class CoreIOManager:
    """The part of qSlicerCoreIOManager that `slicer.util` calls."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene

    def fileType(self, path: str) -> str:
        name = Path(path).name.lower()
        matches = [suffix for suffix in _FILE_TYPE_OF_SUFFIX if name.endswith(suffix)]
        return _FILE_TYPE_OF_SUFFIX[max(matches, key=len)] if matches else "VolumeFile"

    def fileWriterFileType(self, node: Any) -> str:
        return str(node.GetClassName())

    def loadNodes(self, file_type: str, properties: dict[str, Any], loaded: Any, messages: Any) -> bool:
        path = properties["fileName"]
        if not Path(path).is_file():
            messages.AddMessage(vtk.vtkCommand.ErrorEvent, f"no such file: {path}")
            return False
        if file_type == "SceneFile":
            return self._load_scene(path)
        node = self._load_volume(path, properties) if file_type == "VolumeFile" else self._load_node(file_type, path)
        if node is None:
            return False
        if properties.get("name"):
            node.SetName(properties["name"])
        loaded.AddItem(node)
        return True

    def saveNodes(self, file_type: str, properties: dict[str, Any], messages: Any) -> bool:
        path = str(properties["fileName"])
        if file_type == "SceneFile":
            return self._save_scene(path)
        node = self._scene.GetNodeByID(properties["nodeID"])
        storage = node.CreateDefaultStorageNode()
        if storage is None:
            return False
        storage.SetFileName(path)
        self._scene.AddNode(storage)
        if not storage.WriteData(node):
            self._scene.RemoveNode(storage)
            return False
        self._scene.RemoveNode(node.GetStorageNode())
        node.SetAndObserveStorageNodeID(storage.GetID())
        return True

    def _load_scene(self, path: str) -> bool:
        if path.endswith(".mrb"):
            unpacked = tempfile.mkdtemp(dir=slicer.app.temporaryPath)
            return bool(slicer.app.applicationLogic().OpenSlicerDataBundle(path, unpacked))
        self._scene.SetURL(path)
        self._scene.SetRootDirectory(str(Path(path).parent))
        return bool(self._scene.Connect())

    def _save_scene(self, path: str) -> bool:
        if path.endswith(".mrb"):
            return bool(self._scene.WriteToMRB(path))
        if path.endswith(".mrml"):
            self._scene.SetRootDirectory(str(Path(path).parent))
            return bool(self._scene.Commit(path))
        return bool(self._scene.SaveSceneToSlicerDataBundleDirectory(path))

    def _load_volume(self, path: str, properties: dict[str, Any]) -> Any:
        logic = slicer.modules.volumes.logic()
        options = 1 if properties.get("labelmap") else 0
        node = logic.AddArchetypeVolume(path, properties.get("name") or _stem(path), options)
        if node is not None and properties.get("show", True) and not options:
            slicer.util.setSliceViewerLayers(background=node, fit=True)
        return node

    def _load_node(self, file_type: str, path: str) -> Any:
        if file_type not in _NODE_OF_FILE_TYPE:
            raise ValueError(f"the stand-in host cannot load a '{file_type}'")
        node = self._scene.AddNewNodeByClass(_NODE_OF_FILE_TYPE[file_type], self._scene.GenerateUniqueName(_stem(path)))
        node.AddDefaultStorageNode(path)
        if not node.GetStorageNode().ReadData(node):
            self._scene.RemoveNode(node)
            return None
        if isinstance(node, slicer.vtkMRMLDisplayableNode):
            node.CreateDefaultDisplayNodes()
        return node


def _stem(path: str) -> str:
    name = Path(path).name
    for suffix in (".seg.nrrd", ".seq.nrrd", ".nii.gz"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(path).stem
