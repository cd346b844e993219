"""Stand-ins for the CTK widgets that panels use, with CTK's names, properties and signals.
A widget that only adds looks to a Qt class is one line in `PLAIN`."""

# Slicer chose these names.
# ruff: noqa: N801

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from .pythonqt import stand_in

Property, Signal = QtCore.Property, QtCore.Signal
_UNBOUNDED = 16777215  # QWIDGETSIZE_MAX, which PySide does not export


@stand_in
class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A section heading; its own layout holds the contents, clipped away while collapsed."""

    contentsCollapsed = Signal(bool)
    _collapsed: bool = False

    def __init__(self, *args: Any) -> None:
        title = args[0] if args and isinstance(args[0], str) else ""
        super().__init__(args[-1] if args and isinstance(args[-1], QtWidgets.QWidget) else None)
        self.setText(title)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Preferred, QtWidgets.QSizePolicy.Preferred)
        self.setContentsMargins(0, self._heading_height(), 0, 0)
        self.toggled.connect(lambda checked: self._apply(not checked))

    def _heading_height(self) -> int:
        return self.fontMetrics().height() + 10

    def _apply(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self.setMaximumHeight(self._heading_height() if collapsed else _UNBOUNDED)
        self.updateGeometry()
        self.update()
        self.contentsCollapsed.emit(collapsed)

    def _set_collapsed(self, value: bool) -> None:
        self.setChecked(not value)

    collapsed = Property(bool, lambda self: self._collapsed, _set_collapsed)
    contentsFrameShape = Property(int, lambda self: 0, lambda self, value: None)

    def collapse(self, value: bool = True) -> None:
        self._set_collapsed(value)

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return bool(position.y() <= self._heading_height())

    def minimumSizeHint(self) -> QtCore.QSize:
        return self.sizeHint()

    def sizeHint(self) -> QtCore.QSize:
        heading = QtCore.QSize(self.fontMetrics().horizontalAdvance(self.text) + 40, self._heading_height())
        if self._collapsed or self.layout() is None:
            return heading
        return self.layout().totalMinimumSize().expandedTo(heading)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.Antialiasing)
        heading = QtCore.QRectF(0.5, 0.5, self.width - 1.0, self._heading_height() - 3.0)
        painter.setPen(QtGui.QPen(self.palette.color(QtGui.QPalette.Mid), 1))
        painter.setBrush(self.palette.color(QtGui.QPalette.Button))
        painter.drawRoundedRect(heading, 3, 3)
        middle, size = heading.center().y(), 4.0
        arrow = [(-size, -size / 2), (size, -size / 2), (0, size)]
        if self._collapsed:
            arrow = [(-size / 2, -size), (-size / 2, size), (size, 0)]
        painter.setPen(QtCore.Qt.NoPen)
        painter.setBrush(self.palette.color(QtGui.QPalette.ButtonText))
        painter.drawPolygon(QtGui.QPolygonF([QtCore.QPointF(14 + x, middle + y) for x, y in arrow]))
        painter.setPen(self.palette.color(QtGui.QPalette.ButtonText))
        painter.drawText(heading.adjusted(26, 0, 0, 0), QtCore.Qt.AlignVCenter | QtCore.Qt.AlignLeft, self.text)


@stand_in
class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """A group box whose title folds its contents away."""

    _collapsed: bool = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._fold)

    def _fold(self, shown: bool) -> None:
        self._collapsed = not shown
        self.setMaximumHeight(_UNBOUNDED if shown else self.fontMetrics().height() + 10)

    collapsed = Property(bool, lambda self: self._collapsed, lambda self, value: self.setChecked(not value))
    collapsedHeight = Property(int, lambda self: 14, lambda self, value: None)


@stand_in
class ctkSliderWidget(QtWidgets.QWidget):
    """A slider beside a spin box, both showing one floating-point value."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    _spin: Any = None
    _slider: Any = None

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Horizontal, self)
        self._spin = QtWidgets.QDoubleSpinBox(self)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider, 1)
        row.addWidget(self._spin)
        self._spin.setRange(0, 99)
        self._spin.setDecimals(2)
        self._align_slider()
        self._slider.valueChanged.connect(self._follow_slider)
        self._spin.valueChanged.connect(self._follow_spin)

    def _align_slider(self) -> None:
        blocked = self._slider.blockSignals(True)
        step = self._spin.singleStep or 1.0
        self._slider.setRange(0, min(round((self._spin.maximum - self._spin.minimum) / step), 2**30))
        self._slider.setValue(round((self._spin.value - self._spin.minimum) / step))
        self._slider.blockSignals(blocked)

    def _follow_slider(self, position: int) -> None:
        self._spin.setValue(self._spin.minimum + position * self._spin.singleStep)

    def _follow_spin(self, value: float) -> None:
        self._align_slider()
        self.valueIsChanging.emit(value)
        self.valueChanged.emit(value)

    def _change(self, name: str, value: Any) -> None:
        setattr(self._spin, name, value)
        self._align_slider()

    value = Property(float, lambda self: self._spin.value, lambda self, v: self._change("value", v))
    minimum = Property(float, lambda self: self._spin.minimum, lambda self, v: self._change("minimum", v))
    maximum = Property(float, lambda self: self._spin.maximum, lambda self, v: self._change("maximum", v))
    singleStep = Property(float, lambda self: self._spin.singleStep, lambda self, v: self._change("singleStep", v))
    pageStep = Property(float, lambda self: float(self._slider.pageStep), lambda self, v: None)
    decimals = Property(int, lambda self: self._spin.decimals, lambda self, v: self._change("decimals", v))
    suffix = Property(str, lambda self: self._spin.suffix, lambda self, v: self._change("suffix", v))
    prefix = Property(str, lambda self: self._spin.prefix, lambda self, v: self._change("prefix", v))
    tracking = Property(bool, lambda self: self._slider.tracking, lambda self, v: self._slider.setTracking(v))

    def setValue(self, value: float) -> None:
        self._change("value", value)

    def setRange(self, minimum: float, maximum: float) -> None:
        self._spin.setRange(minimum, maximum)
        self._align_slider()


