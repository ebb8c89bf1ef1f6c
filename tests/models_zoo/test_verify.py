import io
import json
import zipfile

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from models_zoo.adapters import Preprocessing, VersionRefused, VersionSpec
from models_zoo.adapters.exported import read_exported
from models_zoo.adapters.load import OrtClassifier, TorchClassifier, load, same_classes, torch_module
from models_zoo.adapters.prepare import Prepared
from models_zoo.adapters.verify import verify
from models_zoo.architectures import build

# The tracing exporter is deprecated, and a tenth of the other one's time.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

WHOLE = Preprocessing(crop=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


def tiny(classes: int = 5, in_channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return build("tiny_cnn", widths=[4, 8], in_channels=in_channels, num_classes=classes)


def torch_spec(folder, classes: int = 5, **changes) -> VersionSpec:
    file = folder / "tiny.th"
    torch.save(tiny(classes).state_dict(), file)
    return VersionSpec(
        "torch",
        "tiny_cnn",
        arch_kwargs={"widths": [4, 8], "num_classes": classes},
        weights=str(file),
        preprocessing=changes.pop("preprocessing", WHOLE),
        **changes,
    )


def onnx_spec(folder, module: nn.Module, shape=(2, 3, 16, 16), free_batch: bool = True, **changes) -> VersionSpec:
    file = folder / "net.onnx"
    axes = {"x": {0: "n"}, "y": {0: "n"}} if free_batch else None
    torch.onnx.export(
        module.eval(),
        (torch.zeros(shape),),
        str(file),
        dynamo=False,
        dynamic_axes=axes,
        input_names=["x"],
        output_names=["y"],
    )
    return VersionSpec("onnx", weights=str(file), preprocessing=changes.pop("preprocessing", WHOLE), **changes)


def export_spec(folder, module: nn.Module, free_batch: bool = True) -> VersionSpec:
    file = folder / "net.pt2"
    shapes = ({0: torch.export.Dim("n", min=1, max=64)},) if free_batch else None
    torch.export.save(torch.export.export(module, (torch.zeros(2, 3, 16, 16),), dynamic_shapes=shapes), file)
    return VersionSpec("export", weights=str(file), preprocessing=WHOLE)


def pixels(count: int = 7, side: int = 16) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def expected_scores(images: np.ndarray, module: nn.Module) -> np.ndarray:
    """The textbook way: 0..1, minus mean, through deviation."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (WHOLE.mean, WHOLE.std))
    with torch.no_grad():
        return module((x - mean) / std).numpy()


def test_every_kind_gives_the_same_scores(tmp_path):
    reference = expected_scores(pixels(), tiny())
    specs = {
        "torch": torch_spec(tmp_path),
        "onnx": onnx_spec(tmp_path, tiny()),
        "onnx, batch of 2": onnx_spec(tmp_path, tiny(), free_batch=False),
        "export": export_spec(tmp_path, tiny()),
    }
    specs["export, batch of 2"] = export_spec(tmp_path, tiny(), free_batch=False)
    for name, spec in specs.items():
        for few in (None, 1):
            scores = load(spec, n_images=few)(pixels())
            assert scores.dtype == np.float32
            np.testing.assert_allclose(scores, reference, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(
    ("preprocessing", "recompute"),
    [
        (Preprocessing(channels="bgr", mean=(1, 2, 3), range=255), lambda rgb: rgb[..., ::-1] - np.array([1, 2, 3])),
        (Preprocessing(mean=(0.5,), std=(0.5,)), lambda rgb: (rgb / 255 - 0.5) / 0.5),
    ],
)
def test_preprocessing_is_what_it_says(preprocessing, recompute):
    found = Prepared(nn.Identity(), preprocessing)(torch.from_numpy(pixels())).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(found, recompute(pixels().astype(float)), atol=1e-5)


def test_grey_is_pillows_luma_exactly():
    from PIL import Image

    found = Prepared(nn.Identity(), Preprocessing(channels="grey", range=255))(torch.from_numpy(pixels()))
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in pixels()])
    assert np.array_equal(found[:, 0].numpy(), expected)


def test_the_report_states_size_and_cost(tmp_path):
    spec = torch_spec(tmp_path)
    report = verify(spec, n_classes=5)
    assert report.n_classes == 5
    assert report.input_shape == (3, 16, 16)
    assert report.parameters == sum(p.numel() for p in tiny().parameters())
    assert report.macs == 16 * 16 * 4 * 27 + 8 * 8 * 8 * 36 + 8 * 5
    assert report.seconds_per_image > 0
    one_layer = 8 * 4 * 16 * 16 * 4
    assert one_layer <= report.peak_bytes <= 8 * one_layer
    assert json.loads(json.dumps(report.to_dict()))["sha256"] == report.sha256
    assert report.notes == ()


def test_macs_agree_between_kinds(tmp_path):
    expected = verify(torch_spec(tmp_path)).macs
    assert verify(onnx_spec(tmp_path, tiny())).macs == expected
    assert verify(export_spec(tmp_path, tiny())).macs == expected


def test_a_version_without_weights_or_with_constant_scores_is_noted(tmp_path):
    spec = VersionSpec("torch", "tiny_cnn", arch_kwargs={"widths": [4]}, preprocessing=WHOLE)
    assert "freshly initialised" in " ".join(verify(spec).notes)
    constant = tiny()
    constant.head.weight.data.zero_()
    assert "same scores to every test image" in " ".join(verify(onnx_spec(tmp_path, constant)).notes)


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (lambda d: torch_spec(d, num_classes=9), {}, "gives 5 classes, but the version says 9"),
        (lambda d: torch_spec(d), {"n_classes": 1000}, "gives 5 classes, but the taxonomy has 1000"),
        (lambda d: torch_spec(d, sha256="0" * 64), {}, "the file was changed"),
        (lambda d: torch_spec(d, outputs="probabilities"), {}, 'set outputs to "logits"'),
        (lambda d: torch_spec(d, preprocessing=Preprocessing(crop=16, channels="grey")), {}, "1 channels"),
        (lambda d: VersionSpec("torch", "resnet5O"), {}, "did you mean"),
        (lambda d: onnx_spec(d, nn.Sequential(tiny(), nn.Softmax(1))), {}, 'set outputs to "probabilities"'),
        (lambda d: onnx_spec(d, nn.Conv2d(3, 2, 1)), {}, r"output of shape \(8, 2, 16, 16\) for 8 images"),
        (lambda d: onnx_spec(d, nn.Flatten(0)), {}, r"output of shape \(6144,\)"),
        (lambda d: onnx_spec(d, nn.Linear(4, 2), shape=(2, 4)), {}, "not a batch of images"),
        (lambda d: onnx_spec(d, nn.Conv2d(7, 2, 1), shape=(2, 7, 16, 16)), {}, "1 or 3 channels"),
        (
            lambda d: onnx_spec(d, tiny(5, 1), shape=(2, 1, 16, 16)),
            {},
            "takes 1 channels, but the preprocessing gives 3",
        ),
        (lambda d: onnx_spec(d, tiny(), shape=(2, 3, 20, 20)), {}, "takes images of 20 x 20, but .* 16 x 16"),
        (lambda d: onnx_spec(d, tiny(1)), {}, "gives 1 score per image"),
    ],
)
def test_refusals_say_what_is_wrong(tmp_path, make, arguments, message):
    with pytest.raises(VersionRefused, match=message):
        verify(make(tmp_path), **arguments)


def test_nan_weights_are_refused(tmp_path):
    broken = tiny()
    broken.head.bias.data[2] = float("nan")
    with pytest.raises(VersionRefused, match="not finite"):
        verify(onnx_spec(tmp_path, broken))


@pytest.mark.parametrize("content", [b"", b"not onnx", b"\x08\x07"])
def test_other_files_are_no_onnx(tmp_path, content):
    file = tmp_path / "net.onnx"
    file.write_bytes(content)
    with pytest.raises(VersionRefused, match="not an ONNX file"):
        verify(VersionSpec("onnx", weights=str(file), preprocessing=WHOLE))


def test_an_onnx_file_that_points_to_other_files_is_refused(tmp_path):
    spec = onnx_spec(tmp_path, tiny())
    model = onnx.load(spec.weights)
    onnx.save(model, spec.weights, save_as_external_data=True, location="elsewhere.bin", size_threshold=0)
    with pytest.raises(VersionRefused, match="no external data"):
        verify(spec)


def test_exports_are_cached_checked_and_renewed(tmp_path, caplog):
    spec, cache = torch_spec(tmp_path), tmp_path / "cache"
    first = load(spec, cache_dir=cache)
    assert isinstance(first, OrtClassifier)
    (file,) = cache.iterdir()
    assert np.array_equal(load(spec, cache_dir=cache)(pixels()), first(pixels()))
    other = tiny()
    other.head.weight.data += 1
    torch.onnx.export(
        Prepared(other, WHOLE),
        (torch.from_numpy(pixels(2)),),
        str(file),
        dynamo=False,
        dynamic_axes={"pixels": {0: "n"}},
        input_names=["pixels"],
        output_names=["scores"],
    )
    fallback = load(spec, cache_dir=cache)
    assert isinstance(fallback, TorchClassifier)
    assert "its export is off by" in caplog.text
    np.testing.assert_allclose(fallback(pixels()), first(pixels()), atol=2e-5)


def test_small_jobs_are_not_exported(tmp_path):
    assert isinstance(load(torch_spec(tmp_path), n_images=10), TorchClassifier)


def test_batch_norms_are_folded_without_changing_scores(tmp_path):
    spec = torch_spec(tmp_path)
    folded = load(spec, n_images=1)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded._run.modules())
    np.testing.assert_allclose(folded(pixels()), expected_scores(pixels(), torch_module(spec)[0]), atol=2e-5)


def test_half_precision_keeps_the_classes(tmp_path):
    """What the probe demands before a GPU computes in bfloat16: 99 % of the images keep their class."""
    torch.manual_seed(3)
    module = Prepared(build("cifar_resnet20"), Preprocessing(crop=32)).eval()
    images = pixels(32, 32)
    full, half = TorchClassifier(module), TorchClassifier(module, autocast=True)
    assert half.backend.endswith("bfloat16")
    assert same_classes(full(images), half(images)) >= 0.96
    assert same_classes(full(images), full(images)[:, ::-1]) < 0.5


def rewritten(file, change) -> None:
    """Apply `change(name, content) -> content` to every file inside a .pt2 archive."""
    with zipfile.ZipFile(file) as source:
        entries = {entry.filename: source.read(entry) for entry in source.infolist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as target:
        for name, content in entries.items():
            target.writestr(name, change(name, content))


class Trap:
    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return (open, (str(self.proof), "w"))


def trap_bytes(proof) -> bytes:
    buffer = io.BytesIO()
    torch.save({"x": Trap(proof)}, buffer)
    return buffer.getvalue()


def edit_json(edit):
    def change(name, content):
        if not name.endswith("models/model.json"):
            return content
        graph = json.loads(content)
        edit(graph)
        return json.dumps(graph).encode()

    return change


def set_target(target):
    def edit(graph):
        graph["graph_module"]["graph"]["nodes"][0]["target"] = target

    return edit_json(edit)


def set_name(name):
    def edit(graph):
        graph["graph_module"]["graph"]["nodes"][0]["name"] = name

    return edit_json(edit)


def set_size(expression):
    def edit(graph):
        values = graph["graph_module"]["graph"]["tensor_values"]
        next(iter(values.values()))["sizes"][0] = {"as_expr": {"expr_str": expression, "hint": None}}

    return edit_json(edit)


@pytest.mark.parametrize(
    "attack",
    [
        lambda proof: lambda name, data: trap_bytes(proof) if name.endswith("sample_inputs/model.pt") else data,
        lambda proof: (
            lambda name, data: (
                data.replace(b'"use_pickle": false', b'"use_pickle": true').replace(
                    b'"use_pickle":false', b'"use_pickle":true'
                )
                if name.endswith("weights_config.json")
                else trap_bytes(proof)
                if "/weight_" in name
                else data
            )
        ),
        lambda proof: set_target("torch.load"),
        lambda proof: set_target("torch.ops.aten.from_file.default"),
        lambda proof: set_target("_operator.methodcaller"),
        lambda proof: set_name(f"x = open({str(proof)!r}, 'w')"),
        lambda proof: set_size(f"open({str(proof)!r}, 'w')"),
        lambda proof: set_size("().__class__.__bases__"),
    ],
)
def test_hostile_programs_are_refused_and_never_run(tmp_path, attack):
    spec, proof = export_spec(tmp_path, tiny()), tmp_path / "executed"
    rewritten(tmp_path / "net.pt2", attack(proof))
    with pytest.raises(VersionRefused, match=r"net\.pt2.*refused"):
        verify(spec)
    assert not proof.exists()


def test_guard_code_and_metadata_never_reach_torch(tmp_path):
    spec, proof = export_spec(tmp_path, tiny()), tmp_path / "executed"

    def edit(graph):
        graph["guards_code"] = [f"open({str(proof)!r}, 'w')"]
        graph["graph_module"]["graph"]["nodes"][0]["metadata"] = {"stack_trace": f"open({str(proof)!r}, 'w')"}

    rewritten(tmp_path / "net.pt2", edit_json(edit))
    assert verify(spec).n_classes == 5
    assert not proof.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nonsense"])
def test_other_files_are_no_programs(tmp_path, content):
    (tmp_path / "net.pt2").write_bytes(content)
    with pytest.raises(VersionRefused, match=r"not a torch.export program"):
        read_exported(tmp_path / "net.pt2")


def test_a_zip_without_a_program_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        archive.writestr("net/readme.txt", "hello")
    with pytest.raises(VersionRefused, match=r"not a torch.export program|pickled form"):
        read_exported(tmp_path / "net.pt2")
