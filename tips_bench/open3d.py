"""The one door to Open3D: half a second, spared to those who only look for a finished set, and a sentence where it cannot be loaded.

Its wheel links against libraries of the system (libusb, GL, X11) that small images lack; pip cannot know.
"""

from __future__ import annotations

from types import ModuleType

from tips_bench.errors import UserError


def import_open3d() -> ModuleType:
    """The package open3d. Errors: it is not installed, or a library of the system that it links against is missing."""
    try:
        import open3d
    except (ImportError, OSError) as error:
        fix = "`tips-bench doctor` says what this machine lacks and how to install it."
        raise UserError(f"cannot be imported: {error}", where="open3d", fix=fix) from error
    return open3d
