"""A network with early exits at other thresholds: the same weights, another place between computation and accuracy."""

from collections.abc import Mapping
from typing import Any

from models_zoo.architectures.rdi import RdiResNet, require_thresholds
from training.engine.explore import Point
from training.engine.networks import InputNetwork


def at_thresholds(network: InputNetwork, point: Mapping[str, Any]) -> Point:
    """point: {"thresholds": nats, one for each early exit; 0 closes one}. Raises ValueError for others."""
    given = point.get("thresholds")
    if not isinstance(given, list | tuple) or not all(
        isinstance(each, int | float) and not isinstance(each, bool) for each in given
    ):
        raise ValueError('the point has no "thresholds": give a number of nats for each early exit')
    module = network.module()
    assert isinstance(module, RdiResNet)
    module.thresholds = thresholds = require_thresholds(given, len(network.arch_kwargs["exits"]))
    return Point(
        module=module,
        architecture=network.architecture,
        arch_kwargs={**network.arch_kwargs, "thresholds": list(thresholds)},
        outputs="logits",
        label=f"thresholds {', '.join(f'{each:.3g}' for each in thresholds)}",
        facts={"thresholds": list(thresholds)},
    )
