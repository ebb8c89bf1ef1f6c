"""Which rows are of one content, and on which side of a split each content is.

Rows that share a file, a source content, a pristine reference or a near-duplicate, directly or through others, in
whatever corpus, are one group, and a group is in one split. A group's split follows from its name and the seed, so that
it does not depend on what else there is; an edition that is based on another keeps the splits of that one.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from corpora.grouped import DUPLICATES
from corpora.imaging.phash import hamming, near_duplicate_groups
from corpora.models import Corpus
from corpora.reading import groups_of, manifest_of
from training.engine.labels import SCHEMA, SPLITS

BY_GROUP, ALL_TRAIN = "by_group", "train"
NEAR = 4  # bits in which the perceptual hashes of near-duplicates differ at most
FEW = 4_000  # different hashes that are compared pair by pair
_BLOCK = 512

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Contents:
    """What the manifests say of rows, (n,) each: path, sha256, perceptual hash, names of content group and reference
    ("" where there is none), and number of the corpus's near-duplicate group (-1)."""

    corpus: Integers
    path: npt.NDArray[Any]
    sha256: npt.NDArray[Any]
    phash: npt.NDArray[np.uint64]
    group: npt.NDArray[Any]
    reference: npt.NDArray[Any]
    duplicates: Integers

    def first(self, n: int) -> "Contents":
        return Contents(*(getattr(self, each.name)[:n] for each in fields(self)))


def contents_of(corpus: Integers, row: Integers) -> Contents:
    """What the manifests say of rows of several corpora."""
    n = len(row)
    texts = {name: np.full(n, "", dtype=object) for name in ("path", "sha256", "group", "reference")}
    phash, duplicates = np.zeros(n, np.uint64), np.full(n, -1, np.int64)
    for each in Corpus.objects.filter(pk__in=np.unique(corpus).tolist()):
        own = np.flatnonzero(corpus == each.pk)
        table = manifest_of(each).read(row[own], [*texts, "phash"])
        for name, column in texts.items():
            column[own] = table[name].fill_null("").to_pylist()
        phash[own] = table["phash"].to_numpy()
        grouped = groups_of(each, DUPLICATES)
        if grouped is not None:
            of_row = np.full(each.n_rows, -1, np.int64)
            for number in range(len(grouped)):
                of_row[grouped.rows(number)] = number
            duplicates[own] = of_row[row[own]]
    return Contents(corpus, texts["path"], texts["sha256"], phash, texts["group"], texts["reference"], duplicates)


def components(contents: Contents) -> Integers:
    """(n,) number of each row's group: rows are together that share anything, directly or through others."""
    n = len(contents.corpus)
    if not n:
        return np.empty(0, np.int64)
    place = np.array([f"{corpus}/" for corpus in contents.corpus.tolist()], dtype=object)
    source = np.where(contents.reference == "", contents.path, contents.reference)
    shared = [
        contents.sha256,
        place + source,
        np.where(contents.group == "", "", place + contents.group),
        np.where(contents.duplicates < 0, "", place + contents.duplicates.astype(str).astype(object)),
        near_duplicates(contents.phash),
    ]
    rows, keys, start = [], [], n
    for column in shared:
        there = np.flatnonzero(column != "")
        names, of = np.unique(column[there].astype(str), return_inverse=True)
        rows.append(there)
        keys.append(of + start)
        start += len(names)
    edges = np.concatenate(rows), np.concatenate(keys)
    graph = coo_array((np.ones(len(edges[0]), np.bool_), edges), shape=(start, start))
    found: Integers = connected_components(graph, directed=False)[1][:n].astype(np.int64)
    return found


