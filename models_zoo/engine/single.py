"""One picture through one version: "try it on a picture"."""

import numpy as np

from models_zoo.adapters.load import Classifier, one_thread
from models_zoo.adapters.measure import measure_of
from models_zoo.adapters.rater import load_rater, too_small
from models_zoo.adapters.spec import VersionSpec
from models_zoo.engine.decode import fit
from models_zoo.engine.quality import rate
from models_zoo.engine.run import probabilities
from models_zoo.metrics import UnsuitableImage


def top_classes(
    spec: VersionSpec, classifier: Classifier, pixels: np.ndarray, *, count: int = 5
) -> list[tuple[int, float]]:
    """The most probable classes with their probabilities, best first; ties by the lower class number.

    `pixels`: uint8 (H, W, 3), as `corpora.imaging.decode.decode_rgb` gives them.
    """
    chances = probabilities(classifier(fit(pixels, spec.preprocessing)[None]), spec.outputs)[0]
    best = np.argsort(-chances, kind="stable")[:count]
    return [(int(index), float(chances[index])) for index in best]


def quality_of(spec: VersionSpec, pixels: np.ndarray) -> float | str:
    """The quality score of one picture, or why there is none. pixels: uint8 (H, W, 3)

    Raises VersionRefused and MetricError when the version cannot be loaded.
    """
    seen = fit(pixels, spec.preprocessing)
    if spec.kind != "metric":
        with one_thread():
            return rate(load_rater(spec, n_images=1), seen[None])[0]
    card, measure = measure_of(spec)
    if card.needs_reference:
        return f'"{card.name}" compares a picture with its pristine reference, and this one has none'
    if min(seen.shape[:2]) < card.min_side:
        return too_small(card.name, card.min_side)
    try:
        return measure(seen)
    except UnsuitableImage as error:
        return str(error)
