"""The running stand-in: starts it, loads a module as Slicer does,
and gives tests what they need to watch it."""

from __future__ import annotations

import importlib.util
import sys
import time
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import pythonqt

# Before anything below sees a Qt class: the rest of the package is written in PythonQt's conventions.
pythonqt.install()

import slicer  # noqa: E402
import slicer.util  # noqa: E402
from PySide6 import QtCore, QtGui, QtWidgets  # noqa: E402

from . import ctk_widgets, mrml_widgets, parameter_node, scripted_module, ui_loader, views  # noqa: E402
from .application import fill_subject_hierarchy, make_logics, qSlicerApplication  # noqa: E402
from .dialogs import Answer, Dialog, DialogRecorder  # noqa: E402


class Host:
    """The one stand-in of this process; made by `start()`."""

    def __init__(self) -> None:
        self.exceptions: list[BaseException] = []
        self.sample_data: list[scripted_module.SampleDataSource] = []
        self.selected_module = ""
        self._loaded: dict[str, Any] = {}
        self._recorder = DialogRecorder()
        sys.excepthook = self._on_exception
        self.scene = slicer.vtkMRMLScene()
        self.cache = slicer.vtkCacheManager()
        self.scene.SetCacheManager(self.cache)
        self.app = qSlicerApplication(self.scene)
        QtCore.qInstallMessageHandler(_pass_on_qt_message)
        _use_slicer_look(self.app)
        self._fill_slicer()
        _install_modules(self.sample_data)
        self._recorder.install()

    def _fill_slicer(self) -> None:
        root: Any = slicer
        root.mrmlScene, root.app = self.scene, self.app
        self.cache.SetRemoteCacheDirectory(self.app.temporaryPath)
        # slicer-core has no colour and terminology files; its logics would print that on every start.
        self.scene.GlobalWarningDisplayOff()
        application_logic, root.modules = make_logics(self.scene)
        self.scene.GlobalWarningDisplayOn()
        self.app.set_up(application_logic)
        fill_subject_hierarchy(self.scene)
        views.register_displayable_managers(application_logic)
        for name, cls in mrml_widgets.WIDGETS.items():
            setattr(root, name, cls)
        root.qSlicerScriptedLoadableModule = scripted_module.qSlicerScriptedLoadableModule
        root.qSlicerScriptedLoadableModuleWidget = scripted_module.qSlicerScriptedLoadableModuleWidget
        util: Any = slicer.util
        util.loadUI = ui_loader.load_ui
        util.selectModule = self.select_module

    def _on_exception(self, kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        # Qt and VTK both report an exception of a Python callback here, and carry on.
        self.exceptions.append(error)
        traceback.print_exception(kind, error, trace)

    def raise_exceptions(self) -> None:
        """Raise what slots, timers and observers raised since the last call."""
        caught, self.exceptions[:] = list(self.exceptions), []
        if caught:
            raise ExceptionGroup("raised inside slots or observers", [e for e in caught if isinstance(e, Exception)])

    @property
    def dialogs(self) -> list[Dialog]:
        """Every dialog shown so far; clear the list to start over."""
        return self._recorder.shown

    @property
    def answer(self) -> Answer:
        """What the next dialogs are answered: yes or no, a path or text, or a function of the `Dialog`."""
        return self._recorder.answer

    @answer.setter
    def answer(self, value: Answer) -> None:
        self._recorder.answer = value

    def start_module(self, path: str | Path) -> Any:
        """Import a scripted module file as Slicer does when it starts; nobody has opened the module yet."""
        path = Path(path).resolve()
        name = path.stem
        python = _import_file(path)
        shell = scripted_module.qSlicerScriptedLoadableModule(name, str(path))
        module = getattr(python, name)(shell)
        setattr(slicer.modules, name.lower(), shell)
        setattr(slicer.modules, f"{name}Instance", module)
        self.app.startupCompleted.emit()
        pythonqt.disconnect_all(self.app, "startupCompleted()")
        return module

    def load_module(self, path: str | Path) -> tuple[Any, Any]:
        """Import a scripted module file, build its objects in Slicer's order and enter its panel."""
        name = Path(path).stem
        if name in self._loaded:
            self.unload_module(name)
        module = self.start_module(path)
        python, shell = sys.modules[name], module.parent
        top = scripted_module.qSlicerScriptedLoadableModuleWidget()
        top.setMRMLScene(self.scene)
        widget = getattr(python, f"{name}Widget")(top)
        top._python_self, shell._widget = widget, top
        setattr(slicer.modules, f"{name}Widget", widget)
        widget.setup()
        self._loaded[name] = top
        self.select_module(name)
        top.show()
        self.process_events()
        return module, widget

    def select_module(self, module: Any) -> None:
        """Leave the panel that is open and enter another; Slicer's own modules have no panel here."""
        name = module if isinstance(module, str) else module.name
        if name not in self._loaded and name.lower() not in vars(slicer.modules):
            raise RuntimeError(f"there is no module '{name}'")
        _set_entered(self._loaded.get(self.selected_module), False)
        self.selected_module = name
        _set_entered(self._loaded.get(name), True)

    def unload_module(self, name: str) -> None:
        """Leave the panel and clean it up, as Slicer does when it quits."""
        top = self._loaded.pop(name)
        if self.selected_module == name:
            _set_entered(top, False)
            self.selected_module = ""
        self.app.moduleManager().moduleAboutToBeUnloaded.emit(name)
        top.setMRMLScene(None)
        top.hide()
        top.deleteLater()
        self.process_events()
        # Outside of an event loop Qt deletes nothing on its own, and the panel would go on to follow the scene.
        self.app.sendPostedEvents(None, QtCore.QEvent.DeferredDelete)

    def clear_scene(self) -> None:
        """Close the scene as File / Close scene does."""
        self.scene.Clear(0)
        self.process_events()

    def process_events(self) -> None:
        self.app.processEvents()

    def wait_until(self, predicate: Callable[[], Any], timeout_s: float = 10.0) -> bool:
        """Spin the event loop until the predicate holds; False when the time is over first."""
        end = time.monotonic() + timeout_s
        while not predicate():
            if time.monotonic() > end:
                return False
            self.app.processEvents()
            time.sleep(0.005)
        return True

    def render_views(self, path: str | Path, size: tuple[int, int] = (1200, 600)) -> None:
        """A PNG of the current layout's slice and 3D views, side by side."""
        self.process_events()
        views.render_views(self.app.layoutManager(), path, size)

    def grab(self, widget: Any, path: str | Path, width: int = 560) -> None:
        """A PNG of a panel at the given width, as tall as its contents."""
        target = widget if isinstance(widget, QtWidgets.QWidget) else widget.parent
        target.resize(width, 10)
        # Each level of nesting posts a layout request of its own.
        for _ in range(4):
            self.process_events()
        layout = target.layout()
        height = layout.totalHeightForWidth(width) if layout is not None and layout.hasHeightForWidth() else -1
        target.resize(width, max(height, target.sizeHint.height()))
        self.process_events()
        if not target.grab().save(str(path)):
            raise OSError(f"could not write {path}")

    def close(self) -> None:
        """Unload every module and empty the scene; the process can go on and load again."""
        for name in list(self._loaded):
            self.unload_module(name)
        self.clear_scene()


_host: Host | None = None


def start() -> Host:
    """The running host, started by the first call."""
    # One QApplication per process is Qt's rule, so the host is one too.
    global _host
    if _host is None:
        _host = Host()
    return _host


def _set_entered(top: Any, entered: bool) -> None:
    """Open or leave a panel; None is one of Slicer's own modules, which have no panel here."""
    if top is not None:
        top._entered = entered
        method = "enter" if entered else "exit"
        if hasattr(top.self(), method):
            getattr(top.self(), method)()


def _import_file(path: Path) -> types.ModuleType:
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _install_modules(sample_data: list[scripted_module.SampleDataSource]) -> None:
    root: Any = slicer
    ctk: Any = types.ModuleType("ctk")
    for name, cls in ctk_widgets.WIDGETS.items():
        setattr(ctk, name, cls)
    i18n: Any = types.ModuleType("slicer.i18n")
    i18n.tr = lambda text: text
    i18n.translate = lambda context, text: text
    root.i18n = i18n
    base_classes, wrapper = scripted_module.base_class_module(), parameter_node.wrapper_module()
    root.ScriptedLoadableModule, root.parameterNodeWrapper = base_classes, wrapper
    samples = scripted_module.sample_data_module(sample_data)
    for module in (pythonqt.qt_module(), ctk, i18n, base_classes, wrapper, samples):
        sys.modules[module.__name__] = module


def _pass_on_qt_message(kind: Any, context: Any, text: str) -> None:
    # What the off-screen platform says of every top-level window.
    if "does not support propagateSizeHints" not in text:
        print(text, file=sys.stderr)


def _use_slicer_look(app: Any) -> None:
    app.setStyle("Fusion")
    font = QtGui.QFont("DejaVu Sans")
    font.setPixelSize(14)
    app.setFont(font)
    palette = QtGui.QPalette(QtGui.QColor(239, 239, 239))
    palette.setColor(QtGui.QPalette.Highlight, QtGui.QColor(48, 140, 198))
    app.setPalette(palette)
