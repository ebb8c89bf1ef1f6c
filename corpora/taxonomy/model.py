"""The taxonomy as a value: classes, edges, the checks that make it one, and finding a class by what people call it."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

MAX_PATHS = 1_000  # paths from the root to one class; WordNet's worst ImageNet class has 5, more than this is a mistake
MAX_DEPTH = 50  # weights 2^(1 - depth) and their sums stay exact in float64 down to here


class TaxonomyError(ValueError):
    """A table that is no taxonomy, or a class that is not in it; the message says what to change."""


@dataclass(frozen=True)
class TaxonomyClass:
    """One class of the label space.

    index: what classifiers predict, 0..C-1; id: the node's name in the edges (a WordNet id such as n02123045);
    name: shown to people; synonyms: further names, without `name`; gloss: one sentence on what it is.
    """

    index: int
    id: str
    name: str
    synonyms: tuple[str, ...] = ()
    gloss: str = ""


@dataclass(frozen=True)
class Taxonomy:
    """A label space with its hierarchy.

    classes: in the order of their index; edges: (child id, parent id), empty for a flat taxonomy; node_names: what the
    inner nodes are called, where known. Raises TaxonomyError for doubled or missing indices, a class outside the
    hierarchy, cycles, several roots, hierarchies deeper than MAX_DEPTH or with more than MAX_PATHS paths to a class.
    """

    name: str
    classes: tuple[TaxonomyClass, ...]
    edges: tuple[tuple[str, str], ...] = ()
    node_names: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        _check_classes(self)
        if self.edges:
            _check_hierarchy(self)

    @property
    def n_classes(self) -> int:
        return len(self.classes)

    @property
    def is_flat(self) -> bool:
        return not self.edges

    @cached_property
    def parents(self) -> dict[str, tuple[str, ...]]:
        """Node -> its parents; the root has none."""
        return _parents(self.edges)

    @cached_property
    def root(self) -> str:
        """The one node without a parent; empty for a flat taxonomy."""
        return next((node for node, parents in self.parents.items() if not parents), "")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what distances depend on: the class ids by index, and the edges."""
        facts = [[item.id for item in self.classes], sorted(self.edges)]
        return hashlib.sha256(json.dumps(facts, ensure_ascii=False).encode()).hexdigest()

    def paths(self, index: int) -> list[tuple[str, ...]]:
        """Every path from the root to class `index`, root first; the class alone in a flat taxonomy."""
        return _paths(self.classes[index].id, self.parents)

    def find(self, text: str) -> int:
        """The index of the class that `text` means: an index, an id, a name, "name, synonym, ..." or a synonym.

        Upper and lower case are the same. Raises TaxonomyError when no class or several classes are meant.
        """
        wanted = text.strip()
        if wanted.isdecimal():
            if int(wanted) < self.n_classes:
                return int(wanted)
            raise TaxonomyError(
                f'class {wanted} is not in taxonomy "{self.name}": its classes are 0 to {self.n_classes - 1}'
            )
        for names in self._lookup:
            found = names.get(wanted.casefold(), [])
            if len(found) == 1:
                return found[0]
            if found:
                which = " or ".join(f"{index} ({self._label(index)})" for index in found)
                raise TaxonomyError(
                    f'class "{wanted}" is ambiguous in taxonomy "{self.name}": give the index or id of {which}'
                )
        raise TaxonomyError(
            f'class "{wanted}" is not in taxonomy "{self.name}": give an index from 0 to {self.n_classes - 1}, an id '
            "or a name"
        )

    @cached_property
    def _lookup(self) -> tuple[dict[str, list[int]], ...]:
        """Text -> indices, one table per kind of text, the most specific kind first."""
        kinds: tuple[dict[str, list[int]], ...] = ({}, {}, {}, {})
        for item in self.classes:
            texts = ([item.id], [", ".join((item.name, *item.synonyms))], [item.name], item.synonyms)
            for names, some in zip(kinds, texts, strict=True):
                for text in {text.casefold() for text in some}:
                    names.setdefault(text, []).append(item.index)
        return kinds[0], _only_unique(kinds[1]), kinds[2], kinds[3]

    def _label(self, index: int) -> str:
        item = self.classes[index]
        return f"{item.id}, {', '.join((item.name, *item.synonyms))}"


def flat(classes: int | Iterable[str], name: str = "none") -> Taxonomy:
    """A taxonomy in which every two classes are at distance 1, for `classes` = how many, or their names by index."""
    names = [str(index) for index in range(classes)] if isinstance(classes, int) else list(classes)
    return Taxonomy(name, tuple(TaxonomyClass(index, text, text) for index, text in enumerate(names)))


def _only_unique(names: dict[str, list[int]]) -> dict[str, list[int]]:
    return {text: found for text, found in names.items() if len(found) == 1}


