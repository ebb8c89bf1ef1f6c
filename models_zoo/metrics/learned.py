"""Cards of measures that need torch: LPIPS, and the optional adapter for the package pyiqa.

The package pyiqa is never required: its licence forbids commercial use. Where it is installed, the measures named here
become usable; each fetches its weights itself, as that package does, at first use.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from models_zoo.metrics.registry import Arithmetic, register_metric

PYIQA_LICENCE = "pyiqa: noncommercial (NTU S-Lab Licence, CC BY-NC-SA 4.0); the weights have licences of their own"
LEAST_SIDES = {"alex": 64, "vgg": 32, "squeeze": 32}


@dataclass(frozen=True)
class _Pyiqa:
    """A measure as pyiqa calls it."""

    name: str
    title: str
    source: str
    higher_is_better: bool = True
    needs_reference: bool = False


PYIQA = (
    _Pyiqa("musiq", "MUSIQ", "arXiv:2108.05997"),
    _Pyiqa("maniqa", "MANIQA", "arXiv:2204.08958"),
    _Pyiqa("clipiqa", "CLIP-IQA", "arXiv:2207.12396"),
    _Pyiqa("topiq_nr", "TOPIQ without reference", "arXiv:2308.03060"),
    _Pyiqa("hyperiqa", "HyperIQA", "Su et al., CVPR 2020"),
    _Pyiqa("dbcnn", "DBCNN", "arXiv:1907.02665"),
    _Pyiqa("paq2piq", "PaQ-2-PiQ", "arXiv:1912.10088"),
    _Pyiqa("nima", "NIMA", "arXiv:1709.05424"),
    _Pyiqa("topiq_fr", "TOPIQ with reference", "arXiv:2308.03060", needs_reference=True),
    _Pyiqa("dists", "DISTS", "arXiv:2004.07728", higher_is_better=False, needs_reference=True),
)


def _lpips(network: str, params: Path) -> Arithmetic:
    from models_zoo.metrics.lpips import lpips_measure

    return lpips_measure(network, params)


def _pyiqa(measure: _Pyiqa, params: None) -> Arithmetic:
    from models_zoo.metrics.pyiqa_adapter import pyiqa_measure

    return pyiqa_measure(
        measure.name, higher_is_better=measure.higher_is_better, needs_reference=measure.needs_reference
    )


for _network, _side in LEAST_SIDES.items():
    register_metric(
        name=f"lpips_{_network}",
        title=f"LPIPS ({_network})",
        summary="Distance between deep features of image and reference, weighted as people see it; 0 if identical",
        higher_is_better=False,
        low=0,
        high=None,
        needs_reference=True,
        params="lpips",
        min_side=_side,
        licence="this project's code, from the paper; learned weights BSD-2-Clause, the network's have their own",
        source="arXiv:1801.03924",
    )(partial(_lpips, _network))

for _measure in PYIQA:
    register_metric(
        name=f"pyiqa_{_measure.name}",
        title=f"{_measure.title} (pyiqa)",
        summary=f"{_measure.title} as the package pyiqa computes it",
        higher_is_better=_measure.higher_is_better,
        low=None,
        high=None,
        needs_reference=_measure.needs_reference,
        min_side=32,
        licence=PYIQA_LICENCE,
        source=_measure.source,
        package="pyiqa",
    )(partial(_pyiqa, _measure))
