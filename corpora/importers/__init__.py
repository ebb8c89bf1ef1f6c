"""Where images come from: one module per source, each giving candidates in a fixed order.

Candidate: one image that may become a row. Listing: all candidates of a source, what was left out, and where they lie.
Skipped: what was never meant to be an image (hidden files, texts); counted by kind. A candidate with a `problem` goes
to the quarantine list with that reason, unread.
"""

from collections.abc import Callable
from functools import partial

from corpora.importers.archive import list_archive
from corpora.importers.arrays import LAYOUTS as ARRAYS
from corpora.importers.arrays import list_arrays
from corpora.importers.base import (
    ArchiveLimits,
    Candidate,
    ImportRefused,
    ImportRequest,
    Listing,
    Options,
    Pristine,
    Scale,
)
from corpora.importers.cifar import list_cifar
from corpora.importers.distorted import list_distorted
from corpora.importers.folder import list_folder
from corpora.importers.layouts import LAYOUTS, list_layout
from corpora.importers.table import list_table
from corpora.importers.webdataset import list_webdataset

IMPORTERS: dict[str, Callable[[ImportRequest], Listing]] = {
    "folder": list_folder,
    "archive": list_archive,
    "list": list_table,
    "webdataset": list_webdataset,
    "cifar": list_cifar,
    "distorted": list_distorted,
    **{name: partial(list_arrays, layout) for name, layout in ARRAYS.items()},
    **{name: partial(list_layout, layout) for name, layout in LAYOUTS.items()},
}

__all__ = [
    "IMPORTERS",
    "ArchiveLimits",
    "Candidate",
    "ImportRefused",
    "ImportRequest",
    "Listing",
    "Options",
    "Pristine",
    "Scale",
]
