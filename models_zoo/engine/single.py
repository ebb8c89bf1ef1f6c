"""One picture through one version: "try it on a picture"."""

import numpy as np

from models_zoo.adapters.load import Classifier
from models_zoo.adapters.spec import VersionSpec
from models_zoo.engine.decode import fit
from models_zoo.engine.run import probabilities


def top_classes(
    spec: VersionSpec, classifier: Classifier, pixels: np.ndarray, *, count: int = 5
) -> list[tuple[int, float]]:
    """The most probable classes with their probabilities, best first; ties by the lower class number.

    `pixels`: uint8 (H, W, 3), as `corpora.imaging.decode.decode_rgb` gives them.
    """
    chances = probabilities(classifier(fit(pixels, spec.preprocessing)[None]), spec.outputs)[0]
    best = np.argsort(-chances, kind="stable")[:count]
    return [(int(index), float(chances[index])) for index in best]
