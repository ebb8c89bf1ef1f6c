"""Images under a folder, read where they lie; order: by the bytes of their relative paths."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from corpora.imaging.inspect import is_image_name, looks_like_image, read_head
from corpora.importers.base import Candidate, ImportRefused, ImportRequest, Listing, folder_label

NOT_UTF8 = "the file name is not UTF-8: rename it"
_HIDDEN = {"__MACOSX", "Thumbs.db", "desktop.ini"}
_TICK_EVERY = 1_000


def list_folder(request: ImportRequest) -> Listing:
    """Every image below `location`. Raises ImportRefused when that is no readable folder."""
    root = request.location
    if not root.is_dir():
        raise ImportRefused(f'"{root}" is not a folder on the server: check the path')
    listing = Listing(root, iter(()))
    listing.candidates = walk(request, root, listing.skipped)
    return listing


def walk(request: ImportRequest, root: Path, skipped: Counter[str]) -> Iterator[Candidate]:
    """Candidates below `root`, sorted by path bytes; memory grows with the largest folder only."""
    with_labels = request.options.labels_from == "folder"
    walker = _Walker(root, skipped, request.within)
    for count, (path, problem) in enumerate(walker.folder(root, ""), start=1):
        if count % _TICK_EVERY == 0:
            request.tick(count, "files found")
        yield Candidate(path, problem, folder_label(path) if with_labels else None)


@dataclass
class _Walker:
    """Visits each real folder once, whatever links lead to it, so that no loop and no lattice of links can trap it."""

    root: Path
    skipped: Counter[str]
    within: tuple[Path, ...] | None
    visited: dict[tuple[int, int], str] = field(default_factory=dict)

    def folder(self, folder: Path, prefix: str) -> Iterator[tuple[str, str | None]]:
        try:
            facts = folder.stat()
            entries = sorted(os.scandir(folder), key=_order)
        except OSError as error:
            yield _printable(prefix.rstrip("/")), f"the folder cannot be read: {error.strerror or error}"
            return
        self.visited[(facts.st_dev, facts.st_ino)] = prefix.rstrip("/") or "."
        for entry in entries:
            yield from self.entry(entry, prefix + entry.name)

    def entry(self, entry: "os.DirEntry[str]", path: str) -> Iterator[tuple[str, str | None]]:
        if entry.name.startswith(".") or entry.name in _HIDDEN:
            self.skipped["hidden"] += 1
            return
        if not _is_utf8(entry.name):
            yield _printable(path), NOT_UTF8
            return
        try:
            facts = entry.stat()
        except OSError as error:
            yield path, "broken symbolic link" if entry.is_symlink() else f"cannot be read: {error.strerror or error}"
            return
        if entry.is_symlink() and (problem := self.link_problem(Path(entry.path))):
            yield path, problem
        elif stat.S_ISDIR(facts.st_mode):
            seen = self.visited.get((facts.st_dev, facts.st_ino))
            if seen is None:
                yield from self.folder(Path(entry.path), path + "/")
            else:
                yield path, f'the same folder as "{seen}", which is read already (a symbolic link leads there)'
        elif not stat.S_ISREG(facts.st_mode):
            self.skipped["not a regular file"] += 1
        elif is_image_name(entry.name) or looks_like_image(read_head(Path(entry.path))):
            yield path, None
        else:
            self.skipped[os.path.splitext(entry.name)[1].lower()[:16] or "no ending"] += 1

    def link_problem(self, link: Path) -> str | None:
        if self.within is None:
            return None
        target = link.resolve()
        if any(target.is_relative_to(allowed) for allowed in (self.root.resolve(), *self.within)):
            return None
        return "symbolic link that leaves the folders which may be imported"


def _order(entry: "os.DirEntry[str]") -> bytes:
    """Sorts folders as if their names ended in "/": then whole relative paths come out in the order of their bytes."""
    return os.fsencode(entry.name) + (b"/" if _is_dir(entry) else b"")


def _is_dir(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_utf8(name: str) -> bool:
    return not any("\udc80" <= letter <= "\udcff" for letter in name)


def _printable(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")
