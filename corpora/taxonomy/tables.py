"""Taxonomies in CSV: one row per (child, parent), with the class index and the words beside the child.

Columns: `child`, `parent`, `class` (the index, on classes only), and optionally `name`, `synonyms` (separated by ";")
and `gloss`. A child with several parents has several rows; the other columns then need to be filled only once. A row
without a parent only describes its child. The format is documented in docs/formats.md.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from corpora.taxonomy.model import Taxonomy, TaxonomyClass, TaxonomyError

COLUMNS = ("child", "parent", "class", "name", "synonyms", "gloss")
IMAGENET1K = Path(__file__).parent / "data" / "imagenet1k.csv"


@dataclass
class _Node:
    index: int | None = None
    texts: dict[str, str] = field(default_factory=dict)


@cache
def imagenet1k() -> Taxonomy:
    """The 1,000 ImageNet classes under WordNet's noun hierarchy (1,860 nodes, 1,343 paths)."""
    return from_csv(IMAGENET1K, name="imagenet1k")


def from_csv(path: Path | str, name: str | None = None) -> Taxonomy:
    """Read a taxonomy; `name` is the file's stem unless given.

    Raises TaxonomyError, naming file and line, for a missing column, an index that is not a whole number or is given
    twice, and everything that `Taxonomy` refuses: cycles, no root, several roots, leaves that hang nowhere.
    """
    path = Path(path)
    nodes: dict[str, _Node] = {}
    edges: dict[tuple[str, str], None] = {}
    owner: dict[int, str] = {}
    for line, row in _rows(path):
        child, parent = row["child"], row["parent"]
        if not child:
            raise TaxonomyError(f'{path.name}, line {line}: the column "child" is empty')
        node = nodes.setdefault(child, _Node())
        if parent:
            edges[(child, parent)] = None
        if row["class"]:
            _set_index(node, row["class"], f'{path.name}, line {line}: "{child}"')
            if owner.setdefault(int(row["class"]), child) != child:
                raise TaxonomyError(
                    f'{path.name}, line {line}: class index {row["class"]} is given to "{child}" and to '
                    f'"{owner[int(row["class"])]}"'
                )
        for column in ("name", "synonyms", "gloss"):
            if row[column]:
                node.texts.setdefault(column, row[column])
    if nodes and not edges:
        raise TaxonomyError(f'{path.name}: no row has a parent; for classes without hierarchy the taxonomy is "none"')
    try:
        return Taxonomy(name or path.stem, _classes(nodes), tuple(edges), _inner_names(nodes))
    except TaxonomyError as error:
        raise TaxonomyError(f"{path.name}: {error}") from error


def to_csv(path: Path, taxonomy: Taxonomy) -> None:
    """Write a taxonomy in the format that `from_csv` reads, rows sorted by child and parent.

    Raises TaxonomyError for a flat one, which has no rows.
    """
    if taxonomy.is_flat:
        raise TaxonomyError(f'taxonomy "{taxonomy.name}" has no hierarchy to write: choose "none" where it is needed')
    known = {item.id: item for item in taxonomy.classes}
    names = taxonomy.node_names or {}
    described: set[str] = set()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for child, parent in sorted((*taxonomy.edges, (taxonomy.root, ""))):
            item = known.get(child)
            if child in described:
                words: tuple[str | int, ...] = ("", "", "", "")
            elif item is None:
                words = ("", names.get(child, ""), "", "")
            else:
                words = (item.index, item.name, ";".join(item.synonyms), item.gloss)
            described.add(child)
            writer.writerow((child, parent, *words))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            header = [(column or "").strip() for column in reader.fieldnames or ()]
            missing = {"child", "parent", "class"} - set(header)
            if missing:
                raise TaxonomyError(
                    f'{path.name}: column "{sorted(missing)[0]}" is missing; a taxonomy has {", ".join(COLUMNS[:3])} '
                    f"and may have {', '.join(COLUMNS[3:])}"
                )
            reader.fieldnames = header
            for row in reader:
                if None in row:
                    raise TaxonomyError(f"{path.name}, line {reader.line_num}: more cells than columns")
                yield reader.line_num, {column: row.get(column, "").strip() for column in COLUMNS}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TaxonomyError(f"{path.name} cannot be read as a CSV table in UTF-8: {error}") from error


def _set_index(node: _Node, text: str, where: str) -> None:
    if not text.isdecimal():
        raise TaxonomyError(f'{where} has class index "{text}", which is not a whole number from 0 upwards')
    if node.index is not None and node.index != int(text):
        raise TaxonomyError(f"{where} has two class indices, {node.index} and {text}")
    node.index = int(text)


def _classes(nodes: dict[str, _Node]) -> tuple[TaxonomyClass, ...]:
    found = [
        TaxonomyClass(
            index=node.index,
            id=key,
            name=node.texts.get("name", key),
            synonyms=_split(node.texts.get("synonyms", "")),
            gloss=node.texts.get("gloss", ""),
        )
        for key, node in nodes.items()
        if node.index is not None
    ]
    return tuple(sorted(found, key=lambda item: item.index))


def _inner_names(nodes: dict[str, _Node]) -> dict[str, str]:
    return {key: node.texts["name"] for key, node in nodes.items() if node.index is None and "name" in node.texts}


def _split(text: str) -> tuple[str, ...]:
    parts: Iterable[str] = (part.strip() for part in text.split(";"))
    return tuple(part for part in parts if part)
