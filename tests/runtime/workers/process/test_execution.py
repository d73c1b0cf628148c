import pytest
import torch

from whale.common.errors import ConfigError
from whale.runtime.workers.process import execution
from whale.runtime.workers.process.execution import load_execution


def test_defaults_stand_without_a_file_and_an_environment(tmp_path):
    execution = load_execution(tmp_path / "local.yaml", environ={})
    assert set(execution.train_workers.values()) == {"auto"}
    assert execution.map_engine == {"pretokenize": "auto", "embed_behavior": "auto", "finetune_embed": "local"}


def test_the_file_overrides_defaults_and_the_environment_overrides_both(tmp_path):
    local = tmp_path / "local.yaml"
    local.write_text("execution: {train_workers: {train_behavior: 4}, threads: 8, ray_address: 'head:1'}\nother: 1\n")
    execution = load_execution(local, environ={})
    assert execution.train_workers["train_behavior"] == 4 and execution.train_workers["train_tokenizer"] == "auto"
    assert (execution.threads, execution.ray_address) == (8, "head:1")
    environ = {"WHALE_TRAIN_WORKERS": "0", "WHALE_MAP_ENGINE": "local", "WHALE_THREADS": "1"}
    environ |= {"WHALE_DECODED_FRAMES_MB": "3"}
    execution = load_execution(local, environ=environ)
    assert set(execution.train_workers.values()) == {0} and set(execution.map_engine.values()) == {"local"}
    assert (execution.threads, execution.decoded_bytes) == (1, 3 * 2**20)


