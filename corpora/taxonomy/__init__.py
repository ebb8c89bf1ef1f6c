"""Taxonomies: what the classes of a label space are called and how far apart any two of them are.

A *taxonomy* is a rooted directed acyclic graph of named nodes; some nodes are *classes* with an index (what classifiers
predict). A *path* leads from the root down to a class. The *distance* of two classes is the weighted tree distance of
arXiv 2002.10648 (section 3.1); a taxonomy without edges is *flat*: every two classes are at distance 1 (0-1 distance).
The *levels* of a taxonomy are its distinct distances, ranked from 0 (the same class) upwards.
"""

from corpora.taxonomy.distances import LevelTable, distance_matrix, level_table
from corpora.taxonomy.model import Taxonomy, TaxonomyClass, TaxonomyError, flat
from corpora.taxonomy.tables import from_csv, imagenet1k, to_csv

__all__ = [
    "LevelTable",
    "Taxonomy",
    "TaxonomyClass",
    "TaxonomyError",
    "distance_matrix",
    "flat",
    "from_csv",
    "imagenet1k",
    "level_table",
    "to_csv",
]
