"""Draws the extension's and the module's icon from ScaleEquivSeg.svg: `python Resources/draw_icon.py`."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QImage, QPainter
from PySide6.QtSvg import QSvgRenderer

HERE = Path(__file__).resolve().parent
DRAWING = HERE / "ScaleEquivSeg.svg"
ICONS = (
    HERE / "ScaleEquivSeg.png",
    HERE.parent / "ScaleEquivSeg" / "Resources" / "Icons" / "ScaleEquivSeg.png",
)
SIZE = 128


def draw_icon(icon: Path, size: int) -> None:
    """Render the drawing on a transparent square of `size` pixels."""
    renderer = QSvgRenderer(str(DRAWING))
    if not renderer.isValid():
        raise ValueError(f"{DRAWING} is not a drawing that Qt can read.")
    image = QImage(size, size, QImage.Format.Format_ARGB32)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    renderer.render(painter)
    painter.end()
    icon.parent.mkdir(parents=True, exist_ok=True)
    if not image.save(str(icon)):
        raise OSError(f"{icon} could not be written.")


if __name__ == "__main__":
    for icon in ICONS:
        draw_icon(icon, SIZE)
