"""What the page of an adjustable result shows: written by the recipe, drawn by the browser, nothing computed between.

A recipe that leaves an adjustable network, or many of them, calls ``write_explorer`` once at its end. The page moves a
point along what was measured; ``MethodCard.points`` names the function that makes a version of a chosen point.

Explorer: the file ``artifacts/explore.json``. Sprite: a picture of equal tiles, one for each sample image, beside it.
Point: one setting of an adjustable result. This module imports no torch: web processes read explorers with it.

A measured value is ``{"value", "low", "high"}`` (95 % interval) or a plain number; shares are within [0, 1]. What is
not finite becomes null, and is refused where a number is needed. Unknown names are kept and passed on to the page.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from training.engine.metrics import as_json

if TYPE_CHECKING:
    from torch import nn

    from models_zoo.adapters.spec import Preprocessing
    from training.engine.context import RunContext

FOLDER = "artifacts"
FILE = "explore.json"
COLUMNS = 32  # of a sprite


class BadExplorer(ValueError):
    """What a recipe wants to show does not fit together; the message names the place."""


@dataclass(frozen=True)
class Point:
    """A network of one setting, as ``MethodCard.points`` gives it: what ``run.save`` takes.

    label: of the version, such as "lambda 0.3, width 0.5". preprocessing: None for that of the adjustable version.
    facts: JSON that goes along with the version.
    """

    module: "nn.Module"
    architecture: str
    arch_kwargs: Mapping[str, Any]
    outputs: Literal["score", "logits"]
    label: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: "Preprocessing | None" = None


def _measured(value: Any) -> Any:
    return {"value": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


class Interval(BaseModel):
    """A measured value with its 95 % interval, where that is known."""

    model_config = ConfigDict(extra="forbid")

    value: float
    low: float | None = None
    high: float | None = None


Measured = Annotated[Interval, BeforeValidator(_measured)]
Share = Annotated[float, Field(ge=0, le=1)]
Said = tuple[int, Share]  # class, probability


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class OatPoint(_Part):
    """A lambda and a width of the adjustable network. macs: of one image. n: images it was measured on."""

    lam: Share
    width: float = Field(gt=0)
    trained: bool
    sa: Measured
    ra: Measured
    ra_independent: Measured | None = None
    macs: float
    n: int


class Dedicated(_Part):
    """A network trained for one lambda alone."""

    name: str
    lam: Share
    sa: Measured
    ra: Measured
    seconds: float


class OatExplorer(_Part):
    """lambdas: trained. continuous: whether the slider may stand between them. seconds: of training the one network.
    labels: true class of each sample image. clean, attacked: [point][image]; the sprite "attacked" is point-major."""

    kind: Literal["oat"]
    lambdas: list[Share]
    widths: list[float]
    eps: float
    attack: str
    continuous: bool
    points: list[OatPoint] = Field(min_length=1)
    dedicated: list[Dedicated] = []
    seconds: float
    labels: list[int]
    clean: list[list[Said]]
    attacked: list[list[Said]]

    @model_validator(mode="after")
    def _fits(self) -> "OatExplorer":
        for name in ("clean", "attacked"):
            _require_grid(name, getattr(self, name), (len(self.points), "point"), (len(self.labels), "image"))
        return self

    def tiles(self) -> dict[str, int]:
        return {"clean": len(self.labels), "attacked": len(self.points) * len(self.labels)}


class Exit(_Part):
    """An exit of a network, the last one included. macs_paper: prefix and chosen head; macs_honest: with the heads that
    were evaluated and rejected."""

    name: str
    macs_paper: float
    macs_honest: float
    accuracy: Measured
    accuracy_attacked: Measured


class RdiPoint(_Part):
    """A budget and its thresholds (nats), one for each early exit. macs: mean over clean images. share: of the images
    that leave at each exit, the last included; clean and attacked."""

    budget: float
    thresholds: list[float]
    macs_paper: float
    macs_honest: float
    sa: Measured
    ra: Measured
    share: list[Share]
    share_attacked: list[Share]
    images_per_second: float | None = None


class NamedAttack(_Part):
    name: str
    ra: Measured


class Single(_Part):
    """The network with one exit, trained on the same budget."""

    macs: float
    sa: Measured
    ra: Measured
    images_per_second: float | None = None


class RdiExplorer(_Part):
    """attacks: robust accuracy under each, at the default point. labels: true class of each sample image.
    entropies (nats), predictions, and both under attack: [image][exit]."""

    kind: Literal["rdi"]
    exits: list[Exit] = Field(min_length=1)
    points: list[RdiPoint] = Field(min_length=1)
    attacks: list[NamedAttack] = []
    single: Single | None = None
    labels: list[int]
    entropies: list[list[float]]
    predictions: list[list[Said]]
    entropies_attacked: list[list[float]]
    predictions_attacked: list[list[Said]]

    @model_validator(mode="after")
    def _fits(self) -> "RdiExplorer":
        for name in ("entropies", "predictions", "entropies_attacked", "predictions_attacked"):
            _require_grid(name, getattr(self, name), (len(self.labels), "image"), (len(self.exits), "exit"))
        for name, wanted in (("thresholds", len(self.exits) - 1), ("share", len(self.exits)),
                             ("share_attacked", len(self.exits))):  # fmt: skip
            _require_grid(f"points.{name}", [getattr(point, name) for point in self.points],
                          (len(self.points), "point"), (wanted, "exit"))  # fmt: skip
        return self

    def tiles(self) -> dict[str, int]:
        return {"clean": len(self.labels), "attacked": len(self.labels)}


class AtmcPoint(_Part):
    """A compressed network. ratio: of the weights that are kept; bits: of a weight; None where there is none.
    paper_bits: by the paper's formula; true_bits: of the weights in the file; bytes: of the file, bytes_zip: zipped."""

    name: str
    family: str
    ratio: float | None = None
    bits: int | None = None
    sa: Measured
    ra: Measured
    ra_independent: Measured | None = None
    bytes: int
    bytes_zip: int | None = None
    paper_bits: float | None = None
    true_bits: float | None = None
    nnz: int | None = None
    weights: int | None = None


