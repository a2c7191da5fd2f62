"""Slides and what was found on them: see linkage.pathology. ``import_file`` takes the images as well as the rows."""

from __future__ import annotations

from ..pathology import NAME, VERSION, import_file, read

__all__ = ["NAME", "VERSION", "import_file", "read"]
