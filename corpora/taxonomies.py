"""Taxonomy rows as what computes: the pure value and its table of levels."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings

from corpora.models import Taxonomy
from corpora.taxonomy import LevelTable, TaxonomyClass, level_table
from corpora.taxonomy import Taxonomy as PureTaxonomy

Nodes = tuple[str, ...]


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


@dataclass(frozen=True)
class ClassLine:
    """One class as a page shows it."""

    index: int
    id: str
    name: str
    synonyms: str
    gloss: str


@dataclass(frozen=True)
class Comparison:
    """Two classes: their distance, its rank among the distinct distances, and the pair of paths it comes from.

    paths: (name, whether the other path has it) from the root down; empty in a flat taxonomy.
    """

    first: ClassLine
    second: ClassLine
    distance: float
    level: int
    n_levels: int
    first_path: list[tuple[str, bool]]
    second_path: list[tuple[str, bool]]


def search(taxonomy: Taxonomy, text: str) -> list[ClassLine]:
    """Classes whose index, id, name or synonym holds the text, whatever its case; all for an empty text."""
    wanted = text.casefold()
    lines = _lines(_Key(taxonomy))
    if not wanted:
        return list(lines)
    if wanted.isdecimal():
        return [line for line in lines if line.index == int(wanted)]
    return [line for line in lines if wanted in f"{line.id}\n{line.name}\n{line.synonyms}".casefold()]


def compare(taxonomy: Taxonomy, first: str, second: str) -> Comparison:
    """Raises TaxonomyError for a class that does not exist or is ambiguous."""
    value = pure(taxonomy)
    a, b = value.find(first), value.find(second)
    table = levels(taxonomy)
    distance = float(table.distance(a, b))
    level = 0 if a == b else int(table.ranks[a, b])
    lines = _lines(_Key(taxonomy))
    one, two = ((), ()) if value.is_flat else _nearest_paths(value, a, b)
    paths = (_shown(value, one, two), _shown(value, two, one))
    return Comparison(lines[a], lines[b], distance, level, table.n_levels, *paths)


def _nearest_paths(value: PureTaxonomy, first: int, second: int) -> tuple[Nodes, Nodes]:
    """Of all pairs of paths to two classes the nearest, which the distance comes from."""
    pairs = ((one, two) for one in value.paths(first) for two in value.paths(second))
    return min(pairs, key=lambda pair: _path_distance(*pair))


def _shown(value: PureTaxonomy, path: Nodes, other: Nodes) -> list[tuple[str, bool]]:
    names = {**(value.node_names or {}), **{item.id: item.name for item in value.classes}}
    return [(names.get(node, node), node in other) for node in path]


def _path_distance(one: Nodes, two: Nodes) -> float:
    """arXiv 2002.10648, section 3.1: a node at depth t weighs 2^(1 - t); the root does not count."""
    own = sum(2.0 ** (1 - depth) for depth, node in enumerate(one) if depth and node not in two)
    other = sum(2.0 ** (1 - depth) for depth, node in enumerate(two) if depth and node not in one)
    return own + other


@lru_cache(maxsize=16)
def _lines(key: _Key) -> tuple[ClassLine, ...]:
    return tuple(
        ClassLine(item.index, item.id, item.name, ", ".join(item.synonyms), item.gloss)
        for item in pure(key.row).classes
    )
