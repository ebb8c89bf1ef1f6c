"""Image-quality data sets in the layouts in which their authors ship them: a folder, or one zip or tar archive of it.

Each layout names its files, columns, scale and sign; `read` gives what the annotation says of each image. File names
are compared without regard to case (TID2013 mixes them) and, where that fails, without their ending (images are often
converted). Images without a rating become rows without MOS; ratings without an image go to the quarantine list. MOS is
always kept as higher = better. Where images have pristine references, those are rows too: they refer to themselves,
have level 0, and the group of all their distorted versions.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from corpora.importers.archive import Budget, Unpacker, entries_of
from corpora.importers.base import Candidate, ImportRefused, ImportRequest, Listing, Scale
from corpora.importers.folder import walk
from corpora.importers.opinions import opinion_columns, read_opinion
from corpora.importers.sheets import read_lines, read_sheet

PRISTINE = "pristine"
_DEPTH = 4  # folders below the location in which annotations are looked for
_TRAINING = re.compile(r"t\d+\.\w+", re.IGNORECASE)

TID_DISTORTIONS = (
    "additive Gaussian noise", "noise in colour components", "spatially correlated noise", "masked noise",
    "high-frequency noise", "impulse noise", "quantisation noise", "Gaussian blur", "image denoising",
    "JPEG compression", "JPEG 2000 compression", "JPEG transmission errors", "JPEG 2000 transmission errors",
    "non-eccentricity pattern noise", "local block-wise distortions", "mean shift", "contrast change",
    "change of colour saturation", "multiplicative Gaussian noise", "comfort noise",
    "lossy compression of noisy images", "colour quantisation with dither", "chromatic aberrations",
    "sparse sampling and reconstruction",
)  # fmt: skip
KADID_DISTORTIONS = (
    "Gaussian blur", "lens blur", "motion blur", "colour diffusion", "colour shift", "colour quantisation",
    "colour saturation, HSV", "colour saturation, Lab", "JPEG 2000", "JPEG", "white noise", "white noise in colour",
    "impulse noise", "multiplicative noise", "denoise", "brighten", "darken", "mean shift", "jitter",
    "non-eccentricity patch", "pixelate", "quantisation", "colour block", "high sharpen", "contrast change",
)  # fmt: skip
CSIQ_TOKENS = {
    "noise": "awgn", "awgn": "awgn", "blur": "blur", "contrast": "contrast", "fnoise": "fnoise", "jpeg": "jpeg",
    "jpeg 2000": "jpeg2000", "jpeg2000": "jpeg2000",
}  # fmt: skip


@dataclass(frozen=True)
class Rating:
    """What an annotation says of one image. Cells as they stand there; reference: name of the pristine image."""

    name: str
    mos: Any
    std: Any = None
    n: Any = None
    reference: str | None = None
    distortion: str | None = None
    level: int | None = None


@dataclass(frozen=True)
class Layout:
    """One data set's layout.

    tables: role -> accepted file names, the preferred one first; those of `optional` may be missing. folders: of the
    images: of each group the first one that exists is read; without any, everything below the location.
    left_out: why an image (by path) is no part of the data set.
    """

    title: str
    tables: dict[str, tuple[str, ...]]
    folders: tuple[tuple[str, ...], ...]
    scale: Scale
    read: Callable[[dict[str, Path]], Iterator[Rating]]
    optional: frozenset[str] = frozenset()
    left_out: Callable[[str], str | None] = lambda path: None

    def is_table(self, path: str) -> bool:
        return PurePosixPath(path).name.lower() in {name for names in self.tables.values() for name in names}


def list_layout(layout: Layout, request: ImportRequest) -> Listing:
    """Every image of the data set. Raises ImportRefused when its annotation is not there or not as it should be."""
    root = request.location if request.location.is_dir() else request.unpacked
    listing = Listing(root, iter(()), scale=replace(layout.scale, source=layout.title))
    listing.candidates = _candidates(layout, request, root, listing.skipped)
    return listing


def _candidates(layout: Layout, request: ImportRequest, root: Path, skipped: Counter[str]) -> Iterator[Candidate]:
    refused: list[Candidate] = []
    if not request.location.is_dir():
        unpacker = Unpacker(root, Budget(request.limits, request.location), skipped, also=layout.is_table)
        with entries_of(request.location) as entries:
            for entry in entries:
                unpacker.take(entry)
                request.tick(len(unpacker.written), "files unpacked")
        refused = unpacker.refused
    files, folders = _survey(root)
    ratings = _Ratings(layout.read(_tables(layout, files, root)))
    images = [
        replace(candidate, path=prefix + candidate.path)
        for folder, prefix in _image_folders(layout, folders, root)
        for candidate in walk(request, folder, skipped)
    ]
    pristine = {_stem(image.path): image.path for image in images if _stem(image.path) in ratings.references}
    for image in images:
        if reason := layout.left_out(image.path):
            skipped[reason] += 1
        elif _stem(image.path) in pristine:
            group = _stem(image.path)
            yield replace(image, reference=image.path, group=group, distortion=PRISTINE, level=0)
        else:
            yield ratings.rated(image, layout.scale, pristine)
    yield from ratings.unused()
    yield from sorted(refused, key=lambda candidate: candidate.path)


def _survey(root: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Files and folders a few levels below `root` by their names in lower case, the shallowest first."""
    files: dict[str, list[Path]] = defaultdict(list)
    folders: dict[str, list[Path]] = defaultdict(list)
    level = [root]
    for _ in range(_DEPTH):
        below: list[Path] = []
        for folder in level:
            for entry in _entries(folder):
                if entry.name.startswith(".") or entry.is_symlink():
                    continue
                place = folders if entry.is_dir() else files
                place[entry.name.lower()].append(Path(entry.path))
                if entry.is_dir():
                    below.append(Path(entry.path))
        level = below
    return files, folders


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []  # `walk` says why where it matters


