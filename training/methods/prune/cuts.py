"""Ways to mask a network, with the masks of `torch.nn.utils.prune`.

Stage: the prunable layers whose names begin alike, such as "layer3" of a ResNet. Prunable: convolutions and linear
layers, except the last one, which gives the outputs.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import nn
from torch.nn.utils import prune

from training.engine.masks import Masks

Kind = Literal["unstructured", "structured"]


@dataclass(frozen=True)
class Cut:
    """kind: single weights of smallest magnitude over all layers, or whole channels of smallest L1 norm of one stage.
    ratio: share that is masked. stage: of a structured cut."""

    kind: Kind
    ratio: float
    stage: str = ""

    def __str__(self) -> str:
        where = f"channels of {self.stage}" if self.kind == "structured" else "weights"
        return f"{100 * self.ratio:.0f} % of the {where}"


def prunable(network: nn.Module) -> list[str]:
    """Names of the layers whose weights may be masked."""
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    return layers[:-1] or layers


def stages(network: nn.Module) -> dict[str, list[str]]:
    """Names of layers by stage, in the order of the network."""
    layers = prunable(network)
    parts = [name.split(".") for name in layers]
    shared = 0
    while all(len(part) > shared + 1 and part[shared] == parts[0][shared] for part in parts):
        shared += 1
    found: dict[str, list[str]] = {}
    for name, part in zip(layers, parts, strict=True):
        found.setdefault(".".join(part[: shared + 1]), []).append(name)
    return found


def cuts(network: nn.Module, ratios: Sequence[float], rng: np.random.Generator) -> list[Cut]:
    """Every way to cut, each once, in the order in which they are tried: the two kinds by turns, else drawn.

    Structured cuts go through the stages before one comes again.
    """
    whole = [Cut("unstructured", ratio) for ratio in rng.permutation(ratios).tolist()]
    names = list(stages(network))
    by_stage = {name: rng.permutation(ratios).tolist() for name in names}
    parts = [
        Cut("structured", by_stage[names[at]][turn], names[at])
        for turn in range(len(ratios))
        for at in rng.permutation(len(names))
    ]
    order: list[Cut] = []
    while whole or parts:
        order.extend(queue.pop(0) for queue in (whole, parts) if queue)
    return order


def masks_of(network: nn.Module, cut: Cut) -> Masks:
    """The masks of a cut, by parameter name; the network stays as it is."""
    trial = copy.deepcopy(network)
    names = prunable(trial) if cut.kind == "unstructured" else stages(trial)[cut.stage]
    layers = [trial.get_submodule(name) for name in names]
    if cut.kind == "unstructured":
        pairs = [(layer, "weight") for layer in layers]
        prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=cut.ratio)
    else:
        for layer in layers:
            prune.ln_structured(layer, "weight", amount=cut.ratio, n=1, dim=0)
    return {f"{name}.weight": layer.get_buffer("weight_mask").bool() for name, layer in zip(names, layers, strict=True)}