class AtmcLayer(_Part):
    """A layer of a point, by that point's name. density: share of its weights that are not zero."""

    name: str
    point: str
    density: Share
    rank: int | None = None
    bits: int | None = None
    codebook: list[float] = []


class AtmcExplorer(_Part):
    kind: Literal["atmc"]
    points: list[AtmcPoint] = Field(min_length=1)
    layers: list[AtmcLayer] = []

    @model_validator(mode="after")
    def _fits(self) -> "AtmcExplorer":
        names = [point.name for point in self.points]
        if len(set(names)) < len(names):
            raise ValueError("points: two have the same name")
        strangers = sorted({layer.point for layer in self.layers} - set(names))
        if strangers:
            raise ValueError(f'layers: there is no point "{strangers[0]}"; the points are {", ".join(names)}')
        return self

    def tiles(self) -> dict[str, int]:
        return {}


Explorer = OatExplorer | RdiExplorer | AtmcExplorer
KINDS: dict[str, type[OatExplorer] | type[RdiExplorer] | type[AtmcExplorer]] = {
    "oat": OatExplorer,
    "rdi": RdiExplorer,
    "atmc": AtmcExplorer,
}


def write_explorer(
    run: "RunContext", content: Mapping[str, Any], sprites: Mapping[str, Sequence[np.ndarray]] | None = None
) -> None:
    """Keep what the run's page shows: ``artifacts/explore.json``, and a picture ``explore-<name>.png`` of each list of
    tiles. Only the main process writes; the file that names the pictures is written last.

    Args:
        content: as ``OatExplorer``, ``RdiExplorer`` or ``AtmcExplorer``, by its "kind".
        sprites: uint8 (H, W, 3) or (H, W) tiles of one size, in the order of the explorer's class.

    Raises:
        BadExplorer: something is missing, or numbers of points, images, exits or tiles differ.
    """
    checked = check_explorer(content)
    given = {name: _tiles(name, tiles) for name, tiles in (sprites or {}).items()}
    for name, wanted in checked.tiles().items():
        found = len(given.get(name, ()))
        if found != wanted:
            raise BadExplorer(f'explorer: the sprite "{name}" has {found} tiles, {wanted} are needed')
    if not run.is_main:
        return
    listed = {}
    for name, tiles in given.items():
        file = run.artifact(f"explore-{name}.png")
        _write_sprite(file, tiles)
        n, height, width, _ = tiles.shape
        listed[name] = {"file": file.name, "n": n, "columns": COLUMNS, "width": width, "height": height}
    plain = {**checked.model_dump(mode="json"), "sprites": listed}
    _replace(run.artifact(FILE), json.dumps(plain, allow_nan=False).encode())


def check_explorer(content: Mapping[str, Any]) -> Explorer:
    """The content as the class of its kind. Raises BadExplorer."""
    kind = KINDS.get(str(content.get("kind")))
    if kind is None:
        raise BadExplorer(f'explorer: there is no kind "{content.get("kind")}": choose from {", ".join(KINDS)}')
    try:
        return kind.model_validate(as_json(content, "content"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadExplorer(f"explorer: {where + ': ' if where else ''}{first['msg']}") from None
    except ValueError as error:
        raise BadExplorer(f"explorer: {error}") from None


def read_explorer(directory: Path) -> dict[str, Any] | None:
    """The explorer of a run's directory; None where the run has none, or not yet."""
    try:
        found: dict[str, Any] = json.loads((directory / FOLDER / FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found


def _require_grid(name: str, rows: Sequence[Sequence[Any]], outer: tuple[int, str], inner: tuple[int, str]) -> None:
    if len(rows) != outer[0]:
        raise ValueError(f"{name}: {len(rows)} entries, {outer[0]} are needed: one per {outer[1]}")
    for at, row in enumerate(rows):
        if len(row) != inner[0]:
            raise ValueError(f"{name}, {outer[1]} {at}: {len(row)} entries, {inner[0]} are needed: one per {inner[1]}")


def _tiles(name: str, tiles: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 (n, H, W, 3)."""
    found = [np.asarray(tile) for tile in tiles]
    if not found:
        raise BadExplorer(f'explorer: the sprite "{name}" has no tiles')
    first = found[0]
    for tile in found:
        is_picture = tile.dtype == np.uint8 and (tile.ndim == 2 or tile.shape[2:] == (3,))
        if not is_picture or tile.shape != first.shape:
            raise BadExplorer(
                f'explorer: the sprite "{name}" has a tile {tile.dtype}{tile.shape} beside {first.dtype}{first.shape}: '
                "give uint8 arrays (height, width, 3) or (height, width) of one size"
            )
    stacked = np.stack(found)
    return np.repeat(stacked[..., None], 3, axis=3) if stacked.ndim == 3 else stacked


def _write_sprite(file: Path, tiles: np.ndarray) -> None:
    n, height, width, _ = tiles.shape
    rows = -(-n // COLUMNS)
    grid = np.zeros((rows * COLUMNS, height, width, 3), np.uint8)
    grid[:n] = tiles
    whole = grid.reshape(rows, COLUMNS, height, width, 3).swapaxes(1, 2).reshape(rows * height, COLUMNS * width, 3)
    temporary = file.with_suffix(".tmp")
    Image.fromarray(whole).save(temporary, "PNG")
    os.replace(temporary, file)


def _replace(file: Path, content: bytes) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, file)