def test_a_small_dataset_is_mapped_in_this_process_and_a_large_one_on_ray(tmp_path):
    execution = load_execution(tmp_path / "local.yaml", environ={})
    assert execution.engine_for("pretokenize", execution.ray_from_frames - 1) == "local"
    assert execution.engine_for("pretokenize", execution.ray_from_frames) == "ray"
    forced = load_execution(tmp_path / "local.yaml", environ={"WHALE_MAP_ENGINE": "local"})
    assert forced.engine_for("pretokenize", 10**9) == "local"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of so many GPUs, as torch would see it; `cards`: those that the driver shows, perhaps to nobody."""

    def of(gpus: int, cards: int | None = None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA H200")
        nodes = tmp_path / f"dev-{gpus}-{cards}"
        nodes.mkdir()
        for number in range(gpus if cards is None else cards):
            (nodes / f"nvidia{number}").touch()
        (nodes / "nvidiactl").touch()
        monkeypatch.setattr(execution, "DEVICE_NODES", nodes)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        return lambda **environ: load_execution(tmp_path / "local.yaml", environ=environ)

    return of


DEMO = {"train_tokenizer": 8, "train_behavior": 12, "train_dynamics": 8, "finetune_tokenizer": 4}  # batch sizes


@pytest.mark.parametrize(
    ("gpus", "expected", "launcher"),
    [
        # As ever, so the bytes are as ever: two processes where there were two, this process elsewhere.
        (0, {"train_tokenizer": 2, "train_behavior": 0, "train_dynamics": 2, "finetune_tokenizer": 0}, "processes"),
        (1, {"train_tokenizer": 0, "train_behavior": 0, "train_dynamics": 0, "finetune_tokenizer": 0}, "processes"),
        (2, {"train_tokenizer": 2, "train_behavior": 2, "train_dynamics": 2, "finetune_tokenizer": 2}, "ray"),
        (8, {"train_tokenizer": 8, "train_behavior": 6, "train_dynamics": 8, "finetune_tokenizer": 4}, "ray"),
    ],
)
def test_the_demo_is_legal_on_any_machine_and_takes_a_worker_a_gpu(machine, gpus, expected, launcher):
    """Also where the batch of 12 does not divide by 8."""
    chosen = machine(gpus)()
    assert {stage: chosen.workers_for(stage, size) for stage, size in DEMO.items()} == expected
    assert {chosen.launcher_for(stage, number) for stage, number in expected.items() if number} <= {launcher}
    assert chosen.mappers() == (gpus or 2)


@pytest.mark.parametrize("launcher", ["processes", "ray"])
def test_more_workers_than_gpus_are_refused_before_anything_starts(machine, launcher):
    start = machine(1)
    chosen = start(WHALE_TRAIN_WORKERS="2", WHALE_TRAIN_LAUNCHER=launcher)
    with pytest.raises(ConfigError, match=r"2 workers, 1 GPUs") as caught:
        chosen.workers_for("train_dynamics", 8)
    assert "train_workers.train_dynamics" in caught.value.place and "auto" in caught.value.remedy
    assert start(WHALE_TRAIN_WORKERS="2", WHALE_DEVICE="cpu").workers_for("train_dynamics", 8) == 2
    assert start(WHALE_TRAIN_WORKERS="2", WHALE_RAY_ADDRESS="head:1").workers_for("train_dynamics", 8) == 2


@pytest.mark.parametrize(("text", "number"), [("auto", 8), ("4", 4), ("0", 0)])
def test_the_environment_may_say_auto(machine, text, number):
    assert machine(8)(WHALE_TRAIN_WORKERS=text).workers_for("train_dynamics", 8) == number


def test_a_card_that_torch_cannot_use_is_an_error_and_no_quiet_training_on_the_cpu(machine, monkeypatch):
    start = machine(0, cards=1)
    with pytest.raises(ConfigError, match="cannot use the GPU") as caught:
        start().chosen_device()
    assert "nvidia0" in caught.value.found and "driver" in caught.value.remedy
    assert start(WHALE_DEVICE="cpu").chosen_device() == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # somebody hides it on purpose
    assert start().chosen_device() == "cpu"


@pytest.mark.parametrize(("has_gpu", "found"), [(True, "cuda"), (False, "cpu")])
def test_models_lie_on_a_gpu_where_torch_finds_one_unless_the_cpu_is_asked_for(tmp_path, monkeypatch, has_gpu, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    local = tmp_path / "local.yaml"
    assert load_execution(local, environ={}).chosen_device() == found
    local.write_text("execution: {device: cpu}")
    assert load_execution(local, environ={}).chosen_device() == "cpu"
    assert load_execution(local, environ={"WHALE_DEVICE": "auto"}).chosen_device() == found


def test_a_gpu_that_is_not_there_is_refused_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    execution = load_execution(tmp_path / "local.yaml", environ={"WHALE_DEVICE": "cuda"})
    with pytest.raises(ConfigError, match="no GPU") as caught:
        execution.chosen_device()
    assert "WHALE_DEVICE" in caught.value.place and "nvidia-smi" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "environ", "says"),
    [
        ("execution: {train_worker: 1}", {}, "train_worker"),
        ("execution: {threads: 0}", {}, "threads"),
        ("execution: {micro_batch: {train_dynamics: 0}}", {}, "micro_batch.train_dynamics"),
        ("execution: {micro_batch: {train_dynamics: -2}}", {}, "micro_batch.train_dynamics"),
        ("execution: {train_workers: {train_dynamics: -1}}", {}, "train_workers.train_dynamics"),
        ("", {"WHALE_MAP_ENGINE": "spark"}, "map_engine"),
        ("", {"WHALE_DEVICE": "gpu"}, "device"),
        ("execution: {device: 0}", {}, "device"),
        ("", {"WHALE_THREADS": "many"}, "WHALE_THREADS"),
        ("", {"WHALE_THREADS": "auto"}, "WHALE_THREADS"),
        ("execution: {train_workers: {train_dynamics: all}}", {}, "train_workers.train_dynamics"),
        ("", {"WHALE_DECODE_THREADS": "0"}, "decode_threads"),
    ],
)
def test_wrong_settings_are_refused_by_name(tmp_path, text, environ, says):
    local = tmp_path / "local.yaml"
    local.write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_execution(local, environ=environ)
