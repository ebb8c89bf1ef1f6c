"""Points of an adjustable network as networks of their own: FiLM and norm folded, nothing left of the condition."""

from collections.abc import Mapping, Sequence
from typing import Any

from safetensors.torch import save

from models_zoo.architectures.oat import Adjustable, fold
from training.engine.explore import Point
from training.engine.networks import InputNetwork

CLOSE = 1e-6


def point(network: InputNetwork, asked: Mapping[str, Any]) -> Point:
    """The plain network of {"lam", "width"}; width 1 where it is left out.

    Raises ValueError for what is no adjustable network, and for a lambda or width that it has not.
    """
    module = network.module()
    if not isinstance(module, Adjustable):
        raise ValueError(f'"{network.name}" is a {network.architecture}: only networks of the method "oat" have points')
    unknown = sorted(set(asked) - {"lam", "width"})
    if unknown or "lam" not in asked:
        what = f'"{unknown[0]}" is not part of a point' if unknown else "the point has no lambda"
        raise ValueError(f'{what}: give {{"lam": 0.4, "width": 1}}')
    lam, width = (_number(name, asked.get(name, 1)) for name in ("lam", "width"))
    return folded_point(module, lam, width, network.facts.get("points", ()))


def folded_point(network: Adjustable, lam: float, width: float, measured: Sequence[Mapping[str, Any]]) -> Point:
    """measured: what the run found of its points; one of them, if it is this, goes along. Raises UntrainedPoint."""
    folded = fold(network, lam, width)
    facts: dict[str, Any] = {"lam": lam, "width": width}
    known = [each for each in measured if abs(each["lam"] - lam) < CLOSE and abs(each["width"] - width) < CLOSE]
    if known:
        n_bytes = len(save({key: tensor.contiguous() for key, tensor in folded.module.state_dict().items()}))
        facts |= {"trained": known[0]["trained"], "measured": {**known[0]["measured"], "bytes": n_bytes}}
    return Point(
        module=folded.module,
        architecture=folded.architecture,
        arch_kwargs=folded.arch_kwargs,
        outputs="logits",
        label=point_name(network, lam, width),
        facts=facts,
    )


def point_name(network: Adjustable, lam: float, width: float) -> str:
    """ "lambda 0.4", and the width where there are several."""
    return f"lambda {lam:g}" + (f", width {width:g}" if len(network.shares) > 1 else "")


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f'{name} is {value!r}: give a number, such as {{"lam": 0.4, "width": 1}}') from None
