"""What a recipe and its user meet: refusals, guards, limits, devices, streams."""

import errno
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from training.engine import checkpoints, guards, local
from training.engine.batches import Shuffled, prefetch
from training.engine.checkpoints import CheckpointError, packed, unpacked
from training.engine.context import Progress, StageError, Values
from training.engine.devices import BadResources, DeviceLost, Resources, is_device_loss, require_device
from training.engine.guards import Diverged, EarlyStop, LimitReached
from training.engine.local import RunResult, run_method
from training.engine.metrics import JsonLines, as_json, read_lines, read_metrics
from training.engine.needs import NotWhatIsNeeded
from training.engine.registry import BadConfig, MethodCard, MethodConfig, UnknownMethod, register_method
from training.engine.samples import Samples, read_samples

CPU = Resources(device="cpu")


@pytest.fixture
def run(wobble: str, tmp_path: Path) -> Callable[..., RunResult]:
    def run(folder: str = "run", config: dict[str, Any] | None = None, **values: Any) -> RunResult:
        arguments = {"resources": CPU, **values}
        return run_method(wobble, config=config or {"steps": 3}, directory=tmp_path / folder, **arguments)

    return run


@pytest.fixture
def method_of(methods_folder: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Make a method of a function, without a folder."""

    def method_of(recipe: Callable[..., None]) -> str:
        from training.engine import registry

        card = MethodCard("made", "Made", "", "", "recipe:recipe", None)
        register_method(card)(type("Config", (MethodConfig,), {}))
        monkeypatch.setattr(registry.Method, "recipe", lambda self: recipe)
        return "made"

    return method_of


# Another run's directory


@pytest.mark.parametrize("is_finished", [True, False])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": {"steps": 4, "rate": 0.5}}, r"rate = 0\.01, now it is 0\.5"),
        ({"config": {"steps": 5}}, r"steps = 4, now it is 5"),
        ({"seed": 1}, r"another seed \(0, now it is 1\)"),
    ],
)
def test_a_run_with_another_config_is_refused_naming_the_field(
    run: Callable[..., RunResult], change: dict[str, Any], said: str, is_finished: bool
):
    def stop(where: Progress) -> None:
        if where.done == 2:
            raise KeyboardInterrupt

    if is_finished:
        run(config={"steps": 4})
    else:
        with pytest.raises(KeyboardInterrupt):
            run(config={"steps": 4}, progress=stop)
    with pytest.raises(CheckpointError, match=said):
        run(**{"config": {"steps": 4}, **change})
    assert run(**{"config": {"steps": 4}, **change}, resume=False).metrics


def test_other_inputs_are_refused(run: Callable[..., RunResult], tmp_path: Path):
    first = run("first")
    network = first.network("slim")
    run("second", inputs={"start": network})
    with pytest.raises(CheckpointError, match="another inputs"):
        run("second")


def test_an_output_goes_into_another_run_with_its_facts_and_arrays(run: Callable[..., RunResult]):
    first = run("first", inputs=None)
    network = first.network("slim")
    assert network.facts["kept"] == network.arrays()["kept"].tolist()
    assert not network.module().training
    assert all(parameter.requires_grad for parameter in network.module().parameters())
    network.arrays_file.write_bytes(network.arrays_file.read_bytes() + b" ")
    with pytest.raises(ValueError, match="were changed after its run"):
        network.arrays()


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"name": "wibble"}, UnknownMethod, r'no training method "wibble": choose from .*wobble'),
        ({"config": {"stepps": 3}}, BadConfig, "stepps: Extra inputs are not permitted"),
        ({"config": {"rate": -1}}, BadConfig, r"rate: Input should be greater than 0 \(given: -1\)"),
        ({"device": "tpu"}, BadResources, 'There is no device "tpu"'),
        ({"device": "cuda:77"}, BadResources, 'no device "cuda:77", it has'),
        ({"resources": Resources("cpu", precision="fp16")}, BadResources, "fp16 needs a GPU"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_computed(
    wobble: str, tmp_path: Path, arguments: dict[str, Any], error: type[Exception], said: str
):
    with pytest.raises(error, match=said):
        run_method(**{"name": wobble, "config": {}, "directory": tmp_path / "run", **arguments})
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"precision": "fp8"}, "precision is 'fp8': choose auto, fp32"),
        ({"time_limit_seconds": -1}, "time_limit_seconds is -1"),
        ({"colour": "red"}, 'no option "colour"'),
    ],
)
def test_bad_resources_name_the_field(values: dict[str, Any], said: str):
    with pytest.raises(BadResources, match=said):
        Resources.from_dict(values)


# Guards


def test_a_nan_loss_stops_the_run_and_says_what_to_do(run: Callable[..., RunResult], tmp_path: Path):
    with pytest.raises(Diverged, match=r'"loss" is nan at step 1 of stage "wide".*lower learning rate'):
        run(config={"steps": 3, "spoil_at": 1})
    assert [line["step"] for line in read_metrics(tmp_path / "run").lines] == [0]


def test_weights_that_are_no_numbers_never_become_a_checkpoint(method_of: Callable[..., str], tmp_path: Path):
    def recipe(run: Any, config: Any) -> None:
        network = torch.nn.Linear(2, 1)
        for step in run.steps(3, network=network):
            run.log(step, accuracy=float("nan"))
            if step == 1:
                network.weight.data[0, 0] = math.inf

    name = method_of(recipe)
    often = Resources(device="cpu", checkpoint_seconds=0)
    with pytest.raises(Diverged, match=r'weight "weight" of "network" is not finite after step 1 of stage "train"'):
        run_method(name, config=None, directory=tmp_path, resources=often)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    assert read_metrics(tmp_path).lines[0]["accuracy"] is None


def test_a_time_limit_stops_with_a_checkpoint_and_the_run_goes_on(run: Callable[..., RunResult], tmp_path: Path):
    config = {"steps": 8, "pause": 0.02}
    limited = Resources(device="cpu", time_limit_seconds=0.25)
    result, stopped = None, []
    while result is None and len(stopped) < 20:
        try:
            result = run(config=config, resources=limited)
        except LimitReached as error:
            stopped.append(str(error))
    assert result is not None
    assert stopped
    assert "time limit of 0.25 s at step" in stopped[0]
    untimed = [[{**line, "t": 0} for line in each.metrics] for each in (result, run("whole", config=config))]
    assert untimed[0] == untimed[1]
    times = [line["t"] for line in result.metrics]
    assert times == sorted(times)


def test_a_memory_limit_stops_with_a_checkpoint(run: Callable[..., RunResult], monkeypatch: pytest.MonkeyPatch):
    limited, real = Resources(device="cpu", memory_limit_gb=3), guards.resident_gb
    monkeypatch.setattr(guards, "MEMORY_CHECK_SECONDS", 0)
    monkeypatch.setattr(guards, "resident_gb", lambda: 5.0)
    with pytest.raises(LimitReached, match=r"holds 5\.0 GB of memory at step 0 of 3 .* its limit of 3 GB"):
        run(resources=limited)
    monkeypatch.setattr(guards, "resident_gb", real)
    assert real() > 0.01
    assert run(resources=Resources(device="cpu", memory_limit_gb=1e6)).outputs


def test_a_full_disk_keeps_the_checkpoint_before(
    run: Callable[..., RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save, often = torch.save, Resources(device="cpu", checkpoint_seconds=0)
    calls: list[int] = []

    def save_until_full(content: Any, stream: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            stream.write(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, stream)

    monkeypatch.setattr(checkpoints.torch, "save", save_until_full)
    said = r'disk is full: the checkpoint of step 3 of stage "wide" was not written, the one of step 2 stays'
    with pytest.raises(CheckpointError, match=said):
        run(config={"steps": 5}, resources=often)
    assert [file.suffix for file in (tmp_path / "run" / "checkpoints").iterdir()] == [".pt", ".pt"]
    result = run(config={"steps": 5}, resources=often)
    assert result.outputs[0].sha256 == run("whole", config={"steps": 5}).outputs[0].sha256


def test_a_real_full_device_is_told_from_other_errors():
    with pytest.raises(OSError) as caught, open("/dev/full", "wb", buffering=0) as full:
        torch.save({"x": torch.zeros(10_000)}, full)
    assert checkpoints._is_full(caught.value)
    assert not checkpoints._is_full(OSError(errno.EACCES, "no"))


def test_a_run_that_another_process_holds_writes_nothing_more(run: Callable[..., RunResult], tmp_path: Path):
    def lost(where: Progress) -> None:
        if where.done == 2:
            raise guards.RunLost

    with pytest.raises(guards.RunLost):
        run(config={"steps": 4}, progress=lost)
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_a_second_process_waits_for_the_first(run: Callable[..., RunResult], tmp_path: Path):
    import fcntl

    (tmp_path / "run").mkdir()
    said: list[Progress] = []

    def free_after_two(where: Progress) -> None:
        said.append(where)
        if len(said) == 2:
            lock.close()

    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
        assert run(progress=free_after_two).outputs
    assert [where.stage for where in said[:3]] == ["waiting for another process that holds this run"] * 2 + ["wide"]


# Loops


def test_a_loop_that_is_left_with_break_is_named(method_of: Callable[..., str], tmp_path: Path):
    def recipe(run: Any, config: Any) -> None:
        for _ in run.steps(3, "first"):
            break
        for _ in run.steps(3, "second"):
            pass

    with pytest.raises(StageError, match=r'stage "second" begins, but stage "first" is not over: call run.stop()'):
        run_method(method_of(recipe), config=None, directory=tmp_path, resources=CPU)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (lambda run, _: [list(run.steps(1, "a")), list(run.steps(1, "a"))], 'two stages "a"'),
        (lambda run, _: list(run.steps(1, network=3)), '"network" of stage "train" is a int: it has no state_dict'),
        (lambda run, _: run.stop(), "inside a loop"),
        (lambda run, _: list(run.steps(1, x=Values(y=object()))), r"checkpoint.state.x.y is a object"),
        (lambda run, _: run.input("target"), 'has 0 inputs "target"'),
        (lambda run, _: run.report(x=object()), "report.x is a object"),
        (lambda run, _: run.sample("x", np.zeros((2, 2))), 'sample "x" is float64'),
    ],
)
def test_mistakes_of_a_recipe_are_named(
    method_of: Callable[..., str], tmp_path: Path, recipe: Callable[..., None], said: str
):
    with pytest.raises((StageError, ValueError), match=said):
        run_method(method_of(recipe), config=None, directory=tmp_path, resources=CPU)


def test_objects_that_changed_since_the_checkpoint_are_named(method_of: Callable[..., str], tmp_path: Path):
    sizes = iter([2, 3])

    def recipe(run: Any, config: Any) -> None:
        network = torch.nn.Linear(next(sizes), 1)
        for _ in run.steps(4, network=network):
            pass

    name, looks = method_of(recipe), iter(range(9))

    def stop(where: Progress) -> None:
        if next(looks) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_method(name, config=None, directory=tmp_path, resources=CPU, progress=stop)
    with pytest.raises(CheckpointError, match=r'"network" of stage "train" does not fit its checkpoint'):
        run_method(name, config=None, directory=tmp_path, resources=CPU)


def test_random_numbers_follow_from_seed_and_key_alone(method_of: Callable[..., str], tmp_path: Path):
    drawn = []

    def recipe(run: Any, config: Any) -> None:
        drawn.append([run.rng(*key).integers(1 << 40) for key in (("crop", 3), ("crop", 3), ("crop", 4), ("flip", 3))])

    before = torch.get_rng_state()
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        run_method(method_of(recipe), config=None, directory=tmp_path / folder, seed=seed, resources=CPU)
    assert torch.equal(torch.get_rng_state(), before), "the caller's generator is left as it was"
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][0] == drawn[0][1]
    assert len(set(drawn[0])) == 3


def test_inputs_that_are_missing_or_wrong_are_named(methods_folder: Any, run: Callable[..., RunResult]):
    network = run().network("slim")
    with pytest.raises(NotWhatIsNeeded, match='"wobble" has no input "target": start'):
        run("b", inputs={"target": network})
    with pytest.raises(NotWhatIsNeeded, match='takes one "start", but 2 were given'):
        run("c", inputs={"start": [network, network]})


def test_early_stop_waits_and_gives_the_best_weights_back():
    module = torch.nn.Linear(1, 1, bias=False)
    stop = EarlyStop(patience=2, keep=module)
    said = []
    for step, value in enumerate([0.1, 0.5, math.nan, 0.5]):
        module.weight.data.fill_(step)
        said.append(stop.update(step, value))
    assert said == [False, False, False, True]
    assert (stop.best, stop.best_step) == (0.5, 1)
    again = EarlyStop(patience=2, keep=module)
    again.load_state_dict(unpacked(packed(stop.state_dict(), "stop")))
    again.restore()
    assert module.weight.item() == 1
    with pytest.raises(ValueError, match="patience is 0"):
        EarlyStop(patience=0)


# Devices


def test_a_gpu_that_disappears_fails_or_falls_back_as_configured(
    method_of: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Simulated: the first accelerator says it is a GPU, and the driver's error comes in the middle of the loop."""
    real, opened = local.open_accelerator, []

    class Gpu:
        def __init__(self, inner: Any) -> None:
            self.inner, self.device = inner, torch.device("cuda", 0)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    def open_(resources: Resources) -> Any:
        opened.append(resources.device)
        return Gpu(real(CPU)) if resources.device == "auto" else real(resources)

    def recipe(run: Any, config: Any) -> None:
        counted = Values(steps=[])
        for step in run.steps(5, counted=counted):
            counted["steps"].append(step)
            if run.device.type == "cuda" and step == 3:
                raise RuntimeError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA")
        run.report(steps=counted["steps"], device=run.device.type)

    monkeypatch.setattr(local, "open_accelerator", open_)
    monkeypatch.setattr(local, "device_words", str)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.zeros(16, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    name, often = method_of(recipe), {"checkpoint_seconds": 0}
    said = r"GPU cuda:0 does not answer any more \(CUDA error: unspecified launch failure\)"
    with pytest.raises(DeviceLost, match=said):
        run_method(name, config=None, directory=tmp_path / "fails", resources=Resources(**often))
    resources = Resources(**often, on_device_loss="cpu")
    result = run_method(name, config=None, directory=tmp_path / "falls", resources=resources)
    assert result.report == {"steps": [0, 1, 2, 3, 4], "device": "cpu"}
    assert opened == ["auto", "auto", "cpu"]
    monkeypatch.setattr(local, "open_accelerator", real)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceLost, match="computed on cuda:0 before, and there is no GPU now"):
            run_method(name, config=None, directory=tmp_path / "fails", resources=Resources())
        assert run_method(name, config=None, directory=tmp_path / "fails", device="cpu").report["device"] == "cpu"


def test_which_errors_mean_a_lost_gpu():
    assert is_device_loss(RuntimeError("CUDA error: device-side assert triggered"))
    assert not is_device_loss(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_device_loss(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    require_device(before="cuda:0", now=torch.device("cpu"), resources=Resources(on_device_loss="cpu"))


def test_a_missing_gpu_falls_back_where_that_was_asked_for(run: Callable[..., RunResult]):
    assert run(resources=Resources(device="cuda:77", on_device_loss="cpu")).outputs


def test_bfloat16_on_the_cpu_computes_in_bfloat16(method_of: Callable[..., str], tmp_path: Path):
    seen = []

    def recipe(run: Any, config: Any) -> None:
        network = run.prepare(torch.nn.Linear(2, 2))
        with run.autocast():
            seen.append((torch.ones(1, 2) @ torch.ones(2, 2)).dtype)
        run.backward(network(torch.ones(1, 2)).float().sum())

    for precision in ("bf16", "fp32"):
        resources = Resources("cpu", precision=precision)
        run_method(method_of(recipe), config=None, directory=tmp_path / precision, resources=resources)
    assert seen == [torch.bfloat16, torch.float32]


# Batches


@pytest.mark.parametrize(("n", "size", "drop_last"), [(10, 3, False), (10, 3, True), (9, 3, False), (2, 5, False)])
def test_every_epoch_sees_every_example_once_in_an_order_of_its_own(n: int, size: int, drop_last: bool):
    order = Shuffled(n, size, 4, drop_last=drop_last)
    epochs = [[order.at(epoch * len(order) + step) for step in range(len(order))] for epoch in range(3)]
    sizes = [len(batch) for batch in epochs[0]]
    assert sizes == ([3, 3, 3] if drop_last else {(10, 3): [3, 3, 3, 1], (9, 3): [3, 3, 3], (2, 5): [2]}[n, size])
    for batches in epochs:
        seen = np.concatenate(batches).tolist()
        assert len(set(seen)) == len(seen) == sum(sizes)
    backwards = [Shuffled(n, size, 4, drop_last=drop_last).at(step) for step in reversed(range(len(order)))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(backwards, epochs[0], strict=True))


def test_batches_of_nothing_are_refused():
    with pytest.raises(ValueError, match="training split is empty"):
        Shuffled(0, 3, 0)


def test_prefetch_gives_each_step_its_batch_and_its_error():
    def make(step: int) -> int:
        if step >= 4:
            raise RuntimeError(f"no batch {step}")
        return step * step

    assert list(prefetch(make, range(4))) == [(0, 0), (1, 1), (2, 4), (3, 9)]
    with pytest.raises(RuntimeError, match="no batch 4"):
        list(prefetch(make, range(2, 6), ahead=3, threads=2))


def test_prefetch_asks_for_a_step_only_when_the_one_before_is_over():
    log: list[str] = []

    def steps() -> Any:
        for step in range(2):
            log.append(f"begin {step}")
            yield step

    for step, _ in prefetch(lambda step: step, steps()):
        log.append(f"end {step}")
    assert log == ["begin 0", "end 0", "begin 1", "end 1"]


# Streams


def test_metrics_are_read_as_they_come(tmp_path: Path):
    file = tmp_path / "metrics.jsonl"
    assert read_lines(file) == read_lines(file, 0)
    stream = JsonLines(file)
    stream.append({"step": 0})
    mark = stream.mark()
    first = read_lines(file)
    assert (first.lines, first.position, first.restarted) == ([{"step": 0}], mark, False)
    stream.append({"step": 1})
    with file.open("ab") as raw:
        raw.write(b'{"step": 2')
    second = read_lines(file, first.position)
    assert second.lines == [{"step": 1}]
    stream.cut(mark)
    assert read_lines(file, second.position).restarted
    assert read_lines(file, first.position).lines == []
    file.write_bytes(b'{"step": 0}\nnonsense\n[1]\n{"step": 3}\n')
    assert read_lines(file).lines == [{"step": 0}, {"step": 3}]


def test_samples_are_pictures_with_a_list(tmp_path: Path):
    samples = Samples(tmp_path)
    grey, colour = np.zeros((4, 5), np.uint8), np.full((2, 3, 3), 200, np.uint8)
    samples.add("A pair!", [grey, colour], {"step": 3})
    mark = samples.lines.mark()
    samples.add("later", [grey], {"step": 4})
    samples.cut(mark)
    (entry,) = read_samples(tmp_path).lines
    assert entry == {"name": "A pair!", "files": ["00000-a-pair-0.png", "00000-a-pair-1.png"], "step": 3}
    assert np.array_equal(np.asarray(Image.open(tmp_path / "samples" / entry["files"][1])), colour)
    samples.add("later", [grey], {"step": 4})
    assert read_samples(tmp_path).lines[1]["files"] == ["00001-later-0.png"]


def test_reports_become_plain_json():
    found = as_json({"a": np.float32(1.5), "b": np.arange(2), "c": (math.nan, {"d": None}), 3: True}, "report")
    assert json.loads(json.dumps(found, allow_nan=False)) == {
        "a": 1.5,
        "b": [0, 1],
        "c": [None, {"d": None}],
        "3": True,
    }


def test_what_a_checkpoint_holds_comes_back_as_it_was():
    from collections import Counter

    value = {
        "array": np.arange(6, dtype=np.uint16).reshape(2, 3),
        "big": 1 << 100,
        "pair": (1, [2.5, None, "x"]),
        "scalar": np.int64(3),
        4: Counter({2: 1}),
    }
    back = unpacked(packed(value, "x"))
    assert np.array_equal(back.pop("array"), value.pop("array"))
    assert back == value
    assert isinstance(back[4], Counter)
    for wrong in ({"a": {1, 2}}, {(1, 2): 3}, np.array(["text"])):
        with pytest.raises(CheckpointError):
            packed(wrong, "x")
