"""Non-uniform quantisation with a fixed zero: k-means of numbers, on sorted values (arXiv:1902.03538, Algorithm 1).

Centre: one of the values that a tensor may take. In one dimension the members of a centre are neighbours in sorted
order, so a step of Lloyd's algorithm needs the places of K + 1 borders and two prefix sums: O(K log N) after one sort,
where distances of all values to all centres take O(N K).
"""

from dataclasses import dataclass

import torch

MOST_ROUNDS = 300  # of Lloyd's algorithm; from the last centres on, a handful settles


@dataclass(frozen=True)
class Quantised:
    """values: as they were given, each replaced by its nearest centre or zero. centres: (k,) ascending, without zero.
    rounds: of Lloyd's algorithm; 0 where the values were few enough to stay as they are."""

    values: torch.Tensor
    centres: torch.Tensor
    rounds: int


def zero_kmeans(
    values: torch.Tensor,
    n_centres: int,
    *,
    start: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    most_rounds: int = MOST_ROUNDS,
) -> Quantised:
    """Let a tensor take at most ``n_centres`` different values beside zero, by Lloyd's algorithm to its fixed point.

    Args:
        values: float32 of any shape; what is exactly zero stays zero.
        n_centres: 2 ** bits.
        start: the centres to begin with, such as those of the last time; as a rule few rounds remain then. None: drawn
            from the non-zero values.
        generator: what draws; None: torch's global one.

    Raises ValueError for fewer than one centre and for values that are not finite.
    """
    if n_centres < 1:
        raise ValueError(f"{n_centres} centres leave nothing but zeros: give at least 1 bit")
    flat = values.reshape(-1)
    places = flat.nonzero().squeeze(1)
    nonzero = flat[places]
    if not bool(torch.isfinite(nonzero).all()):
        raise ValueError("values that are not finite cannot be quantised: the training has diverged")
    ordered = nonzero.sort().values
    is_new = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=is_new[1:])
    if int(torch.count_nonzero(is_new)) <= n_centres:
        return Quantised(values.clone(), ordered[is_new], 0)
    if start is None or len(start) != n_centres:
        distinct = ordered[is_new]
        drawn = torch.randperm(len(distinct), generator=generator, device="cpu")[:n_centres]
        start = distinct[drawn.to(distinct.device)]
    ordered = ordered.double()
    centres, rounds = _settled(ordered, start.to(ordered).sort().values, most_rounds)
    codebook, borders = _with_zero(centres)
    found = codebook[torch.searchsorted(borders, nonzero.double())]
    quantised = torch.zeros_like(flat).index_copy_(0, places, found.to(values.dtype))
    return Quantised(quantised.reshape(values.shape), centres.to(values.dtype), rounds)


def _settled(ordered: torch.Tensor, centres: torch.Tensor, most_rounds: int) -> tuple[torch.Tensor, int]:
    """Centres that are the means of their members, and the rounds until they were.

    ordered: (n,) float64, ascending, without zeros; centres: (k,) ascending. A centre without members stays.
    """
    sums = torch.cat((ordered.new_zeros(1), ordered.cumsum(0)))
    edges = torch.empty(0, dtype=torch.long, device=ordered.device)
    for rounds in range(most_rounds):
        codebook, borders = _with_zero(centres)
        found = torch.searchsorted(ordered, borders)
        if torch.equal(found, edges):
            return centres, rounds
        edges = found
        ends = torch.cat((edges.new_zeros(1), edges, edges.new_full((1,), len(ordered))))
        counts = ends.diff()
        means = sums[ends].diff() / counts.clamp(min=1)
        moved = torch.where(counts > 0, means, codebook)
        at_zero = torch.searchsorted(centres, centres.new_zeros(()))
        centres = torch.cat((moved[:at_zero], moved[at_zero + 1 :])).sort().values
    return centres, most_rounds


def _with_zero(centres: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ascending centres with zero among them, (k + 1,), and the borders between neighbours, (k,)."""
    at = int(torch.searchsorted(centres, centres.new_zeros(())))
    codebook = torch.cat((centres[:at], centres.new_zeros(1), centres[at:]))
    return codebook, (codebook[1:] + codebook[:-1]) / 2
