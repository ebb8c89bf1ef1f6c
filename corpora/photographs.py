"""Photographs that ship inside installed packages: pristine material for demonstrations, with nothing to download."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files

import numpy as np
import numpy.typing as npt
from PIL import Image


@dataclass(frozen=True)
class Photograph:
    """pixels: uint8 (height, width, 3); greyscale pictures have three equal channels."""

    name: str
    pixels: npt.NDArray[np.uint8]
    credit: str
    licence: str


# Only files of the wheels: scikit-image would fetch its others from the network. Credits as its documentation has them.
_SHIPPED = (
    ("astronaut", "skimage.data", "astronaut.png", "Eileen Collins, NASA", "public domain"),
    ("brick", "skimage.data", "brick.png", "Dario Van Hove, CC0Textures", "CC0"),
    ("camera", "skimage.data", "camera.png", "Lav Varshney", "CC0"),
    ("chelsea", "skimage.data", "chelsea.png", "Stéfan van der Walt", "CC0"),
    ("china", "sklearn.datasets.images", "china.jpg", "danielbuechele, Flickr 6061409035", "CC BY 2.0"),
    ("coffee", "skimage.data", "coffee.png", "Rachel Michetti, Pikolo Espresso Bar", "CC0"),
    ("flower", "sklearn.datasets.images", "flower.jpg", "vultilion, Flickr 6056698931", "CC BY 2.0"),
    ("grass", "skimage.data", "grass.png", "linolafett, DeviantArt", "CC0"),
    ("gravel", "skimage.data", "gravel.png", "Dario Van Hove, CC0Textures", "CC0"),
    ("hubble", "skimage.data", "hubble_deep_field.jpg", "NASA, Hubble Space Telescope", "public domain"),
    ("moon", "skimage.data", "moon.png", "unknown", "distributed with scikit-image"),
    (
        "motorcycle",
        "skimage.data",
        "motorcycle_left.png",
        "D. Scharstein et al., Middlebury 2014 stereo",
        "distributed with scikit-image",
    ),
    ("rocket", "skimage.data", "rocket.jpg", "SpaceX", "CC0"),
)


def package_photographs() -> list[Photograph]:
    """The photographs inside scikit-image and scikit-learn, by name; those of a package that is absent are left out."""
    return [
        Photograph(name, load(), credit, licence)
        for name, package, file, credit, licence in _SHIPPED
        if (load := _loader(package, file)) is not None
    ]


def photograph_loaders() -> list[tuple[str, Callable[[], npt.NDArray[np.uint8]], str]]:
    """As `package_photographs`, without reading them: (name, how to get the pixels, credit and licence)."""
    return [
        (name, load, f"{credit}, {licence}")
        for name, package, file, credit, licence in _SHIPPED
        if (load := _loader(package, file)) is not None
    ]


def _loader(package: str, file: str) -> Callable[[], npt.NDArray[np.uint8]] | None:
    try:
        source = files(package) / file
    except ModuleNotFoundError:
        return None
    return partial(_read, source) if source.is_file() else None


def _read(source: object) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(source.read_bytes())) as image:  # type: ignore[attr-defined]
        return np.asarray(image.convert("RGB"))
