"""Pristine photographs, each distorted in four ways and five strengths (`corpora.imaging.distort`).

A photograph becomes 21 rows under a folder of its name: `pristine.png` and `<distortion>_<level>.<ending>`, in this
order. group = the photograph, reference = the pristine row. Files that an earlier start finished are kept; they would
come out the same.
"""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from corpora.files import written_whole
from corpora.imaging.decode import UndecodableImage, decode_rgb
from corpora.imaging.distort import DISTORTIONS, LEVELS, PRISTINE, distort, fitted
from corpora.importers.base import SMALLEST_SIDE, Candidate, ImportRefused, ImportRequest, Listing, Pristine
from corpora.importers.folder import list_folder

_VERSIONS = [(PRISTINE, 0, "png")] + [
    (kind.name, level, kind.ending) for kind in DISTORTIONS.values() for level in range(1, LEVELS + 1)
]

Pixels = npt.NDArray[np.uint8]


def list_distorted(request: ImportRequest) -> Listing:
    """Every distorted image, made while the candidates are walked. Raises ImportRefused without any photograph."""
    listing = Listing(request.unpacked, iter(()), facts={"distortions": parameters(request)})
    listing.candidates = _candidates(request, listing.skipped, listing.facts)
    return listing


def parameters(request: ImportRequest) -> dict[str, Any]:
    """What the corpus page says of how its images were made; JSON."""
    kinds = [
        {"name": kind.name, "title": kind.title, "parameter": kind.parameter, "values": list(kind.values)}
        for kind in DISTORTIONS.values()
    ]
    return {"seed": int(request.options.seed), "size": request.options.crop(), "kinds": kinds}


def _candidates(request: ImportRequest, skipped: Counter[str], facts: dict[str, Any]) -> Iterator[Candidate]:
    refused: list[Candidate] = []
    photographs = request.pristine() if request.pristine else _of_folder(request, skipped, refused)
    if not photographs:
        raise ImportRefused(f'there is no photograph to distort in "{request.location}"')
    credits = {photograph.name: photograph.credit for photograph in photographs if photograph.credit}
    if credits:
        facts["distortions"]["credits"] = credits
    total = len(photographs) * len(_VERSIONS)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for number, photograph in enumerate(photographs):
            done = number * len(_VERSIONS)
            request.tick(done, "images distorted", total)
            try:
                pixels = _pixels(photograph, request)
            except UndecodableImage as error:
                refused.append(Candidate(photograph.name, error.reason))
                continue
            make = partial(_make, photograph.name, pixels, request.unpacked, int(request.options.seed))
            for place, candidate in enumerate(pool.map(make, _VERSIONS), start=1):
                yield candidate
                request.tick(done + place, "images distorted", total)
    yield from refused


def _of_folder(request: ImportRequest, skipped: Counter[str], refused: list[Candidate]) -> list[Pristine]:
    listing = list_folder(request)
    found = list(listing.candidates)
    skipped.update(listing.skipped)
    refused.extend(candidate for candidate in found if candidate.problem)
    paths = [candidate.path for candidate in found if not candidate.problem]
    root = request.location
    return [Pristine(name, partial(decode_rgb, root / path)) for name, path in zip(names_of(paths), paths, strict=True)]


def names_of(paths: list[str]) -> list[str]:
    """The paths without their endings where these tell no two apart: names of photographs and of their folders."""
    stems = [PurePosixPath(path).with_suffix("").as_posix() for path in paths]
    often = Counter(stem.lower() for stem in stems)
    return [stem if often[stem.lower()] == 1 else path for stem, path in zip(stems, paths, strict=True)]


def _pixels(photograph: Pristine, request: ImportRequest) -> Pixels | None:
    """The photograph as it is distorted; None when all its files are there already."""
    if all(_target(photograph.name, version, request.unpacked).is_file() for version in _VERSIONS):
        return None
    try:
        pixels = fitted(photograph.load(), request.options.crop())
    except OSError as error:
        raise UndecodableImage(f"the photograph cannot be read: {error.strerror or error}") from error
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise UndecodableImage(
            f"{width} x {height} pixels are too few to be distorted: at least {SMALLEST_SIDE} on each side are needed"
        )
    return pixels


def _make(name: str, pixels: Pixels | None, folder: Path, seed: int, version: tuple[str, int, str]) -> Candidate:
    kind, level, _ = version
    target = _target(name, version, folder)
    if pixels is not None and not target.is_file():
        data, _ = distort(pixels, kind, level, seed=seed, key=name)
        with written_whole(target) as file:
            file.write(data)
    reference = _target(name, _VERSIONS[0], folder).relative_to(folder).as_posix()
    return Candidate(
        target.relative_to(folder).as_posix(), reference=reference, group=name, distortion=kind, level=level
    )


def _target(name: str, version: tuple[str, int, str], folder: Path) -> Path:
    kind, level, ending = version
    return folder / name / (f"{kind}.{ending}" if kind == PRISTINE else f"{kind}_{level}.{ending}")
