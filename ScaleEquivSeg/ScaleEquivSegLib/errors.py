"""What can go wrong in a way that a user can act on: one exception type per cause, each with its exit code."""

from __future__ import annotations


class SegmentationError(Exception):
    """Base of every error whose message is meant for the user."""

    exit_code = 1


class BadRequest(SegmentationError):
    """A request that is none, that lacks something, or that asks for what does not go together."""

    exit_code = 2


class UnreadableVolume(SegmentationError):
    """A file is missing, damaged, or no image."""

    exit_code = 3


class UnsuitableVolume(SegmentationError):
    """An image of the wrong kind, or with values or geometry that cannot be used."""

    exit_code = 4


class BadBundle(SegmentationError):
    """A model bundle that is incomplete, damaged, or of an unknown kind."""

    exit_code = 5


class UnavailableDevice(SegmentationError):
    """A computing device that this machine does not have."""

    exit_code = 6


class OutOfMemory(SegmentationError):
    """Not enough memory, on the device and on the CPU, however little is computed at once."""

    exit_code = 9


class OutputExists(SegmentationError):
    """A file that would have to be overwritten without having been asked to."""

    exit_code = 7


class UnwritableOutput(SegmentationError):
    """A place that cannot be written to."""

    exit_code = 8


class SomeCasesFailed(SegmentationError):
    """Of many cases some could not be segmented; the others were."""

    exit_code = 10


class BadCaseList(SegmentationError):
    """A folder or table of cases with mistakes."""

    exit_code = 11


class MissingPackage(SegmentationError):
    """A Python package that computing needs is not installed."""

    exit_code = 12


class UnsuitablePackage(SegmentationError):
    """A Python package in a version that computing cannot use."""

    exit_code = 13


class BadRegion(SegmentationError):
    """A region of interest that is none, or that holds no voxel of the volume."""

    exit_code = 14


class Cancelled(SegmentationError):
    """The user stopped the run; nothing was written."""

    exit_code = 130
