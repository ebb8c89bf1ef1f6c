"""Taxonomy rows as what computes: the pure value and its table of levels."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings

from corpora.models import Taxonomy
from corpora.taxonomy import LevelTable, TaxonomyClass, level_table
from corpora.taxonomy import Taxonomy as PureTaxonomy


def pure(taxonomy: Taxonomy) -> PureTaxonomy:
    """The taxonomy as a value; a taxonomy never changes, so it is kept by its digest and name."""
    return _pure(_Key(taxonomy))


def levels(taxonomy: Taxonomy) -> LevelTable:
    """Distances as levels; the matrix is kept under VAR_DIR/taxonomies."""
    return _levels(_Key(taxonomy))


def row_values(taxonomy: PureTaxonomy) -> dict[str, Any]:
    """The fields of a `Taxonomy` row that describe this value."""
    return {
        "n_classes": taxonomy.n_classes,
        "classes": [
            {"id": item.id, "name": item.name, "synonyms": list(item.synonyms), "gloss": item.gloss}
            for item in taxonomy.classes
        ],
        "edges": [list(edge) for edge in taxonomy.edges],
        "node_names": dict(taxonomy.node_names or {}),
        "digest": taxonomy.digest,
    }


class _Key:
    """Hashes by what identifies the content, carries the row that has it."""

    def __init__(self, row: Taxonomy) -> None:
        self.row = row
        self.identity = (row.pk, row.name, row.digest)

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.identity == other.identity


@lru_cache(maxsize=16)
def _pure(key: _Key) -> PureTaxonomy:
    row = key.row
    classes = tuple(
        TaxonomyClass(index, item["id"], item["name"], tuple(item.get("synonyms", ())), item.get("gloss", ""))
        for index, item in enumerate(row.classes)
    )
    edges = tuple((child, parent) for child, parent in row.edges)
    return PureTaxonomy(row.name, classes, edges, row.node_names or None)


@lru_cache(maxsize=8)
def _levels(key: _Key) -> LevelTable:
    return level_table(pure(key.row), cache=Path(settings.VAR_DIR) / "taxonomies")