def _tables(layout: Layout, files: dict[str, list[Path]], root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for role, names in layout.tables.items():
        name = next((name for name in names if name in files), None)
        if name is not None:
            found[role] = files[name][0]
        elif role not in layout.optional:
            raise ImportRefused(
                f'"{root}" does not hold {layout.title}: there is no file "{names[0]}" in it or in the folders below'
            )
    return found


def _image_folders(layout: Layout, folders: dict[str, list[Path]], root: Path) -> list[tuple[Path, str]]:
    """The folders of images, and what their paths begin with."""
    found = [next((folders[name][0] for name in group if name in folders), None) for group in layout.folders]
    below = [(folder, folder.relative_to(root).as_posix() + "/") for folder in found if folder is not None]
    return below or [(root, "")]


class _Ratings:
    """Gives each image its rating, once. references: stems of the pristine images' names."""

    def __init__(self, source: Iterator[Rating]) -> None:
        self.references: set[str] = set()
        self._by_name: dict[str, Rating] = {}
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._taken: dict[str, str] = {}
        self._twice: list[Rating] = []
        for rating in source:
            name = rating.name.lower()
            if name in self._by_name:
                self._twice.append(rating)
                continue
            self._by_name[name] = rating
            self._by_stem[_stem(name)].append(name)
            if rating.reference:
                self.references.add(_stem(rating.reference))

    def rated(self, image: Candidate, scale: Scale, pristine: dict[str, str]) -> Candidate:
        """The image with what the annotation says; as it is where that says nothing."""
        name = self._name_of(image.path)
        if image.problem:
            return image
        if name is None:
            group = next((part for part in _beginnings(image.path) if part in pristine), None)
            return replace(image, group=group, reference=pristine[group]) if group else image
        if name in self._taken:
            return replace(image, problem=f'a second image of this name; "{self._taken[name]}" is taken')
        self._taken[name] = image.path
        rating = self._by_name[name]
        opinion = read_opinion(rating.mos, rating.std, rating.n, scale=scale)
        if isinstance(opinion, str):
            return replace(image, problem=opinion)
        values: dict[str, Any] = {} if opinion is None else opinion_columns(opinion)
        if rating.reference:
            group = _stem(rating.reference)
            values |= {"group": group, "reference": pristine.get(group, rating.reference)}
        return replace(image, distortion=rating.distortion, level=rating.level, **values)

    def unused(self) -> Iterator[Candidate]:
        """Second ratings of an image, and ratings without one."""
        for rating in self._twice:
            yield Candidate(rating.name, "rated twice by the annotation; the first rating is taken")
        for name, rating in self._by_name.items():
            if name not in self._taken:
                yield Candidate(rating.name, "rated by the annotation, but there is no such image")

    def _name_of(self, path: str) -> str | None:
        name = PurePosixPath(path).name.lower()
        if name in self._by_name:
            return name
        alike = self._by_stem.get(_stem(name), [])
        return alike[0] if len(alike) == 1 else None


def _beginnings(path: str) -> list[str]:
    """What the source may be called, of which an image that nobody rated is named."""
    stem = _stem(path)
    return [stem.partition(".")[0], stem.partition("_")[0]]


def _stem(name: str) -> str:
    """`dst/I01_08_1.BMP` -> `i01_08_1`."""
    base = PurePosixPath(name).name.lower()
    stem, dot, ending = base.rpartition(".")
    return stem if dot and not ending.isdecimal() else base


# One reader for each layout


def _koniq(tables: dict[str, Path]) -> Iterator[Rating]:
    """`koniq10k_scores_and_distributions.csv`: image_name, c1 ... c5 (how often each category was chosen), c_total, MOS
    (1 to 5), SD, MOS_zscore (1 to 100). `koniq10k_scores.csv` has no c columns. MOS is taken, not its z-score: only MOS
    goes with SD and c_total. https://database.mmsp-kn.de/koniq-10k-database.html
    """
    for row in read_sheet(tables["scores"], ("image_name", "MOS")):
        yield Rating(_name(row["image_name"]), row["mos"], row.get("sd"), row.get("c_total"))


def _spaq(tables: dict[str, Path]) -> Iterator[Rating]:
    """`Annotations/MOS and Image attribute scores.xlsx`: Image name, MOS (0 to 100), Brightness, Colorfulness,
    Contrast, Noisiness, Sharpness; images in `TestImage/`. No spread is published. https://github.com/h4nwei/SPAQ
    """
    for row in read_sheet(tables["scores"], ("Image name", "MOS")):
        yield Rating(_name(row["image name"]), row["mos"])


def _live_wild(tables: dict[str, Path]) -> Iterator[Rating]:
    """`Data/AllImages_release.mat` (1169 x 1 cells of names), `AllMOS_release.mat` and `AllStdDev_release.mat` (1 x
    1169 numbers in the same order), MATLAB 5; images in `Images/`, MOS from 0 to 100. The first seven, t1 to t7 in
    `Images/trainingImages/`, trained the raters and are left out, as in the papers. README.txt of ChallengeDB_release,
    https://live.ece.utexas.edu/research/ChallengeDB/
    """
    names = [_cell_text(cell) for cell in _matrix(tables["names"], "AllImages_release")]
    columns = [_matrix(tables[role], variable) for role, variable in (
        ("mos", "AllMOS_release"), ("std", "AllStdDev_release"))]  # fmt: skip
    if any(len(column) != len(names) for column in columns):
        counts = ", ".join(str(len(column)) for column in columns)
        raise ImportRefused(f"the .mat files do not belong together: {len(names)} names, but {counts} numbers")
    for name, mos, std in zip(names, *columns, strict=True):
        if not _TRAINING.fullmatch(name):
            yield Rating(name, mos, std)


def _kadid(tables: dict[str, Path]) -> Iterator[Rating]:
    """`dmos.csv`: dist_img, ref_img, dmos, var; images and their 81 references in `images/`, named
    `I<source>_<distortion>_<level>.png` and `I<source>.png`.

    Despite its name, dmos is higher for better images, from 1 to 5 (the data set's page says so); and despite its name,
    var is the standard deviation of the ratings: of the published rows, 4.57 with .496 and 4.33 with .869 are the mean
    and standard deviation of 30 whole numbers, and of no 30 whole numbers the mean and variance.
    https://database.mmsp-kn.de/kadid-10k-database.html
    """
    for row in read_sheet(tables["scores"], ("dist_img", "ref_img", "dmos")):
        name = _name(row["dist_img"])
        distortion, level = _numbered(name, KADID_DISTORTIONS)
        yield Rating(name, row["dmos"], row.get("var"), None, _name(row["ref_img"]), distortion, level)


def _csiq(tables: dict[str, Path]) -> Iterator[Rating]:
    """`csiq.DMOS.xlsx`, sheet `all_by_image`: image, dst_idx, dst_type, dst_lev, dmos_std, dmos from the fourth column
    and the fourth line on; or the same six columns as text without a header, as `csiq.beta.txt` has them. Images
    `dst_imgs/<TYPE>/<image>.<TYPE>.<level>.png` and `src_imgs/<image>.png`. dmos is lower for better images, from 0 to
    1: it is turned round. Some distorted images were not rated. https://s2.smu.edu/~eclarson/csiq.html
    """
    file = tables["scores"]
    rows = _csiq_lines(file) if file.suffix.lower() == ".txt" else read_sheet(
        file, ("image", "dst_type", "dst_lev", "dmos"), "all_by_image"
    )  # fmt: skip
    for row in rows:
        image, kind, level = _name(row["image"]), _name(row["dst_type"]).lower(), _name(row["dst_lev"])
        if not image:
            continue
        if kind not in CSIQ_TOKENS or not level.isdecimal():
            raise ImportRefused(f'"{file.name}": distortion "{kind}" at level "{level}" of "{image}" is none of CSIQ')
        name = f"{image}.{CSIQ_TOKENS[kind]}.{level}.png"
        yield Rating(name, row["dmos"], row.get("dmos_std"), None, f"{image}.png", kind, int(level))


def _csiq_lines(file: Path) -> Iterator[dict[str, str]]:
    for line in read_lines(file):
        cells = line.split()
        if len(cells) < 6:
            raise ImportRefused(f'"{file.name}": "{line[:80]}" does not have the six columns of CSIQ')
        yield {
            "image": cells[0], "dst_type": " ".join(cells[2:-3]), "dst_lev": cells[-3], "dmos_std": cells[-2],
            "dmos": cells[-1],
        }  # fmt: skip


def _tid(tables: dict[str, Path]) -> Iterator[Rating]:
    """`mos_with_names.txt`: MOS (0 to 9) and file name, one image a line; `mos_std.txt`: in the same order, the
    standard deviation *of the MOS*, which is smaller than that of the ratings. Images
    `distorted_images/i<source>_<distortion>_<level>.bmp` and `reference_images/I<source>.BMP`, in upper and lower case
    as it happens. readme of https://www.ponomarenko.info/tid2013.htm
    """
    lines = [line.split() for line in read_lines(tables["scores"])]
    spreads: list[str | None] = [None] * len(lines)
    if "std" in tables:
        spreads = list(read_lines(tables["std"]))
        if len(spreads) != len(lines):
            raise ImportRefused(
                f'"{tables["std"].name}" has {len(spreads)} lines, "{tables["scores"].name}" has {len(lines)}: they do '
                "not belong together"
            )
    for cells, std in zip(lines, spreads, strict=True):
        if len(cells) != 2:
            raise ImportRefused(f'"{tables["scores"].name}": "{" ".join(cells)[:80]}" is not a MOS and a file name')
        distortion, level = _numbered(cells[1], TID_DISTORTIONS)
        yield Rating(cells[1], cells[0], std, None, cells[1].split("_")[0], distortion, level)


def _name(cell: Any) -> str:
    """A cell as a name; workbooks hold names such as 1600 as numbers."""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return "" if cell is None else str(cell).strip()


def _numbered(name: str, distortions: tuple[str, ...]) -> tuple[str | None, int | None]:
    """What `<source>_<number>_<level>` says; (None, None) for another name."""
    parts = _stem(name).split("_")
    if len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
        return None, None
    number = int(parts[1])
    return distortions[number - 1] if 0 < number <= len(distortions) else parts[1], int(parts[2])


def _matrix(file: Path, variable: str) -> list[Any]:
    """The entries of one variable of a MATLAB 5 file. Nothing of it is run: the format holds arrays only."""
    from scipy.io import loadmat

    try:
        held = loadmat(file, variable_names=[variable])
    except (ValueError, TypeError, OSError, NotImplementedError, EOFError, KeyError, IndexError) as error:
        raise ImportRefused(f'"{file.name}" is no MATLAB 5 file: {error}') from error
    if variable not in held:
        raise ImportRefused(f'"{file.name}" does not hold the variable {variable}')
    return list(np.asarray(held[variable]).ravel())


def _cell_text(cell: Any) -> str:
    """The text in a MATLAB cell, which is an array of one text."""
    while isinstance(cell, np.ndarray) and cell.size == 1:
        cell = cell.ravel()[0]
    return str(cell).strip()


def _training_image(path: str) -> str | None:
    return "training image of the raters" if "trainingimages" in path.lower().split("/") else None


LAYOUTS = {
    "koniq10k": Layout(
        "KonIQ-10k",
        {"scores": ("koniq10k_scores_and_distributions.csv", "koniq10k_scores.csv")},
        (("1024x768", "512x384"),),
        Scale(1, 5),
        _koniq,
    ),
    "spaq": Layout(
        "SPAQ",
        {"scores": ("mos and image attribute scores.xlsx", "mos and image attribute scores.csv")},
        (("testimage",),),
        Scale(0, 100, note="SPAQ publishes no spread of the ratings."),
        _spaq,
    ),
    "livewild": Layout(
        "LIVE in the Wild",
        {"names": ("allimages_release.mat",), "mos": ("allmos_release.mat",), "std": ("allstddev_release.mat",)},
        (("images",),),
        Scale(0, 100),
        _live_wild,
        left_out=_training_image,
    ),
    "kadid10k": Layout(
        "KADID-10k",
        {"scores": ("dmos.csv",)},
        (("images", "distorted_images"), ("reference_images",)),
        Scale(
            1, 5, note="KADID-10k calls its scores DMOS, but they are higher for better images: they stand as they are."
        ),
        _kadid,
    ),
    "csiq": Layout(
        "CSIQ",
        {"scores": ("csiq.dmos.xlsx", "csiq.dmos.csv", "csiq.beta.txt", "csiq_dmos.txt", "csiq.txt")},
        (("dst_imgs", "dst_imgs_all"), ("src_imgs",)),
        Scale(0, 1, higher_is_worse=True),
        _csiq,
    ),
    "tid2013": Layout(
        "TID2013",
        {"scores": ("mos_with_names.txt",), "std": ("mos_std.txt",)},
        (("distorted_images",), ("reference_images",)),
        Scale(0, 9, note="The spread that TID2013 publishes is that of the MOS, not of the single ratings."),
        _tid,
        optional=frozenset({"std"}),
    ),
}
