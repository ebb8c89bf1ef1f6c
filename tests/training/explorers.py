"""Explorers of the three kinds as recipes write them, with numbers that a formula gives instead of a training."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from training.engine.explore import write_explorer
from training.models import Run

SIDE = 16
IMAGES = 8
CLASSES = 4
LAMBDAS = [0.0, 0.1, 0.2, 0.3, 0.4, 1.0]
WIDTHS = [0.5, 1.0]
LABELS = [at % CLASSES for at in range(IMAGES)]


def wide(value: float, half: float = 0.02) -> dict[str, float]:
    return {"value": round(max(value, 0.02), 4), "low": round(max(value - half, 0), 4), "high": round(value + half, 4)}


def tiles(n: int, *, noise: float = 0.0) -> list[np.ndarray]:
    """uint8 (SIDE, SIDE, 3): a colour per class, with a diagonal."""
    rng = np.random.default_rng(n)
    colours = np.array([[200, 70, 60], [70, 160, 80], [60, 90, 200], [190, 160, 60]])
    made = []
    for at in range(n):
        tile = np.tile(colours[at % IMAGES % CLASSES], (SIDE, SIDE, 1)).astype(float)
        tile[np.arange(SIDE), (np.arange(SIDE) + at) % SIDE] = 240
        made.append(np.clip(tile + noise * rng.normal(size=tile.shape), 0, 255).astype(np.uint8))
    return made


def oat_content(**changes: Any) -> dict[str, Any]:
    points = [
        {
            "lam": lam, "width": width, "trained": True, "sa": wide(0.9 - 0.2 * lam - 0.05 * (1 - width)),
            "ra": wide(0.05 + 0.45 * lam**0.3 - 0.04 * (1 - width)),
            "ra_independent": wide(0.04 + 0.45 * lam**0.3 - 0.04 * (1 - width)),
            "macs": round(1_171_400 * width**2), "n": 1000,
        }
        for width in WIDTHS
        for lam in LAMBDAS
    ]  # fmt: skip
    clean = [[[label, 0.9 - 0.3 * point["lam"]] for label in LABELS] for point in points]
    attacked = [
        [[label if point["lam"] > 0.1 * at else (label + 1) % CLASSES, 0.6] for at, label in enumerate(LABELS)]
        for point in points
    ]
    dedicated = [
        {"name": name, "lam": lam, "sa": wide(0.91 - 0.2 * lam), "ra": wide(0.06 + 0.44 * lam**0.3), "seconds": 60.0}
        for name, lam in (("Standard", 0.0), ("PGD-AT 0.5", 0.5), ("PGD-AT", 1.0))
    ]
    return {
        "kind": "oat", "lambdas": LAMBDAS, "widths": WIDTHS, "eps": 8 / 255, "attack": "PGD-5, eps 8/255",
        "continuous": False, "points": points, "dedicated": dedicated, "seconds": 95.0, "labels": LABELS,
        "clean": clean, "attacked": attacked,
    } | changes  # fmt: skip


def rdi_content(**changes: Any) -> dict[str, Any]:
    names = ["exit 1", "exit 2", "exit 3", "final"]
    exits = [
        {
            "name": name, "macs_paper": 1e6 * (at + 1), "macs_honest": 1.1e6 * (at + 1) + 1e5 * at,
            "accuracy": wide(0.6 + 0.07 * at), "accuracy_attacked": wide(0.3 + 0.04 * at),
        }
        for at, name in enumerate(names)
    ]  # fmt: skip
    points = []
    for threshold in (0.0, 0.3, 0.6, 1.0, 1.5):
        early = threshold / 1.5
        share = [0.5 * early, 0.3 * early, 0.2 * early, 1 - early]
        macs = sum(part * each["macs_paper"] for part, each in zip(share, exits, strict=True))
        points.append(
            {
                "budget": macs, "thresholds": [threshold, threshold * 0.9, threshold * 0.8], "macs_paper": macs,
                "macs_honest": 1.12 * macs, "sa": wide(0.81 - 0.1 * early**3), "ra": wide(0.42 - 0.06 * early**2),
                "share": share, "share_attacked": [0.7 * part for part in share[:3]] + [1 - 0.7 * early],
                "images_per_second": 4000 + 3000 * early,
            }
        )  # fmt: skip
    entropies = [[1.2 * (at + 1) / IMAGES / (exit_ + 1) for exit_ in range(4)] for at in range(IMAGES)]
    said = [[[label, 0.5 + 0.1 * exit_] for exit_ in range(4)] for label in LABELS]
    fooled = [[[(label + (exit_ < 2)) % CLASSES, 0.5] for exit_ in range(4)] for label in LABELS]
    return {
        "kind": "rdi", "exits": exits, "points": points,
        "attacks": [{"name": name, "ra": wide(ra)} for name, ra in
                    (("single, worst", 0.43), ("average", 0.44), ("max-average", 0.42), ("routing-aware", 0.36))],
        "single": {"macs": 4e6, "sa": wide(0.8), "ra": wide(0.4), "images_per_second": 4200.0}, "labels": LABELS,
        "entropies": entropies, "predictions": said,
        "entropies_attacked": [[1.4 * value for value in row] for row in entropies], "predictions_attacked": fooled,
    } | changes  # fmt: skip


def atmc_content(**changes: Any) -> dict[str, Any]:
    weights = 85_000
    loss = {"ATMC": 0.0, "A-l0": 0.02, "AP": 0.08, "ALR": 0.12, "NAP": 0.03}
    points, layers = [], []
    for family, worse in loss.items():
        for ratio in (0.02, 0.05, 0.1):
            name, nnz = f"{family} {ratio:g}", round(ratio * weights)
            cost = worse * 0.05 / ratio
            bits = 8 if family == "ATMC" else None
            points.append(
                {
                    "name": name, "family": family, "ratio": ratio, "bits": bits,
                    "sa": wide(0.8 - cost - 0.002 / ratio), "ra": wide((0.05 if family == "NAP" else 0.42) - cost),
                    "ra_independent": wide((0.05 if family == "NAP" else 0.41) - cost),
                    "bytes": 2_000 + nnz * (2 if bits else 5), "bytes_zip": 1_800 + nnz * (2 if bits else 4),
                    "paper_bits": nnz * (bits or 32), "true_bits": nnz * (14 if bits else 38), "nnz": nnz,
                    "weights": weights,
                }
            )  # fmt: skip
            if family == "ATMC":
                layers += [
                    {"name": layer, "point": name, "density": min(1.0, ratio * factor), "rank": rank, "bits": 8,
                     "codebook": [-0.4, -0.12, 0.1, 0.33]}
                    for layer, factor, rank in (("stem", 8.0, 9), ("stage1.conv1", 1.5, 16), ("fc", 4.0, 10))
                ]  # fmt: skip
    points.append(
        {"name": "DA", "family": "DA", "ratio": None, "bits": None, "sa": wide(0.82), "ra": wide(0.44),
         "ra_independent": None, "bytes": 345_000, "bytes_zip": 320_000, "paper_bits": weights * 32,
         "true_bits": weights * 32, "nnz": weights, "weights": weights}
    )  # fmt: skip
    return {"kind": "atmc", "points": points, "layers": layers} | changes


CONTENTS = {"oat": oat_content, "rdi": rdi_content, "atmc": atmc_content}


def sprites_of(content: dict[str, Any]) -> dict[str, list[np.ndarray]]:
    if content["kind"] == "atmc":
        return {}
    n = IMAGES * (len(content["points"]) if content["kind"] == "oat" else 1)
    return {"clean": tiles(IMAGES), "attacked": tiles(n, noise=25)}


def give_explorer(run: Run, kind: str, **changes: Any) -> None:
    """Write an explorer where the recipe of the run would."""
    folder = run.directory / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    content = CONTENTS[kind](**changes)
    context: Any = SimpleNamespace(is_main=True, artifact=lambda name: folder / name)
    write_explorer(context, content, sprites_of(content))
