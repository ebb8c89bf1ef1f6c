"""WebDataset: tar shards whose members group into samples by their key, the name up to the first dot of its last part.

Order: shards by name, then samples as they stand. A sample's label is its `.cls` (an index or a name), else its `.txt`,
else the "label", "cls" or "class" of its `.json`. Every image of a sample becomes a row; path = `shard/key.ending`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corpora.imaging.inspect import is_image_name
from corpora.importers.archive import Budget, Entry, Unpacker, entries_of
from corpora.importers.base import Candidate, ImportRefused, ImportRequest, Listing

_SIDECAR_BYTES = 1 << 20
_LABEL_BYTES = 200
_SIDECARS = ("cls", "txt", "json")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")


def list_webdataset(request: ImportRequest) -> Listing:
    """Every image of one shard, of a folder of shards, or of `name-{000000..000099}.tar`."""
    shards = shards_of(request.location)
    listing = Listing(request.unpacked, iter(()))
    listing.candidates = _candidates(request, shards, listing)
    return listing


def shards_of(location: Path) -> list[Path]:
    """The shards that a location means. Raises ImportRefused when there are none or one is missing."""
    if location.is_dir():
        shards = sorted(path for path in location.iterdir() if path.name.lower().endswith(_TAR_ENDINGS))
    else:
        shards = [Path(name) for name in _expand(str(location))]
    missing = [shard for shard in shards if not shard.is_file()]
    if missing:
        raise ImportRefused(f'shard "{missing[0]}" is not a file on the server ({len(missing)} are missing)')
    if not shards:
        raise ImportRefused(f'"{location}" holds no .tar shard: check the path')
    return shards


def _expand(pattern: str) -> list[str]:
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    first, last = found.groups()
    numbers = range(int(first), int(last) + 1)
    if len(numbers) > 100_000:
        raise ImportRefused(f'"{pattern}" means {len(numbers):,} shards: at most 100,000 work')
    return [pattern[: found.start()] + str(number).zfill(len(first)) + pattern[found.end() :] for number in numbers]


def _candidates(request: ImportRequest, shards: list[Path], listing: Listing) -> Iterator[Candidate]:
    prefixes: set[str] = set()
    for shard in shards:
        prefix = shard.name.split(".")[0]
        while prefix in prefixes:
            prefix += "_"
        prefixes.add(prefix)
        yield from _shard(request, shard, prefix, listing)


def _shard(request: ImportRequest, shard: Path, prefix: str, listing: Listing) -> Iterator[Candidate]:
    unpacker = Unpacker(request.unpacked, Budget(request.limits, shard), listing.skipped)
    images: list[tuple[str, str]] = []
    labels: dict[str, dict[str, str]] = {}
    with entries_of(shard) as entries:
        for entry in entries:
            key, ending = _split(entry.name)
            if ending in _SIDECARS and entry.problem is None:
                _read_sidecar(entry, ending, labels.setdefault(key, {}))
            elif is_image_name("x." + ending.rpartition(".")[2]):
                path = unpacker.take(entry, prefix + "/")
                if path is not None:
                    images.append((key, path))
            else:
                unpacker.take(entry, prefix + "/")
            request.tick(len(images), f"files unpacked from {shard.name}")
    for key, path in images:
        sides = labels.get(key, {})
        yield Candidate(path, label=next((sides[side] for side in _SIDECARS if side in sides), None))
    yield from unpacker.refused


def _split(name: str) -> tuple[str, str]:
    """`a/b.left.jpg` -> (`a/b`, `left.jpg`)."""
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    return folder + slash + stem, ending.lower()


def _read_sidecar(entry: Entry, ending: str, labels: dict[str, str]) -> None:
    """Keep the label that a sidecar gives; one that gives none is no error."""
    if entry.size > _SIDECAR_BYTES:
        return
    with entry.open() as file:
        text = file.read(_SIDECAR_BYTES).decode("utf-8", "replace").strip()
    value = _label_in_json(text) if ending == "json" else text
    if value is not None and 0 < len(value) <= _LABEL_BYTES and "\n" not in value:
        labels[ending] = value


def _label_in_json(text: str) -> str | None:
    try:
        facts: Any = json.loads(text)
    except ValueError:
        return None
    if not isinstance(facts, dict):
        return None
    value = next((facts[name] for name in ("label", "cls", "class") if name in facts), None)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