class _PathWidget(QtWidgets.QWidget):
    """A line with a browse button beside it; the two CTK path widgets differ in their names only."""

    _line: Any = None
    _browse: Any = None

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._line = QtWidgets.QLineEdit(self)
        self._browse = QtWidgets.QToolButton(self)
        self._browse.setText("…")
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._line, 1)
        row.addWidget(self._browse)
        self._line.textChanged.connect(self._announce)
        self._browse.clicked.connect(self.browse)

    def _announce(self, path: str) -> None:
        raise NotImplementedError

    def browse(self) -> None:
        chosen = QtWidgets.QFileDialog.getExistingDirectory(self, "Choose", self._line.text)
        if chosen:
            self._line.setText(chosen)


@stand_in
class ctkPathLineEdit(_PathWidget):
    currentPathChanged = Signal(str)
    _filters: int = 0
    _name_filters: tuple[str, ...] = ()
    _setting_key: str = ""

    def _announce(self, path: str) -> None:
        self.currentPathChanged.emit(path)

    def _set_filters(self, value: int) -> None:
        self._filters = int(value)

    def _set_name_filters(self, value: list[str]) -> None:
        self._name_filters = tuple(value)

    def _set_setting_key(self, value: str) -> None:
        self._setting_key = value

    currentPath = Property(str, lambda self: self._line.text, lambda self, v: self._line.setText(v))
    filters = Property(int, lambda self: self._filters, _set_filters)
    nameFilters = Property("QStringList", lambda self: list(self._name_filters), _set_name_filters)
    settingKey = Property(str, lambda self: self._setting_key, _set_setting_key)

    def setCurrentPath(self, path: str) -> None:
        self._line.setText(path)

    def addCurrentPathToHistory(self) -> None:
        """Slicer remembers the path in its settings; nothing here reads that list."""


@stand_in
class ctkDirectoryButton(_PathWidget):
    directoryChanged = Signal(str)

    def _announce(self, path: str) -> None:
        self.directoryChanged.emit(path)

    directory = Property(str, lambda self: self._line.text, lambda self, v: self._line.setText(v))


PLAIN: dict[str, type] = {
    "ctkCheckBox": QtWidgets.QCheckBox,
    "ctkComboBox": QtWidgets.QComboBox,
    "ctkDoubleSpinBox": QtWidgets.QDoubleSpinBox,
    "ctkFittedTextBrowser": QtWidgets.QTextBrowser,
    "ctkMenuButton": QtWidgets.QPushButton,
    "ctkMessageBox": QtWidgets.QMessageBox,
    "ctkSearchBox": QtWidgets.QLineEdit,
}

WIDGETS: dict[str, type] = {name: stand_in(type(name, (base,), {})) for name, base in PLAIN.items()} | {
    cls.__name__: cls
    for cls in (
        ctkCollapsibleButton,
        ctkCollapsibleGroupBox,
        ctkSliderWidget,
        ctkPathLineEdit,
        ctkDirectoryButton,
    )
}
