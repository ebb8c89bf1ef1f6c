"""The weights of a network as factors in one flat tensor (arXiv:1902.03538, section 3; forms as in
`models_zoo.adapters.compact`).

Layer: a convolution or linear layer, whose weight is seen as a matrix (m, n) = (outputs, inputs x kernel). With the
identity left out of the square factor, W = (U + I) V + C where m <= n and W = U (V + I) + C elsewhere; V (or U) = W and
the others zero make the dense network with as many non-zeros as it has weights.

The network itself keeps plain weights: they are composed once a step, and its gradients are carried back to the
factors by the chain rule. So attacks, norms and every architecture stay what they are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from models_zoo.adapters.compact import PARTS, Form, Weight, compose, part_shapes

Floors = Sequence[tuple[int, int, int]]  # of each layer: where it begins and ends in the flat factors, and its least


@dataclass(frozen=True)
class Layer:
    """name: of the weight, such as "conv1.weight". shape: of the weight. rank: of a product, else 0."""

    name: str
    form: Form
    shape: tuple[int, ...]
    rank: int = 0

    @property
    def parts(self) -> dict[str, tuple[int, int]]:
        return part_shapes(self.form, self.shape, self.rank)

    @property
    def matrix(self) -> tuple[int, int]:
        return self.shape[0], math.prod(self.shape[1:])


class TooFew(ValueError):
    """A budget that cannot be kept."""


def weights_to_compress(network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of convolutions and linear layers by name. Raises ValueError where there are none."""
    found = {
        f"{name}.weight" if name else "weight": module.weight
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear)
    }
    if not found:
        raise ValueError(f"a {type(network).__name__} has neither convolutions nor linear layers: nothing to compress")
    return found


def square_form(shape: tuple[int, ...]) -> Form:
    """Where the square factor stands: on the smaller side."""
    return "left" if shape[0] <= math.prod(shape[1:]) else "right"


def budget_of(network: nn.Module, ratio: float) -> int:
    """Non-zeros that a ratio of the dense weights leaves. Raises TooFew where layers would stay empty."""
    weights = weights_to_compress(network)
    dense = sum(weight.numel() for weight in weights.values())
    budget = int(ratio * dense)
    if budget < len(weights):
        raise TooFew(
            f"a ratio of {ratio:g} leaves {budget} of {dense:,} weights for {len(weights)} layers: give at least "
            f"{len(weights) / dense:.2g}, better ten times that"
        )
    return budget


