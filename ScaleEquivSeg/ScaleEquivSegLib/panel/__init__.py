"""What the Slicer widget shows and does, and the process that computes for it."""
