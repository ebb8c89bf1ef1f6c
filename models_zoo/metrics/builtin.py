"""The cards of the measures that live here. Each builder imports its arithmetic only when it is built."""

from pathlib import Path

from models_zoo.metrics.registry import Arithmetic, register_metric

OURS = "this project's code, written from the paper"


@register_metric(
    name="psnr",
    title="PSNR",
    summary="Peak signal-to-noise ratio of all three colours in decibels; 100 for identical images",
    higher_is_better=True,
    low=0,
    high=100,
    needs_reference=True,
    min_side=1,
    licence=OURS,
    source="Definition with peak 255, over pixels and colours",
)
def _psnr(params: None) -> Arithmetic:
    from models_zoo.metrics.fidelity import psnr

    return psnr


@register_metric(
    name="psnr_y",
    title="PSNR of luma",
    summary="Peak signal-to-noise ratio of BT.601 luma in decibels; 100 for identical images",
    higher_is_better=True,
    low=0,
    high=100,
    needs_reference=True,
    min_side=1,
    licence=OURS,
    source="Definition with peak 255, over pixels",
)
def _psnr_y(params: None) -> Arithmetic:
    from models_zoo.metrics.fidelity import psnr_y

    return psnr_y


@register_metric(
    name="ssim",
    title="SSIM",
    summary="Structural similarity of luma at the images' own size; 1 for identical images",
    higher_is_better=True,
    low=-1,
    high=1,
    needs_reference=True,
    min_side=11,
    licence=OURS,
    source="Wang, Bovik, Sheikh, Simoncelli: Image quality assessment, TIP 13 (2004) 600, section III",
)
def _ssim(params: None) -> Arithmetic:
    from models_zoo.metrics.fidelity import ssim

    return ssim


@register_metric(
    name="ssim_downsampled",
    title="SSIM, automatic downsampling",
    summary="SSIM after reducing large images to about 256 pixels on the shorter side, the authors' later rule",
    higher_is_better=True,
    low=-1,
    high=1,
    needs_reference=True,
    min_side=11,
    licence=OURS,
    source="Wang, Bovik, Sheikh, Simoncelli: TIP 13 (2004) 600, with the suggested usage of the authors' ssim.m",
)
def _ssim_downsampled(params: None) -> Arithmetic:
    from models_zoo.metrics.fidelity import ssim_downsampled

    return ssim_downsampled


@register_metric(
    name="ms_ssim",
    title="MS-SSIM",
    summary="Structural similarity of luma over five scales with the published weights; 1 for identical images",
    higher_is_better=True,
    low=0,
    high=1,
    needs_reference=True,
    min_side=176,
    licence=OURS,
    source="Wang, Simoncelli, Bovik: Multi-scale structural similarity, Asilomar (2003), equation 7",
)
def _ms_ssim(params: None) -> Arithmetic:
    from models_zoo.metrics.fidelity import ms_ssim

    return ms_ssim


@register_metric(
    name="gmsd",
    title="GMSD",
    summary="Deviation of the similarity of gradient magnitudes; 0 for identical images, seldom above 0.35",
    higher_is_better=False,
    low=0,
    high=None,
    needs_reference=True,
    min_side=4,
    licence=OURS,
    source="Xue, Zhang, Mou, Bovik: Gradient magnitude similarity deviation, TIP 23 (2014) 684",
)
def _gmsd(params: None) -> Arithmetic:
    from models_zoo.metrics.fidelity import gmsd

    return gmsd


@register_metric(
    name="brisque",
    title="BRISQUE",
    summary="Natural-scene statistics rated by a regression: 0 best, 100 worst, and a little beyond",
    higher_is_better=False,
    low=None,
    high=None,
    params="brisque",
    min_side=16,
    licence=f"{OURS}; parameters are the user's: the published ones are for research",
    source="Mittal, Moorthy, Bovik: No-reference image quality assessment in the spatial domain, TIP 21 (2012) 4695",
)
def _brisque(params: Path) -> Arithmetic:
    from models_zoo.metrics.brisque import brisque_features, brisque_load

    fitted = brisque_load(params)
    return lambda image: fitted.score(brisque_features(image))


@register_metric(
    name="niqe",
    title="NIQE",
    summary="Distance of the image's statistics from those of good photographs: 0 as they are, about 3 good, 10 bad",
    higher_is_better=False,
    low=0,
    high=None,
    params="niqe",
    min_side=96,
    licence=f"{OURS}; parameters are the user's: the published ones are for research",
    source='Mittal, Soundararajan, Bovik: Making a "completely blind" image quality analyzer, SPL 20 (2013) 209',
)
def _niqe(params: Path) -> Arithmetic:
    from models_zoo.metrics.niqe import niqe_load, niqe_score

    pristine = niqe_load(params)
    return lambda image: niqe_score(pristine, image)


@register_metric(
    name="jpeg_quality",
    title="JPEG quality (Wang 2002)",
    summary="Blockiness and blur of JPEG without a reference: 1 bad to 10 excellent, seldom beyond",
    higher_is_better=True,
    low=-245.8909,
    high=None,
    min_side=16,
    licence=OURS,
    source="Wang, Sheikh, Bovik: No-reference perceptual quality assessment of JPEG compressed images, ICIP (2002)",
)
def _jpeg_quality(params: None) -> Arithmetic:
    from models_zoo.metrics.simple import jpeg_quality

    return jpeg_quality


@register_metric(
    name="blur_effect",
    title="Blur effect",
    summary="How little is lost when the image is blurred again: 0 sharp, 1 blurred",
    higher_is_better=False,
    low=0,
    high=1,
    min_side=16,
    licence=OURS,
    source="Crete, Dolmiere, Ladret, Nicolas: The blur effect, SPIE 6492 (2007)",
)
def _blur_effect(params: None) -> Arithmetic:
    from models_zoo.metrics.simple import blur_effect

    return blur_effect


@register_metric(
    name="noise_sigma",
    title="Noise (Immerkaer)",
    summary="Estimated standard deviation of the noise in grey levels; fine texture counts as noise",
    higher_is_better=False,
    low=0,
    high=None,
    min_side=3,
    licence=OURS,
    source="Immerkaer: Fast noise variance estimation, CVIU 64 (1996) 300",
)
def _noise_sigma(params: None) -> Arithmetic:
    from models_zoo.metrics.simple import noise_sigma

    return noise_sigma


@register_metric(
    name="rms_contrast",
    title="RMS contrast",
    summary="Standard deviation of luma from 0 for a constant image to 0.5 for half black, half white",
    higher_is_better=True,
    low=0,
    high=0.5,
    min_side=1,
    licence=OURS,
    source="Peli: Contrast in complex images, JOSA A 7 (1990) 2032",
)
def _rms_contrast(params: None) -> Arithmetic:
    from models_zoo.metrics.simple import rms_contrast

    return rms_contrast


@register_metric(
    name="colourfulness",
    title="Colourfulness",
    summary="How far the colours are from grey: 0 for grey, about 110 for extremely colourful",
    higher_is_better=True,
    low=0,
    high=None,
    min_side=1,
    licence=OURS,
    source="Hasler, Süsstrunk: Measuring colourfulness in natural images, SPIE 5007 (2003)",
)
def _colourfulness(params: None) -> Arithmetic:
    from models_zoo.metrics.simple import colourfulness

    return colourfulness