class Factors:
    """All factors of a network.

    flat: (n,) what is learnt, one leaf; part after part, layer after layer. A state of a stage (`state_dict`).
    """

    def __init__(self, layers: Sequence[Layer], device: torch.device | str = "cpu") -> None:
        self.layers = tuple(layers)
        self.names = [(layer.name, part) for layer in self.layers for part in PARTS[layer.form]]
        self._shapes = [layer.parts[part] for layer in self.layers for part in PARTS[layer.form]]
        self.sizes = [rows * columns for rows, columns in self._shapes]
        self.flat = nn.Parameter(torch.zeros(sum(self.sizes), device=device))
        self.composed = frozenset(layer.name for layer in self.layers)

    def floors(self, per_output: int, budget: int) -> Floors:
        """How many non-zeros each layer keeps whatever the others' magnitudes are: so many for each of its outputs, but
        all of them together at most half of the budget."""
        starts = [0]
        for layer in self.layers:
            starts.append(starts[-1] + sum(rows * columns for rows, columns in layer.parts.values()))
        wanted = [per_output * layer.shape[0] for layer in self.layers]
        fits = min(1.0, budget / 2 / max(1, sum(wanted)))
        least = [int(fits * each) for each in wanted]
        return list(zip(starts[:-1], starts[1:], least, strict=True)) if per_output else []

    def split(self, flat: torch.Tensor | None = None) -> list[torch.Tensor]:
        """The parts as matrices, views of ``flat`` or of the factors themselves."""
        pieces = torch.split(self.flat.detach() if flat is None else flat, self.sizes)
        return [piece.view(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]

    def parts(self, flat: torch.Tensor | None = None) -> dict[str, dict[str, torch.Tensor]]:
        """As `split`, by layer and part."""
        found: dict[str, dict[str, torch.Tensor]] = {layer.name: {} for layer in self.layers}
        for (layer, part), matrix in zip(self.names, self.split(flat), strict=True):
            found[layer][part] = matrix
        return found

    @torch.no_grad()
    def compose_into(self, network: nn.Module) -> None:
        """Give the network the weights that the factors make, as training has them: by the device's matrix product."""
        for layer, parts in zip(self.layers, self.parts().values(), strict=True):
            network.get_parameter(layer.name).copy_(_product(layer.form, parts).view(layer.shape))

    @torch.no_grad()
    def take_gradients(self, network: nn.Module) -> None:
        """Carry the gradients of the network's weights back to the factors: ``flat.grad``."""
        if self.flat.grad is None:
            self.flat.grad = torch.zeros_like(self.flat)
        into = self.parts(self.flat.grad)
        for layer, parts in zip(self.layers, self.parts().values(), strict=True):
            gradient = network.get_parameter(layer.name).grad
            assert gradient is not None
            _carry_back(layer.form, parts, gradient.reshape(layer.matrix), into[layer.name])

    @torch.no_grad()
    def weights(self, flat: torch.Tensor | None = None) -> dict[str, Weight]:
        """What a compact file keeps of the factors, or of ``flat`` in their place."""
        whole = (self.flat.detach() if flat is None else flat).cpu()
        return {
            layer.name: Weight(layer.form, layer.shape, {part: matrix.numpy().copy() for part, matrix in parts.items()})
            for layer, parts in zip(self.layers, self.parts(whole).values(), strict=True)
        }

    def state_dict(self) -> dict[str, Any]:
        return {"flat": self.flat.detach()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["flat"].shape != self.flat.shape:
            raise ValueError(f"factors of {len(state['flat'])} values do not fit {len(self.flat)}")
        with torch.no_grad():
            self.flat.copy_(state["flat"])


def plain_factors(network: nn.Module) -> Factors:
    """W = C for every layer."""
    weights = weights_to_compress(network)
    return _filled([Layer(name, "plain", tuple(weight.shape)) for name, weight in weights.items()], weights)


def square_factors(network: nn.Module) -> Factors:
    """W = (U + I) V + C or U (V + I) + C, with the dense weight in the factor of its shape and zeros elsewhere."""
    weights = weights_to_compress(network)
    layers = [Layer(name, square_form(tuple(weight.shape)), tuple(weight.shape)) for name, weight in weights.items()]
    return _filled(layers, weights)


def low_rank_factors(network: nn.Module, budget: int) -> Factors:
    """W = U V from the largest singular values of all layers together, at least one a layer (the baseline ALR).

    budget: values of all factors at most, unless one singular value a layer takes more. U and V share the roots of the
    singular values.
    """
    weights = weights_to_compress(network)
    svds = {
        name: torch.linalg.svd(weight.detach().cpu().double().reshape(len(weight), -1), full_matrices=False)
        for name, weight in weights.items()
    }
    ranks = ranks_within({name: svd.S for name, svd in svds.items()}, _costs(weights), budget)
    layers = [Layer(name, "product", tuple(weight.shape), ranks[name]) for name, weight in weights.items()]
    factors = Factors(layers, next(iter(weights.values())).device)
    for name, parts in factors.parts().items():
        u, s, v = svds[name]
        root = s[: ranks[name]].sqrt()
        parts["u"].copy_(u[:, : ranks[name]] * root)
        parts["v"].copy_(v[: ranks[name]] * root[:, None])
    return factors


def ranks_within(values: Mapping[str, torch.Tensor], costs: Mapping[str, int], budget: int) -> dict[str, int]:
    """How many singular values each layer keeps: the largest of all layers together until the budget is spent.

    values: (r,) descending, by layer; costs: values that one more rank of a layer takes.
    """
    ranks = dict.fromkeys(values, 1)
    spent = sum(costs.values())
    others = [(float(value), name) for name, all_ in values.items() for value in all_[1:]]
    for _, name in sorted(others, reverse=True):
        if spent + costs[name] > budget:
            break
        ranks[name] += 1
        spent += costs[name]
    return ranks


def least_low_rank(network: nn.Module) -> int:
    """Values that one singular value a layer takes."""
    return sum(_costs(weights_to_compress(network)).values())


@torch.no_grad()
def project(flat: torch.Tensor, budget: int, floors: Floors = ()) -> None:
    """Keep the ``budget`` largest magnitudes, set the rest to zero; of equal ones the first stay. In place.

    floors: each layer's largest stay in any case, as many as it says; what is left of the budget goes to the
    largest of all.
    """
    if budget >= flat.numel():
        return
    magnitudes = flat.abs()
    for start, stop, least in floors:
        largest, places = magnitudes[start:stop].topk(min(least, stop - start))
        magnitudes[start + places[largest > 0]] = torch.inf
    threshold = _largest(magnitudes, budget)
    is_dropped = magnitudes < threshold
    surplus = flat.numel() - int(torch.count_nonzero(is_dropped)) - budget
    if surplus > 0:
        is_dropped[(magnitudes == threshold).nonzero().squeeze(1)[-surplus:]] = True
    flat.masked_fill_(is_dropped, 0.0)


def _largest(magnitudes: torch.Tensor, number: int) -> float:
    """The value that comes at this place when all are in descending order, from 1."""
    at = magnitudes.numel() - number
    if magnitudes.device.type == "cpu":  # some ten times as fast as kthvalue
        return float(np.partition(magnitudes.numpy(), at)[at])
    return float(magnitudes.kthvalue(at + 1).values)


def exact(weights: Mapping[str, Weight], network: nn.Module) -> None:
    """Give the network the weights exactly as a compact file of them will."""
    with torch.no_grad():
        for name, weight in weights.items():
            network.get_parameter(name).copy_(torch.from_numpy(compose(weight)))


def rank_of(weight: Weight) -> int:
    """Of the composed matrix."""
    matrix = compose(weight).reshape(weight.shape[0], -1)
    return int(np.linalg.matrix_rank(matrix)) if matrix.any() else 0


def _product(form: Form, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    if form == "plain":
        return parts["c"]
    product = parts["u"] @ parts["v"]
    if form == "product":
        return product
    return product.add_(parts["v" if form == "left" else "u"]).add_(parts["c"])


def _carry_back(
    form: Form, parts: Mapping[str, torch.Tensor], gradient: torch.Tensor, into: Mapping[str, torch.Tensor]
) -> None:
    """Chain rule of `_product`. gradient: (m, n) of the composed weight; into: the gradients of the parts."""
    if "c" in into:
        into["c"].copy_(gradient)
    if form == "plain":
        return
    torch.mm(gradient, parts["v"].t(), out=into["u"])
    torch.mm(parts["u"].t(), gradient, out=into["v"])
    if form != "product":
        into["v" if form == "left" else "u"].add_(gradient)


def _costs(weights: Mapping[str, torch.Tensor]) -> dict[str, int]:
    return {name: len(weight) + weight[0].numel() for name, weight in weights.items()}


@torch.no_grad()
def _filled(layers: Sequence[Layer], weights: Mapping[str, torch.Tensor]) -> Factors:
    """Factors with the dense weights in the part that has their shape; on their device."""
    factors = Factors(layers, next(iter(weights.values())).device)
    for layer, parts in zip(factors.layers, factors.parts().values(), strict=True):
        target = {"plain": "c", "left": "v", "right": "u"}[layer.form]
        parts[target].copy_(weights[layer.name].reshape(layer.matrix))
    return factors
