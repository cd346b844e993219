"""Layers that commute with a rescaling of their input; torch only.

A feature map is a `ScaleMaps`: one tensor (batch, channel, x, y, z) per scale, each on its own grid, whose spacing
grows with the scale. A plain convolutional network is the case of a single scale.
"""
