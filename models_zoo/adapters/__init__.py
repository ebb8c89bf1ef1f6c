"""Adapters: anything that maps a batch of uint8 RGB images to class scores, behind one interface.

Words: a *spec* is the plain description of a version (`VersionSpec`, JSON in and out); a *classifier* is what `load`
makes of it (`Classifier`: uint8 NHWC in, float32 scores out); *verification* is the dry run that a version passes
before it is accepted (`models_zoo.adapters.verify.verify`).

This package is light: importing it imports no torch. `models_zoo.adapters.load` and `.verify` are for workers.
"""

from models_zoo.adapters.spec import Preprocessing, VersionRefused, VersionSpec

__all__ = ["Preprocessing", "VersionRefused", "VersionSpec"]
