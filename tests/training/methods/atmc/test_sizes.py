"""Sizes: the paper's formula with the paper's numbers, and what it leaves out."""

import numpy as np
import pytest

from models_zoo.adapters.compact import PartCost, Weight, encode
from training.methods.atmc.sizes import dense_bits, layer_rows, paper_bits, sizes


def test_the_papers_formula_gives_the_papers_abscissa() -> None:
    """CIFAR-10, ResNet-34 at k = .005 and 8 bits: 106,325 non-zeros, 54 codebooks of 256 values."""
    nonzeros = np.full(54, 106_325 // 54)
    nonzeros[0] += 106_325 - nonzeros.sum()
    parts = [PartCost("p", (1000, 1000), int(n), 256, 0, 0) for n in nonzeros]
    assert paper_bits(parts) == 106_325 * 8 + 54 * 256 * 32
    assert paper_bits(parts) / dense_bits(21_265_088) == pytest.approx(0.0019, abs=5e-5)


@pytest.mark.parametrize(
    ("nonzeros", "distinct", "bits"),
    [(0, 0, 0), (100, 100, 3200), (100, 16, 100 * 4 + 16 * 32), (16, 9, 16 * 32), (50, 1, 32)],
)
def test_a_codebook_that_is_no_smaller_than_its_values_does_not_count(nonzeros: int, distinct: int, bits: int) -> None:
    assert paper_bits([PartCost("p", (20, 20), nonzeros, distinct, 0, 0)]) == bits


def test_sizes_and_layers_of_a_small_weight() -> None:
    c = np.zeros((4, 6), np.float32)
    c[0, :3], c[1, 2] = 0.5, -1
    weights = {"conv.weight": Weight("plain", (4, 6), {"c": c})}
    found = sizes(weights, encode(weights, {}))
    assert (found["nnz"], found["weights"]) == (4, 24)
    assert found["paper_bits"] == 4 * 1 + 2 * 32
    assert found["true_bits"] > found["paper_bits"]
    assert found["bytes"] * 8 > found["true_bits"]
    (row,) = layer_rows(weights, "p")
    assert row["name"] == "conv"
    assert row["density"] == pytest.approx(4 / 24)
    assert (row["rank"], row["bits"], row["codebook"]) == (2, 1, [-1.0, 0.5])
