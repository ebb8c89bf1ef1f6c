"""The quantised copy of the factors and the dual variable that pulls them together (arXiv:1902.03538, Algorithm 2)."""

from collections.abc import Mapping
from typing import Any

import torch

from training.methods.atmc.factors import Factors, Floors, project
from training.methods.atmc.kmeans import zero_kmeans

ROUNDS = 10  # of Lloyd's algorithm at an update; the next one goes on from there


class Admm:
    """theta' (`copy`), a quantised copy of the factors, and the scaled dual u (`dual`). A state of a stage.

    Each part of each layer has a codebook of its own, of 2 ** bits values at most, and of so few that each stands for
    `per_value` non-zeros of the factors it began with.
    """

    def __init__(self, factors: Factors, *, bits: int, per_value: int = 1) -> None:
        self._factors = factors
        self.copy = factors.flat.detach().clone()
        self.dual = torch.zeros_like(self.copy)
        self._most = [
            min(2**bits, max(1, int(torch.count_nonzero(part)) // per_value)) for part in factors.split(self.copy)
        ]
        self._centres = [self.copy.new_zeros(0) for _ in self._most]

    @torch.no_grad()
    def update(self) -> None:
        """theta' = ZeroKmeans(theta + u), part by part; u = u + theta - theta'."""
        flat = self._factors.flat.detach()
        self._quantise(flat + self.dual)
        self.dual += flat - self.copy

    @torch.no_grad()
    def add_gradient(self, rho: float) -> None:
        """Of (rho / 2) |theta - theta' + u|^2, onto that of the loss."""
        flat = self._factors.flat
        assert flat.grad is not None
        flat.grad.add_(flat.detach() - self.copy + self.dual, alpha=rho)

    @torch.no_grad()
    def distance(self) -> float:
        """|theta - theta'| / |theta|."""
        flat = self._factors.flat.detach()
        return float((flat - self.copy).norm() / flat.norm().clamp(min=1e-12))

    @torch.no_grad()
    def finished(self, budget: int, floors: Floors = ()) -> torch.Tensor:
        """theta' of the factors as they are now, projected onto the budget: what is kept. (n,)"""
        self._quantise(self._factors.flat.detach() + self.dual)
        kept = self.copy.clone()
        project(kept, budget, floors)
        return kept

    def state_dict(self) -> dict[str, Any]:
        return {"copy": self.copy, "dual": self.dual, "centres": list(self._centres)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.copy.copy_(state["copy"])
        self.dual.copy_(state["dual"])
        self._centres = [centres.to(self.copy.device) for centres in state["centres"]]

    def _quantise(self, target: torch.Tensor) -> None:
        parts = zip(self._factors.split(target), self._factors.split(self.copy), strict=True)
        for at, (wanted, kept) in enumerate(parts):
            found = zero_kmeans(wanted, self._most[at], start=self._centres[at], most_rounds=ROUNDS)
            self._centres[at] = found.centres
            kept.copy_(found.values)
