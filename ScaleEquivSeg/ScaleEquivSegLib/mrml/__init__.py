"""Between the engine's values and Slicer's scene."""
