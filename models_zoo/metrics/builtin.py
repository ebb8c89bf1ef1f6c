"""The cards of the measures that live here. Each builder imports its arithmetic only when it is built."""

from pathlib import Path

from models_zoo.metrics.registry import Arithmetic, register_metric

OURS = "this project's code, from the paper"


@register_metric(
    name="psnr",
    title="PSNR",
    summary="Peak signal-to-noise ratio of all three colours, in decibels; identical images have 100",
    higher_is_better=True,
    low=0,
    high=100,
    needs_reference=True,
    min_side=1,
    licence=OURS,
    source="ITU-T J.247 (2008), Annex; peak 255",
)
def _psnr(params: Path | None) -> Arithmetic:
    from models_zoo.metrics.fidelity import psnr

    return psnr


@register_metric(
    name="colourfulness",
    title="Colourfulness",
    summary="How far the colours are from grey; 0 for a grey image, about 100 for extremely colourful ones",
    higher_is_better=True,
    low=0,
    high=None,
    min_side=1,
    licence=OURS,
    source="Hasler and Süsstrunk, Measuring colourfulness in natural images, SPIE 5007 (2003), equation for M3",
)
def _colourfulness(params: Path | None) -> Arithmetic:
    from models_zoo.metrics.simple import colourfulness

    return colourfulness
