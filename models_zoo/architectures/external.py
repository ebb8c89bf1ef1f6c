"""Catalogues of torchvision ("resnet50") and timm ("timm/resnet50").

Names are read from the `register_model` decorators in the installed source files, so that listing thousands of
architectures takes milliseconds and imports neither library nor torch.
"""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models_zoo.architectures.registry import ArchitectureCard, Catalogue, register_catalogue

if TYPE_CHECKING:
    from torch import nn

_REGISTERED = re.compile(r"^@register_model(?:\(\))?\n(?:@[^\n]*\n|[ )][^\n]*\n)*def (\w+)\(", re.MULTILINE)
TIMM_PREFIX = "timm/"
# Arguments that would download or unpickle something; weights enter a version by file and hash only.
_FORBIDDEN = {"weights", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}


@cache
def torchvision_names() -> tuple[str, ...]:
    """Classification builders of the installed torchvision, sorted."""
    return _registered_in("torchvision")


@cache
def timm_names() -> tuple[str, ...]:
    """Architectures of the installed timm with the prefix "timm/", sorted."""
    return tuple(f"{TIMM_PREFIX}{name}" for name in _registered_in("timm"))


def torchvision_card(name: str) -> ArchitectureCard:
    return ArchitectureCard(
        name=name,
        family="torchvision",
        summary=f"{name} as torchvision builds it",
        licence="BSD-3-Clause",
        source=f"torchvision.models.{name}",
        input_size=299 if name == "inception_v3" else 224,
    )


def timm_card(name: str) -> ArchitectureCard:
    return ArchitectureCard(
        name=name,
        family="timm",
        summary=f"{name.removeprefix(TIMM_PREFIX)} as timm builds it",
        licence="Apache-2.0 (code; weights have their own)",
        source=f"timm.create_model({name.removeprefix(TIMM_PREFIX)!r})",
        options={"in_chans": 3},
    )


def build_torchvision(name: str, **kwargs: Any) -> "nn.Module":
    from torchvision.models import get_model

    _refuse_downloads(kwargs)
    quiet = {"init_weights": True} if name in {"googlenet", "inception_v3"} else {}
    return get_model(name, weights=None, **{**quiet, **kwargs})


def build_timm(name: str, **kwargs: Any) -> "nn.Module":
    import timm

    _refuse_downloads(kwargs)
    return timm.create_model(name.removeprefix(TIMM_PREFIX), pretrained=False, **kwargs)


def _registered_in(library: str) -> tuple[str, ...]:
    found = find_spec(library)
    if found is None or not found.submodule_search_locations:
        return ()
    folder = Path(found.submodule_search_locations[0]) / "models"
    sources = (file.read_text(encoding="utf-8") for file in folder.glob("*.py"))
    return tuple(sorted({name for source in sources for name in _REGISTERED.findall(source)}))


def _refuse_downloads(kwargs: dict[str, Any]) -> None:
    refused = sorted(_FORBIDDEN & set(kwargs))
    if refused:
        raise ValueError(f"{refused[0]} is not an option here: name the weights file in the version")


register_catalogue("torchvision", Catalogue(torchvision_names, torchvision_card, build_torchvision))
register_catalogue("timm", Catalogue(timm_names, timm_card, build_timm))
