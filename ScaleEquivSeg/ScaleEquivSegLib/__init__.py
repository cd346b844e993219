"""ScaleEquivSeg: scale-equivariant segmentation of 3D volumes, the engine behind the Slicer panel.

Imports go one way: layers -> networks -> bundles, inference -> segmentation -> comparison -> scale_sweep -> worker,
cli -> mrml -> panel. Importing this package imports nothing heavy; torch is loaded only by the modules that compute
with it.
"""

__version__ = "0.1.0"