def _check_classes(taxonomy: Taxonomy) -> None:
    if not taxonomy.classes:
        raise TaxonomyError(f'taxonomy "{taxonomy.name}" has no classes: give at least one leaf a class index')
    _check_indices(taxonomy.name, [item.index for item in taxonomy.classes])
    if [item.index for item in taxonomy.classes] != list(range(taxonomy.n_classes)):
        raise TaxonomyError(f'taxonomy "{taxonomy.name}": classes must stand in the order of their index')
    doubled = [node for node, count in Counter(item.id for item in taxonomy.classes).items() if count > 1]
    if doubled:
        indices = [item.index for item in taxonomy.classes if item.id == doubled[0]]
        raise TaxonomyError(f'taxonomy "{taxonomy.name}": "{doubled[0]}" has several class indices: {indices}')


def _check_indices(name: str, indices: Sequence[int]) -> None:
    doubled = sorted(index for index, count in Counter(indices).items() if count > 1)
    if doubled:
        raise TaxonomyError(f'taxonomy "{name}": class index {doubled[0]} is given to more than one leaf')
    missing = sorted(set(range(len(indices))) - set(indices))
    if missing:
        raise TaxonomyError(
            f'taxonomy "{name}": class index {missing[0]} is missing; {len(indices)} classes must be numbered 0 to '
            f"{len(indices) - 1}"
        )


def _check_hierarchy(taxonomy: Taxonomy) -> None:
    parents = _parents(taxonomy.edges)
    lost = [item for item in taxonomy.classes if item.id not in parents]
    if lost:
        raise TaxonomyError(
            f'taxonomy "{taxonomy.name}": class {lost[0].index} is leaf "{lost[0].id}", which is in no (child, parent) '
            "row"
        )
    order = _topological_order(taxonomy.name, parents)
    roots = [node for node in order if not parents[node]]
    if len(roots) > 1:
        some = ", ".join(f'"{node}"' for node in sorted(roots)[:5])
        raise TaxonomyError(
            f'taxonomy "{taxonomy.name}" has {len(roots)} roots ({some}): give all but one of them a parent'
        )
    _check_size(taxonomy, order, parents)


def _check_size(taxonomy: Taxonomy, order: Sequence[str], parents: Mapping[str, tuple[str, ...]]) -> None:
    depth: dict[str, int] = {}
    n_paths: dict[str, int] = {}
    for node in order:
        depth[node] = max((depth[parent] + 1 for parent in parents[node]), default=0)
        n_paths[node] = sum(n_paths[parent] for parent in parents[node]) or 1
    for item in taxonomy.classes:
        if depth[item.id] > MAX_DEPTH:
            raise TaxonomyError(
                f'taxonomy "{taxonomy.name}": class {item.index} is {depth[item.id]} levels deep; at most {MAX_DEPTH} '
                "work"
            )
        if n_paths[item.id] > MAX_PATHS:
            raise TaxonomyError(
                f'taxonomy "{taxonomy.name}": {n_paths[item.id]} paths lead to class {item.index}; at most {MAX_PATHS} '
                "work: remove parents that say nothing about the class"
            )


def _topological_order(name: str, parents: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Parents before children; raises TaxonomyError naming one cycle."""
    children: dict[str, list[str]] = {node: [] for node in parents}
    waiting = {node: len(above) for node, above in parents.items()}
    for node, above in parents.items():
        for parent in above:
            children[parent].append(node)
    order = [node for node, count in waiting.items() if count == 0]
    for node in order:  # grows while it is walked
        for child in children[node]:
            waiting[child] -= 1
            if waiting[child] == 0:
                order.append(child)
    if len(order) < len(parents):
        cycle = _one_cycle(parents, {node for node, count in waiting.items() if count > 0})
        rootless = "" if order else ", and it has no root: one node must have no parent"
        raise TaxonomyError(f'taxonomy "{name}" has a cycle, {" -> ".join(cycle)}{rootless}')
    return order


def _one_cycle(parents: Mapping[str, tuple[str, ...]], stuck: set[str]) -> list[str]:
    """Child -> parent -> ... -> child. Every stuck node has a stuck parent, so climbing must come round."""
    walk = [min(stuck)]
    while walk[-1] not in walk[:-1]:
        walk.append(next(parent for parent in parents[walk[-1]] if parent in stuck))
    return walk[walk.index(walk[-1]) :]


def _parents(edges: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for child, parent in edges:
        found[child] = (*found.get(child, ()), parent)
        found.setdefault(parent, ())
    return found


def _paths(node: str, parents: Mapping[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
    above = parents.get(node, ())
    return [(*path, node) for parent in above for path in _paths(parent, parents)] or [(node,)]
