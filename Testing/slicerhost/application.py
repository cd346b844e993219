"""`slicer.app` and `slicer.modules`: the Qt application, Slicer's real logics,
and the managers a module reaches through them."""

# Slicer chose these names.
# ruff: noqa: N801

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from .layout import qSlicerLayoutManager
from .pythonqt import stand_in
from .scene_files import CoreIOManager

Property, Signal = QtCore.Property, QtCore.Signal
VERSION = (5, 12, 3)

_LOGICS = {
    "cameras": "vtkSlicerCamerasModuleLogic",
    "colors": "vtkSlicerColorLogic",
    "cropvolume": "vtkSlicerCropVolumeLogic",
    "data": "vtkSlicerDataModuleLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "models": "vtkSlicerModelsLogic",
    "plots": "vtkSlicerPlotsLogic",
    "reformat": "vtkSlicerReformatLogic",
    "sceneviews": "vtkSlicerSceneViewsModuleLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "sequences": "vtkSlicerSequencesLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "tables": "vtkSlicerTablesLogic",
    "terminologies": "vtkSlicerTerminologiesModuleLogic",
    "texts": "vtkSlicerTextsLogic",
    "transforms": "vtkSlicerTransformLogic",
    "units": "vtkSlicerUnitsLogic",
    "volumerendering": "vtkSlicerVolumeRenderingLogic",
    "volumes": "vtkSlicerVolumesLogic",
}


class CoreModule:
    """One of Slicer's own modules: its name and its real logic."""

    def __init__(self, name: str, logic: Any) -> None:
        self.name, self._logic = name, logic

    def logic(self) -> Any:
        return self._logic


class Modules:
    """`slicer.modules`: one attribute per module, in lower case."""


@stand_in
class qSlicerModuleManager(QtCore.QObject):
    moduleAboutToBeUnloaded = Signal(str)

    def module(self, name: str) -> Any:
        return vars(slicer.modules).get(name.lower())

    def modulesNames(self) -> list[str]:
        return [module.name for module in vars(slicer.modules).values() if hasattr(module, "name")]

    def factoryManager(self) -> qSlicerModuleManager:
        return self

    loadedModuleNames = modulesNames


@stand_in
class qSlicerExtensionsManagerModel(QtCore.QObject):
    """No extension is installed and none can be, as on a machine without network."""

    interactive = Property(bool, lambda self: False, lambda self, value: None)

    def isExtensionInstalled(self, name: str) -> bool:
        return False

    def installExtensionFromServer(self, name: str, restart: bool = True) -> bool:
        return False

    def updateExtensionsMetadataFromServer(self, force: bool = False, wait: bool = False) -> bool:
        return False


@stand_in
class qSlicerApplication(QtWidgets.QApplication):
    """The application object; it writes nowhere but into a temporary directory of its own."""

    startupCompleted = Signal()
    _home: Any = None
    _scene: Any = None
    _application_logic: Any = None
    _layout_manager: Any = None
    _module_manager: Any = None
    _io_manager: Any = None
    _extensions: Any = None

    def __init__(self, scene: Any) -> None:
        super().__init__(["Slicer"])
        self._home = tempfile.TemporaryDirectory(prefix="slicerhost-")
        self._scene = scene
        self.setApplicationName("Slicer")
        self.setApplicationVersion(".".join(map(str, VERSION)))
        self.setOrganizationName("NA-MIC")
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
        QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, self._home.name)
        QtCore.QStandardPaths.setTestModeEnabled(True)
        _write_python_launcher(Path(self._home.name) / "bin")

    def set_up(self, application_logic: Any) -> None:
        """Build the services that need the scene's logics; separate, as those need `slicer.app`."""
        self._application_logic = application_logic
        self._layout_manager = qSlicerLayoutManager(self._scene, application_logic)
        self._module_manager = qSlicerModuleManager()
        self._extensions = qSlicerExtensionsManagerModel()
        self._io_manager = CoreIOManager(self._scene)

    slicerHome = Property(str, lambda self: self._home.name)
    temporaryPath = Property(str, lambda self: _made(Path(self._home.name) / "tmp"))
    slicerUserSettingsFilePath = Property(str, lambda self: self.settings().fileName())
    extensionsInstallPath = Property(str, lambda self: _made(Path(self._home.name) / "extensions"))
    majorVersion = Property(int, lambda self: VERSION[0])
    minorVersion = Property(int, lambda self: VERSION[1])
    revision = Property(str, lambda self: "0")

    def mrmlScene(self) -> Any:
        return self._scene

    def applicationLogic(self) -> Any:
        return self._application_logic

    def layoutManager(self) -> qSlicerLayoutManager:
        manager: qSlicerLayoutManager = self._layout_manager
        return manager

    def moduleManager(self) -> qSlicerModuleManager:
        manager: qSlicerModuleManager = self._module_manager
        return manager

    def extensionsManagerModel(self) -> qSlicerExtensionsManagerModel:
        model: qSlicerExtensionsManagerModel = self._extensions
        return model

    def coreIOManager(self) -> CoreIOManager:
        manager: CoreIOManager = self._io_manager
        return manager

    def settings(self) -> QtCore.QSettings:
        return QtCore.QSettings()

    userSettings = settings

    def testingEnabled(self) -> bool:
        """False: in testing mode `slicer.util` would skip the dialogs that tests want to see."""
        return False

    def pauseRender(self) -> None:
        self._application_logic.PauseRender()

    def resumeRender(self) -> None:
        self._application_logic.ResumeRender()


def _made(directory: Path) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    return str(directory)


def _write_python_launcher(directory: Path) -> None:
    """Slicer has PythonSlicer on the PATH: a launcher that runs Slicer's Python."""
    directory.mkdir()
    launcher = directory / "PythonSlicer"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
    os.environ["PATH"] = str(directory) + os.pathsep + os.environ.get("PATH", "")


def make_logics(scene: Any) -> tuple[Any, Modules]:
    """The application logic and `slicer.modules` with every logic that slicer-core has."""
    application_logic = slicer.vtkSlicerApplicationLogic()
    application_logic.SetMRMLScene(scene)
    modules = Modules()
    for name, class_name in _LOGICS.items():
        logic = getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        application_logic.SetModuleLogic(name.capitalize(), logic)
        setattr(modules, name, CoreModule(name, logic))
    application_logic.SetColorLogic(modules.colors.logic())
    return application_logic, modules


def fill_subject_hierarchy(scene: Any) -> None:
    """Give every data node an item under the scene while it is there, as Slicer's subject hierarchy does."""

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def node_added(_scene: Any, _event: str, node: Any) -> None:
        shown = node.IsA("vtkMRMLDisplayableNode") or node.IsA("vtkMRMLTableNode")
        if shown and not node.GetHideFromEditors():
            hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def node_about_to_be_removed(_scene: Any, _event: str, node: Any) -> None:
        hierarchy = None if scene.IsClosing() else slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        if hierarchy is not None and (item := hierarchy.GetItemByDataNode(node)):
            hierarchy.RemoveItem(item, False, False)

    scene.AddObserver(scene.NodeAddedEvent, node_added)
    scene.AddObserver(scene.NodeAboutToBeRemovedEvent, node_about_to_be_removed)
