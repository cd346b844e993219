"""The base classes of scripted modules, the C++ objects behind them, and Sample Data's registry."""

# Slicer chose these names.
# ruff: noqa: N801

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
import types
import unittest
from collections.abc import Callable
from typing import Any

import slicer.util
from PySide6 import QtCore, QtGui, QtWidgets

from .mrml_widgets import SceneWidget
from .pythonqt import stand_in


class qSlicerScriptedLoadableModule:
    """What `ScriptedLoadableModule.parent` is; it has these attributes and takes no other."""

    __slots__ = (
        *("name", "path", "title", "icon", "categories", "dependencies", "contributors", "helpText"),
        *(
            "acknowledgementText",
            "hidden",
            "index",
            "associatedNodeTypes",
            "widgetRepresentationCreationEnabled",
        ),
        *("_widget", "_logic"),
    )

    def __init__(self, name: str, path: str) -> None:
        self.name, self.path, self.title, self.helpText, self.acknowledgementText = name, path, name, "", ""
        self.icon = QtGui.QIcon()
        self.categories: list[str] = []
        self.dependencies: list[str] = []
        self.contributors: list[str] = []
        self.associatedNodeTypes: list[str] = []
        self.hidden, self.index, self.widgetRepresentationCreationEnabled = False, -1, True
        self._widget: Any = None
        self._logic = slicer.vtkSlicerScriptedLoadableModuleLogic()

    def logic(self) -> Any:
        return self._logic

    def widgetRepresentation(self) -> Any:
        return self._widget


@stand_in
class qSlicerScriptedLoadableModuleWidget(SceneWidget):
    """The panel's top widget, which Slicer hands to the module's widget class."""

    _python_self: Any = None
    _entered = False
    isEntered = QtCore.Property(bool, lambda self: self._entered)

    def __init__(self) -> None:
        super().__init__()
        QtWidgets.QVBoxLayout(self)

    def self(self) -> Any:
        return self._python_self

    def reload(self) -> None:
        """The second half of `slicer.util.reloadScriptedModule`, which has executed the module's file anew."""
        name = self._python_self.moduleName
        self._python_self = getattr(sys.modules[name], f"{name}Widget")(self)
        setattr(slicer.modules, f"{name}Widget", self._python_self)
        self._python_self.setup()


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        super().__init__()
        self.parent = parent
        self.moduleName = type(self).__name__
        for suffix in (".svg", ".png"):
            icon = self.resourcePath(f"Icons/{self.moduleName}{suffix}")
            if os.path.isfile(icon):
                parent.icon = QtGui.QIcon(icon)
                break

    def resourcePath(self, filename: str) -> str:
        return os.path.join(os.path.dirname(self.parent.path), "Resources", filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        return f'<p>See the <a href="{docPage or self.moduleName}">documentation</a>.</p>'

    def runTest(self, msec: int = 100, **options: Any) -> None:
        module = importlib.import_module(type(self).__module__)
        test = getattr(module, f"{self.moduleName}Test")()
        test.messageDelay = msec
        test.runTest(**options)


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent = parent if parent is not None else qSlicerScriptedLoadableModuleWidget()
        self.layout = self.parent.layout()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)
        if parent is None:
            self.parent.setMRMLScene(slicer.mrmlScene)
            self.setup()

    def _onModuleAboutToBeUnloaded(self, name: str) -> None:
        if name == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename: str) -> str:
        return os.path.join(os.path.dirname(slicer.util.modulePath(self.moduleName)), "Resources", filename)

    def setup(self) -> None:
        """The developer's section is off, as for a user."""

    def cleanup(self) -> None:
        """Overridden by modules that hold something."""

    def onReload(self) -> None:
        slicer.util.reloadScriptedModule(self.moduleName)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node is not None:
                # Closing the scene keeps the node and takes its attributes.
                node.SetAttribute("ModuleName", self.moduleName)
                return node
        nodes = self.getAllParameterNodes()
        return nodes[0] if nodes else slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list[Any]:
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self) -> Any:
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetModuleName(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    messageDelay = 0

    def runTest(self) -> None:
        """Overridden by the module's test, which chooses what to run."""

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        slicer.app.processEvents()


def base_class_module() -> types.ModuleType:
    """The importable `slicer.ScriptedLoadableModule`."""
    module: Any = types.ModuleType("slicer.ScriptedLoadableModule")
    classes = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    )
    for cls in classes:
        setattr(module, cls.__name__, cls)
    module.__all__ = [cls.__name__ for cls in classes]
    return module


@dataclasses.dataclass
class SampleDataSource:
    """One registered sample, with the fields of Slicer's own class; its button calls the downloader with it."""

    category: str
    sampleName: str
    uris: str
    fileNames: str
    customDownloader: Callable[[SampleDataSource], Any]
    thumbnailFileName: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.uris, str) or not isinstance(self.fileNames, str):
            raise TypeError("Slicer counts the URIs and file names of a source, also where nothing is downloaded")
        if self.thumbnailFileName is not None and not os.path.isfile(self.thumbnailFileName):
            raise FileNotFoundError(f"thumbnail of sample '{self.sampleName}': {self.thumbnailFileName}")


def sample_data_module(registered: list[SampleDataSource]) -> types.ModuleType:
    """The importable `SampleData`; samples land in `registered`.

    `downloadSamples` is missing: Slicer's own passes over the downloader.
    """

    class SampleDataLogic:
        @staticmethod
        def registerCustomSampleDataSource(category: str = "Custom", **fields: Any) -> None:
            registered.append(SampleDataSource(category, **fields))

    module: Any = types.ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic
    return module
