"""Derive a taxonomy from a WordNet database: the classes named by their ids, and all their ancestors.

Reads `data.noun` (the format is described in WordNet's manual page wndb(5)). An id is "n" and the eight-digit offset of
the noun synset in WordNet 3.0, the version whose ids ImageNet uses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from corpora.taxonomy.model import Taxonomy, TaxonomyClass, TaxonomyError

_HYPERNYM = "@"


@dataclass(frozen=True)
class Synset:
    words: tuple[str, ...]
    hypernyms: tuple[str, ...]
    gloss: str


def read_nouns(directory: Path) -> dict[str, Synset]:
    """Id -> synset, for every noun of the WordNet database in `directory`.

    Raises TaxonomyError when the file is missing or is not a WordNet database.
    """
    path = directory / "data.noun"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TaxonomyError(
            f"{path} cannot be read: install WordNet 3.0 (Debian: wordnet-base) or name its folder"
        ) from error
    synsets = {}
    for number, line in enumerate(lines, start=1):
        if line.startswith("  "):  # the licence stands in front of the data
            continue
        try:
            key, synset = _parse(line)
        except (IndexError, ValueError) as error:
            raise TaxonomyError(f"{path}, line {number} is not a line of a WordNet database") from error
        synsets[key] = synset
    return synsets


def taxonomy_of(name: str, ids: Sequence[str], nouns: Mapping[str, Synset]) -> Taxonomy:
    """The taxonomy of the classes `ids` (in the order of their index) with words and glosses from WordNet.

    Raises TaxonomyError for an id that this WordNet does not have.
    """
    missing = [key for key in ids if key not in nouns]
    if missing:
        raise TaxonomyError(
            f"WordNet has no noun {missing[0]} ({len(missing)} of {len(ids)} ids): version 3.0 is needed"
        )
    edges: list[tuple[str, str]] = []
    seen = set(ids)
    waiting = list(dict.fromkeys(ids))
    for node in waiting:  # grows while it is walked
        for parent in nouns[node].hypernyms:
            edges.append((node, parent))
            if parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    classes = tuple(
        TaxonomyClass(index, key, nouns[key].words[0], nouns[key].words[1:], nouns[key].gloss)
        for index, key in enumerate(ids)
    )
    inner = {node: nouns[node].words[0] for node in waiting if node not in set(ids)}
    return Taxonomy(name, classes, tuple(sorted(edges)), inner)


def _parse(line: str) -> tuple[str, Synset]:
    head, _, gloss = line.partition(" | ")
    fields = head.split()
    n_words = int(fields[3], 16)
    words = tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * n_words : 2])
    n_pointers = int(fields[4 + 2 * n_words])
    first = 5 + 2 * n_words
    pointers = [fields[first + 4 * i : first + 4 * i + 4] for i in range(n_pointers)]
    hypernyms = tuple(f"n{target}" for symbol, target, _, _ in pointers if symbol == _HYPERNYM)
    return f"n{int(fields[0]):08d}", Synset(words, hypernyms, gloss.strip())