def near_duplicates(phash: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """(n,) name of the near-duplicates that a row belongs to over all corpora, those of the import's distance; "" for
    none. Few hashes are compared pair by pair, which spares a web request the compiler of the search for many."""
    unique, of = np.unique(phash, return_inverse=True)
    named = np.full(len(phash), "", dtype=object)
    if len(unique) > FEW:
        for number, rows in enumerate(near_duplicate_groups(phash)):
            named[rows] = str(number)
        return named
    blocks = [
        np.argwhere(hamming(unique[start : start + _BLOCK, None], unique[None]) <= NEAR) + np.array([start, 0])
        for start in range(0, len(unique), _BLOCK)
    ]
    first, second = np.concatenate(blocks).T if blocks else np.empty((2, 0), np.int64)
    graph = coo_array((np.ones(len(first), np.bool_), (first, second)), shape=(len(unique), len(unique)))
    group = connected_components(graph, directed=False)[1][of] if len(unique) else of
    several = np.bincount(group)[group] > 1
    named[several] = group[several].astype(str)
    return named


def group_names(contents: Contents, component: Integers) -> npt.NDArray[Any]:
    """(n,) name of each row's group: its first content name where it has one, else its first SHA-256."""
    named = np.array(
        [
            f"corpus:{corpus}/{group}" if group else f"~{sha256}"  # "~" comes after every letter
            for corpus, group, sha256 in zip(contents.corpus.tolist(), contents.group, contents.sha256, strict=True)
        ],
        dtype=object,
    )
    first: dict[int, str] = {}
    for number, name in zip(component.tolist(), named, strict=True):
        first[number] = min(name, first.get(number, name))
    return np.array([first[number].removeprefix("~") for number in component.tolist()], dtype=object)


def split_of(group: str, *, seed: int, fractions: Sequence[float]) -> str:
    """The split that a group has wherever it turns up under this seed."""
    place = int.from_bytes(hashlib.sha256(f"{seed}:{group}".encode()).digest()[:8]) / 2**64
    reached = np.searchsorted(np.cumsum(fractions), place, side="right")
    return SPLITS[min(int(reached), len(SPLITS) - 1)]


def assign(
    corpus: Integers,
    row: Integers,
    *,
    train_only: npt.NDArray[np.bool_],
    seed: int,
    fractions: Sequence[float],
    older: pa.Table | None = None,
) -> tuple[Contents, npt.NDArray[Any], npt.NDArray[Any]]:
    """What the rows are, and (group, split) of each, (n,) texts.

    train_only: (n,) rows that go to train, unless their group has a split or holds a row that is split by group. older:
    table of the edition whose splits are kept; a new row that would join two of its splits gets the split "".
    """
    n, known = len(row), older if older is not None else SCHEMA.empty_table()
    contents = contents_of(np.append(corpus, known["corpus"].to_numpy()), np.append(row, known["row"].to_numpy()))
    component = components(contents)
    kept = _kept(known, component[n:])
    names = group_names(contents, component)
    by_group = set(component[:n][~train_only].tolist())
    groups, splits = names[:n].copy(), np.full(n, ALL_TRAIN, dtype=object)
    for at, number in enumerate(component[:n].tolist()):
        if number in kept.splits:
            there = kept.splits[number]
            joined = kept.names[number], next(iter(there)) if len(there) == 1 else ""
            groups[at], splits[at] = kept.rows.get((int(corpus[at]), int(row[at])), joined)
        elif number in by_group:
            splits[at] = split_of(groups[at], seed=seed, fractions=fractions)
    return contents.first(n), groups, splits


@dataclass(frozen=True)
class _Kept:
    """Of an older edition: names and splits by component, and (group, split) by corpus and row."""

    names: dict[int, str]
    splits: dict[int, set[str]]
    rows: dict[tuple[int, int], tuple[str, str]]


def _kept(known: pa.Table, component: Integers) -> _Kept:
    kept = _Kept({}, {}, {})
    columns = (known[name].to_pylist() for name in ("corpus", "row", "group", "split"))
    for number, corpus, row, name, split in zip(component.tolist(), *columns, strict=True):
        kept.names[number] = min(name, kept.names.get(number, name))
        kept.splits.setdefault(number, set()).add(split)
        kept.rows[corpus, row] = (name, split)
    return kept
