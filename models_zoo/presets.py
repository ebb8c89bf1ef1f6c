"""Named ways to prepare an image, so that nobody types six numbers for the usual case."""

from dataclasses import dataclass, replace

from models_zoo.adapters.spec import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

HALF = (0.5, 0.5, 0.5)
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)
CIFAR100_MEAN = (0.5071, 0.4865, 0.4409)
CIFAR100_STD = (0.2673, 0.2564, 0.2762)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


@dataclass(frozen=True)
class Preset:
    """`task`: what sort of model it is for."""

    key: str
    label: str
    preprocessing: Preprocessing
    task: str = "classification"


PRESETS = (
    Preset("imagenet", "ImageNet (resize 256, crop 224)", Preprocessing.imagenet()),
    Preset(
        "imagenet-232", "ImageNet (resize 232, crop 224): torchvision's newer weights", Preprocessing.imagenet(224, 232)
    ),
    Preset("imagenet-299", "ImageNet (resize 342, crop 299): Inception", Preprocessing.imagenet(299, 342)),
    Preset(
        "imagenet-half",
        "ImageNet (resize 256 bicubic, crop 224, mean and std 0.5): many transformers",
        Preprocessing(resize=256, crop=224, interpolation="bicubic", mean=HALF, std=HALF),
    ),
    Preset(
        "imagenet-caffe",
        "ImageNet, Caffe style (BGR in 0..255, mean subtracted)",
        Preprocessing(resize=256, crop=224, mean=CAFFE_MEAN_BGR, std=(1.0, 1.0, 1.0), range=255, channels="bgr"),
    ),
    Preset(
        "cifar",
        "CIFAR (32, ImageNet mean/std)",
        Preprocessing(resize=32, crop=32, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    ),
    Preset(
        "cifar10",
        "CIFAR-10 (32, its own mean/std)",
        Preprocessing(resize=32, crop=32, mean=CIFAR10_MEAN, std=CIFAR10_STD),
    ),
    Preset(
        "cifar100",
        "CIFAR-100 (32, its own mean/std)",
        Preprocessing(resize=32, crop=32, mean=CIFAR100_MEAN, std=CIFAR100_STD),
    ),
    Preset("unit-32", "32 x 32 in 0..1, not normalised", Preprocessing(resize=32, crop=32)),
    Preset("grey-28", "28 x 28 grey in 0..1", Preprocessing(resize=28, crop=28, channels="grey")),
    Preset("unit", "As it is, in 0..1", Preprocessing()),
    Preset(
        "whole-imagenet",
        "Whole image, ImageNet mean/std: most quality networks",
        Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD),
        "quality",
    ),
    Preset(
        "whole-imagenet-384",
        "Whole image, shorter side 384, ImageNet mean/std",
        Preprocessing(resize=384, interpolation="bicubic", mean=IMAGENET_MEAN, std=IMAGENET_STD),
        "quality",
    ),
    Preset("whole-unit", "Whole image, in 0..1", Preprocessing(), "quality"),
    Preset("whole-grey", "Whole image, grey in 0..1: CNNIQA", Preprocessing(channels="grey"), "quality"),
)
PRESETS_BY_KEY = {preset.key: preset for preset in PRESETS}


def presets_for(task: str) -> list[Preset]:
    return [preset for preset in PRESETS if preset.task == task]


def preset_of(preprocessing: Preprocessing, task: str = "classification") -> Preset | None:
    """The preset of a task that equals a preprocessing, whatever its limit to the longer side; if any."""
    plain = replace(preprocessing, long_side=None)
    return next((preset for preset in presets_for(task) if preset.preprocessing == plain), None)


def describe(preprocessing: Preprocessing) -> list[tuple[str, str]]:
    """What happens to an image, step by step, as (what, how) in words."""
    steps = []
    if preprocessing.resize is not None:
        side = "shorter side" if preprocessing.resize_mode == "shorter" else "both sides"
        steps.append(("Resize", f"{side} to {preprocessing.resize} px, {preprocessing.interpolation}"))
    if preprocessing.long_side is not None:
        steps.append(("Limit", f"longer side to {preprocessing.long_side:,} px where it exceeds that, aspect kept"))
    if preprocessing.crop is not None:
        steps.append(("Crop", f"central {preprocessing.crop} × {preprocessing.crop} px"))
    colours = {"rgb": "red, green, blue", "bgr": "blue, green, red", "grey": "one channel, ITU-R 601 luma"}
    steps.append(("Channels", colours[preprocessing.channels]))
    steps.append(("Range", f"0 to {preprocessing.range} before normalisation"))
    if set(preprocessing.mean) != {0.0} or set(preprocessing.std) != {1.0}:
        steps.append(("Mean", _numbers(preprocessing.mean)))
        steps.append(("Deviation", _numbers(preprocessing.std)))
    return steps


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
