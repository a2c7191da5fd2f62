"""DICOM structured reports: see linkage.structured_report."""

from __future__ import annotations

from ..structured_report import read

__all__ = ["NAME", "VERSION", "read"]

NAME, VERSION = "sr", "PS3.16 TID 1500"
