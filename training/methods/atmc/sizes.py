"""How large compressed weights are, by the paper's formula and truly (arXiv:1902.03538, section 4).

The paper counts non-zeros times their bits and the codebooks, and neither where the non-zeros are nor norms and biases.
True bits count the places as the compact file codes them.
"""

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from models_zoo.adapters.compact import PartCost, Weight, costs
from training.methods.atmc.factors import rank_of

FLOAT_BITS = 32
MOST_SHOWN = 3 * 2**8  # different values of a layer, on its page


def paper_bits(parts: Iterable[PartCost]) -> int:
    """The paper's size: a tensor of d different non-zero values takes ceil(log2 d) bits a non-zero and 32 d bits for
    its codebook; 32 bits a non-zero where the codebook has as many entries as there are non-zeros."""
    return sum(_paper_bits_of(part) for part in parts)


def dense_bits(n_weights: int) -> int:
    """Of the uncompressed convolutions and linear layers: what ratios are relative to."""
    return FLOAT_BITS * n_weights


def sizes(weights: Mapping[str, Weight], content: bytes) -> dict[str, Any]:
    """What a compressed network takes. content: of its file."""
    parts = costs(weights)
    n_weights = sum(math.prod(weight.shape) for weight in weights.values())
    return {
        "bytes": len(content),
        "bytes_zip": len(zlib.compress(content, 9)),
        "paper_bits": paper_bits(parts),
        "paper_ratio": paper_bits(parts) / dense_bits(n_weights),
        "true_bits": sum(part.bits for part in parts),
        "nnz": sum(part.nonzeros for part in parts),
        "weights": n_weights,
    }


def dense_sizes(n_weights: int, content: bytes) -> dict[str, Any]:
    """The same of a network that was not compressed. content: of its file."""
    bits = dense_bits(n_weights)
    return {
        "bytes": len(content),
        "bytes_zip": len(zlib.compress(content, 9)),
        "paper_bits": bits,
        "paper_ratio": 1.0,
        "true_bits": bits,
        "nnz": n_weights,
        "weights": n_weights,
    }


def nonzero_macs(network: nn.Module, shape: Sequence[int]) -> int:
    """Multiply-accumulates of one image that a machine would do that skips all zeros of composed weights.

    shape: (C, H, W). Beside `training.engine.costs.macs`, which counts them all; no runtime here gets that far.
    """
    counted = []

    def count(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        places = output.shape[2:].numel()  # 1 of a linear layer
        counted.append(int(torch.count_nonzero(layer.get_parameter("weight"))) * places)

    layers = [part for part in network.modules() if isinstance(part, nn.modules.conv._ConvNd | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            network(torch.zeros((1, *shape), device=device))
    finally:
        for handle in handles:
            handle.remove()
    return sum(counted)


def layer_rows(weights: Mapping[str, Weight], point: str) -> list[dict[str, Any]]:
    """Per layer: non-zeros of all parts relative to its weights, rank of the composed matrix, bits a non-zero, values
    (none where there are too many to be a codebook)."""
    by_name = {part.name: part for part in costs(weights)}
    rows = []
    for name, weight in weights.items():
        parts = {part: by_name[f"{name}:{part}"] for part in weight.parts}
        nonzeros = sum(part.nonzeros for part in parts.values())
        values = np.unique(np.concatenate([part[part != 0] for part in weight.parts.values()]))
        rows.append(
            {
                "name": name.removesuffix(".weight"),
                "point": point,
                "density": min(1.0, nonzeros / math.prod(weight.shape)),
                "rank": rank_of(weight),
                "bits": max((_code_bits(part.distinct, part.nonzeros) for part in parts.values()), default=0),
                "codebook": values.tolist() if len(values) <= MOST_SHOWN else [],
                "nonzeros": {part: cost.nonzeros for part, cost in parts.items()},
            }
        )
    return rows


def _paper_bits_of(part: PartCost) -> int:
    if not part.nonzeros:
        return 0
    bits = _code_bits(part.distinct, part.nonzeros)
    return part.nonzeros * bits + (0 if bits == FLOAT_BITS else part.distinct * FLOAT_BITS)


def _code_bits(distinct: int, nonzeros: int) -> int:
    bits = max(distinct - 1, 0).bit_length()
    return FLOAT_BITS if 2**bits >= nonzeros else bits
