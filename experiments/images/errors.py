"""What can be wrong with a set of images, as errors a command can show in one line."""

from __future__ import annotations


class ImageSetError(ValueError):
    """A set of images is missing, empty, or not what was asked for; the message names the folder and the remedy."""


class MissingSplitError(ImageSetError):
    """The set is there, but has no such part; a training then goes without validation."""


class BrokenImageError(ImageSetError):
    """One image cannot be read; the message names the file and the reason."""
