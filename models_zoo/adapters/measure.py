"""From the spec of a registered measure to something that rates one image."""

from pathlib import Path

from models_zoo.adapters.spec import VersionSpec
from models_zoo.adapters.weights import check_sha256
from models_zoo.metrics import Measure, MetricCard, get


def measure_of(spec: VersionSpec) -> tuple[MetricCard, Measure]:
    """Card and measure of a spec of kind "metric".

    Raises MetricError where there is no such measure or its parameters are not usable, VersionRefused where they were
    changed.
    """
    card = get(spec.architecture)
    params = Path(spec.weights) if spec.weights else None
    if params is not None:
        check_sha256(params, spec.sha256)
    return card, card.build(params)
