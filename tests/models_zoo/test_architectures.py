import subprocess
import sys

import pytest
import torch

from models_zoo.architectures import (
    ArchitectureCard,
    UnknownArchitecture,
    architecture_card,
    build,
    list_architectures,
    register_architecture,
)


def test_listing_imports_no_torch():
    code = (
        "import sys, models_zoo.adapters; from models_zoo.architectures import list_architectures, architecture_card;"
        "assert len(list_architectures()) > 1000; architecture_card('resnet50'); architecture_card('timm/resnet10t');"
        "bad = {'torch', 'torchvision', 'timm', 'onnxruntime', 'django'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_torchvision_names_are_torchvisions_own():
    import torchvision

    own = torchvision.models.list_models(module=torchvision.models)
    assert [name for name in list_architectures() if architecture_card(name).family == "torchvision"] == own


def test_timm_names_are_timms_own():
    import timm

    listed = [name.removeprefix("timm/") for name in list_architectures("timm/*")]
    assert listed == sorted(timm.list_models())


def test_patterns_select():
    assert list_architectures("cifar_resnet*") == [f"cifar_resnet{depth}" for depth in (20, 32, 44, 56, 110)]
    assert "resnet50" in list_architectures("resnet*")
    assert list_architectures("nothing*") == []


@pytest.mark.parametrize(
    ("name", "kwargs", "shape", "classes"),
    [
        ("cifar_resnet20", {}, (3, 32, 32), 10),
        ("tiny_cnn", {"widths": [4, 8], "in_channels": 1, "num_classes": 7}, (1, 8, 8), 7),
        ("mlp", {"hidden": [5], "input_size": 8, "num_classes": 3}, (1, 8, 8), 3),
        ("linear", {"input_size": 8, "in_channels": 3}, (3, 8, 8), 10),
        ("mobilenet_v3_small", {"num_classes": 12}, (3, 64, 64), 12),
        ("timm/resnet10t", {"num_classes": 5}, (3, 64, 64), 5),
    ],
)
def test_builds_what_the_card_promises(name, kwargs, shape, classes):
    module = build(name, **kwargs)
    assert not module.training
    with torch.no_grad():
        assert module(torch.zeros(2, *shape)).shape == (2, classes)


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)])
def test_cifar_resnets_have_the_published_size(depth, parameters):
    """0.27 M, 0.46 M, 0.66 M, 0.85 M: arXiv:1512.03385, table 6."""
    assert sum(p.numel() for p in build(f"cifar_resnet{depth}").parameters()) == parameters


def test_linear_is_linear():
    module = build("linear", input_size=4)
    a, b = torch.randn(2, 1, 1, 4, 4)
    with torch.no_grad():
        assert torch.allclose(module(a) + module(b) - module(0 * a), module(a + b), atol=1e-5)


def test_an_unknown_name_suggests_near_ones():
    with pytest.raises(UnknownArchitecture, match=r"did you mean.*resnet50"):
        build("resnet5O")


@pytest.mark.parametrize("kwargs", [{"widht": 3}, {"weights": "DEFAULT"}, {"num_classes": -1}])
def test_bad_arguments_are_named(kwargs):
    with pytest.raises(UnknownArchitecture, match=f"resnet18.*{next(iter(kwargs))}"):
        build("resnet18", **kwargs)


def test_timm_never_downloads():
    with pytest.raises(UnknownArchitecture, match="pretrained is not an option"):
        build("timm/resnet10t", pretrained=True)


def test_a_name_is_registered_once():
    card = ArchitectureCard(name="linear", family="x", summary="", licence="", source="")
    with pytest.raises(ValueError, match="twice"):
        register_architecture(card)(torch.nn.Identity)
