"""Layers that commute with a rescaling of their input, layers that commute with turning and mirroring it
(`group_conv`, `dynamic_group_conv`), and the published ones that they are compared with; torch only.

A feature map of the first is a `ScaleMaps`: one tensor (batch, channel, x, y, z) per scale, each on its own grid, whose
spacing grows with the scale. A plain convolutional network is the case of a single scale.
"""
