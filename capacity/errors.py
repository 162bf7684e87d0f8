"""Every error that a user can meet, one tree.

CapacityError
├── SettingsError     a setting, option or argument that cannot be used   (ValueError)
├── ExportError       an input that cannot be read: file, folder, URL     (ValueError)
├── SchemaError       a table without the columns or types it declares    (ValueError)
├── CalibrationError  a calibration file that cannot be used              (ValueError)
├── FactError         a Cilium version, map, option or metric not known   (LookupError)
├── MeasureError      a measurement that this machine cannot make         (RuntimeError)
├── ModelError        too little evidence to fit, or not fitted           (ValueError)
└── ManifestError     a manifest that does not read back as it was meant  (ValueError)

A message says what, where, the value seen, what was wanted, and what to do, in one line.
"""

from __future__ import annotations


class CapacityError(Exception):
    """Root of all errors raised on purpose; the command line prints it as one line."""


class SettingsError(CapacityError, ValueError):
    """A setting, option or argument that cannot be used."""


class ExportError(CapacityError, ValueError):
    """An input that cannot be read at all; parts that cannot be read are counted instead."""


class SchemaError(CapacityError, ValueError):
    """A table lacks columns or has other types than it declares."""


class CalibrationError(CapacityError, ValueError):
    """A calibration file that cannot be read, or lacks what is asked of it."""


class FactError(CapacityError, LookupError):
    """Nothing is known about this version, map, option, limit or metric."""


class MeasureError(CapacityError, RuntimeError):
    """A measurement that this machine, kernel or user cannot make, or that was disturbed."""


class ModelError(CapacityError, ValueError):
    """A model has too little evidence to be fitted, or was asked before it was fitted."""


class ManifestError(CapacityError, ValueError):
    """A written manifest does not read back as the values it was made from."""
