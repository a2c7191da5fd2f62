"""Every error a user can meet, one class per remedy.

::

    OncoscaleError                      exit code
    ├── InputError                          2    the input must change
    │   ├── FileRejected                         a file cannot be read as what it should be
    │   ├── StudyRejected                        files are readable but do not form one study
    │   ├── TimesRejected                        the frames of a dynamic series cannot be ordered in time
    │   ├── SegmentationRejected                 a mask cannot become a tumour
    │   ├── UnitMissing                          a map or number has no usable unit
    │   ├── ModelRefused                         the data cannot carry the model asked for
    │   ├── ConsentDenied                        no permission for this subject and purpose
    │   ├── ConfigurationRejected                an option or configuration file is wrong
    │   └── StoreRejected                        the store is missing, read-only, or of another version
    └── Fault                               4    the input is good; we or the machine failed
        ├── StorageFault                         the disk filled, a write or rename failed
        ├── MeshFault                            no mesh passed the quality gate
        ├── SolverFault                          a solver did not converge
        └── CellFault                            a colony overflowed or met an impossible value

A message says what was found, what was expected and what to do. It names a file, a series or an
element, never a patient. What was partly done (exit code 3) is a result, not an error.
"""

from __future__ import annotations

import os


class OncoscaleError(Exception):
    """Root of every error raised on purpose.

    found, expected, remedy   one short phrase each; together they are the message
    exit_code                 what the command line returns
    """

    exit_code = 4

    def __init__(self, found: str, expected: str = "", remedy: str = "") -> None:
        self.found, self.expected, self.remedy = found, expected, remedy
        super().__init__(found, expected, remedy)

    def __str__(self) -> str:
        sentences = [self.found.rstrip(".")]
        if self.expected:
            sentences.append(f"Expected: {self.expected.rstrip('.')}")
        if self.remedy:
            sentences.append(f"To do: {self.remedy.rstrip('.')}")
        return ". ".join(sentences) + "."

    @property
    def kind(self) -> str:
        """The stable identifier of the error: its class name."""
        return type(self).__name__


class InputError(OncoscaleError):
    """The input must change before the command can succeed."""

    exit_code = 2


class FileRejected(InputError):
    """A file cannot be read as what it should be."""


class StudyRejected(InputError):
    """The files are readable but do not form one study of one subject."""


class TimesRejected(InputError):
    """The frames of a dynamic series cannot be ordered in time."""


class SegmentationRejected(InputError):
    """A mask cannot become a tumour: empty, touching the border, or in pieces."""


class UnitMissing(InputError):
    """A map or a number has no usable unit."""


class ModelRefused(InputError):
    """The data cannot carry the model that was asked for."""


class ConsentDenied(InputError):
    """No permission covers this subject, operation and purpose."""


class ConfigurationRejected(InputError):
    """An option or a configuration file is wrong."""


class StoreRejected(InputError):
    """The store is missing, read-only, or of another version."""


class Fault(OncoscaleError):
    """The input is good; we or the machine failed."""

    exit_code = 4


class StorageFault(Fault):
    """The disk filled, or a write or rename failed."""


class MeshFault(Fault):
    """No mesh passed the quality gate."""


class SolverFault(Fault):
    """A solver did not converge."""


class CellFault(Fault):
    """A colony overflowed or met an impossible value."""


def reason_of(error: BaseException) -> str:
    """Why something failed, without what it failed on: a path or a cell of a table may be a name.

    >>> reason_of(FileNotFoundError(2, "No such file or directory", "/images/Doe"))
    'No such file or directory'
    >>> reason_of(ValueError("could not convert 'Doe'"))
    'ValueError'
    """
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__
