import pickle  # noqa: TID251  (makes the file that must be refused)

import pytest
import torch
from safetensors.torch import save_file

from models_zoo.adapters import VersionRefused
from models_zoo.adapters.weights import check_sha256, load_into, read_state_dict
from models_zoo.architectures import build


@pytest.fixture
def state():
    torch.manual_seed(1)
    return build("tiny_cnn", widths=[4], num_classes=3).state_dict()


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {"module." + key: value for key, value in state.items()}},
        lambda state: {"module._orig_mod." + key: value for key, value in state.items()},
    ],
)
def test_nesting_and_prefixes_are_removed(tmp_path, state, wrap):
    file = tmp_path / "w.th"
    torch.save(wrap(state), file)
    assert same(read_state_dict(file), state)


def test_safetensors_whatever_the_name(tmp_path, state):
    for name in ("w.safetensors", "w.bin"):
        save_file(state, tmp_path / name)
        assert same(read_state_dict(tmp_path / name), state)


class Trap:
    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return (open, (str(self.proof), "w"))


@pytest.mark.parametrize("save", [torch.save, lambda trap, file: file.write_bytes(pickle.dumps(trap))])
def test_a_pickle_posing_as_weights_is_refused_and_never_run(tmp_path, save):
    file, proof = tmp_path / "w.pth", tmp_path / "executed"
    save({"state_dict": {"a": Trap(proof)}}, file)
    with pytest.raises(VersionRefused, match=r"w\.pth.*not executed"):
        read_state_dict(file)
    assert not proof.exists()


def test_a_scripted_module_is_refused(tmp_path):
    file = tmp_path / "scripted.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(file))
    with pytest.raises(VersionRefused, match=r"scripted\.pt"):
        read_state_dict(file)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 broken zip", b"\x10\0\0\0\0\0\0\0{broken json}   "])
def test_other_files_are_no_weights(tmp_path, content):
    file = tmp_path / "w.pth"
    file.write_bytes(content)
    with pytest.raises(VersionRefused, match=r"w\.pth"):
        read_state_dict(file)


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {"state_dict": {}}])
def test_files_without_tensors_say_what_was_expected(tmp_path, content):
    file = tmp_path / "w.pth"
    torch.save(content, file)
    with pytest.raises(VersionRefused, match="hold no state dict: expected tensors by name"):
        read_state_dict(file)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(VersionRefused, match="do not exist"):
        read_state_dict(tmp_path / "gone.th")


def test_wrong_architecture_names_keys_and_shapes(state):
    with pytest.raises(VersionRefused) as refusal:
        load_into(build("cifar_resnet20"), state, architecture="cifar_resnet20", weights="w.th")
    message = str(refusal.value)
    assert 'weights "w.th" do not fit architecture "cifar_resnet20"' in message
    assert "missing (conv1.weight 16x3x3x3" in message
    assert "unexpected (features.0.weight 4x3x3x3" in message


def test_wrong_number_of_classes_names_both_shapes(state):
    module = build("tiny_cnn", widths=[4], num_classes=5)
    with pytest.raises(VersionRefused, match=r"head.weight is 3x4 in the file, 5x4 in the architecture"):
        load_into(module, state, architecture="tiny_cnn", weights="w.th")


def test_missing_batch_counters_are_no_mismatch(state):
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    module = build("tiny_cnn", widths=[4], num_classes=3)
    load_into(module, state, architecture="tiny_cnn", weights="old.th")
    assert torch.equal(module.head.weight, state["head.weight"])


def test_a_prefix_of_the_architecture_itself_is_kept(tmp_path):
    class Wrapper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = torch.nn.Linear(2, 3)

    source, target = Wrapper(), Wrapper()
    torch.save(source.state_dict(), tmp_path / "w.th")
    load_into(target, read_state_dict(tmp_path / "w.th"), architecture="wrapper", weights="w.th")
    assert same(source.state_dict(), target.state_dict())


def test_a_changed_file_is_noticed(tmp_path):
    file = tmp_path / "w.th"
    file.write_bytes(b"x")
    pinned = check_sha256(file, None)
    file.write_bytes(b"y")
    with pytest.raises(VersionRefused, match="the file was changed"):
        check_sha256(file, pinned)
