import pytest
import torch

from whale.common.errors import ConfigError
from whale.runtime.workers.execution import load_execution


def test_defaults_stand_without_a_file_and_an_environment(tmp_path):
    execution = load_execution(tmp_path / "local.yaml", environ={})
    assert execution.train_workers["train_tokenizer"] == 2 and execution.train_workers["train_behavior"] == 0
    assert execution.map_engine == {"pretokenize": "auto", "embed_behavior": "auto", "finetune_embed": "local"}


def test_the_file_overrides_defaults_and_the_environment_overrides_both(tmp_path):
    local = tmp_path / "local.yaml"
    local.write_text("execution: {train_workers: {train_behavior: 4}, threads: 8, ray_address: 'head:1'}\nother: 1\n")
    execution = load_execution(local, environ={})
    assert execution.train_workers["train_behavior"] == 4 and execution.train_workers["train_tokenizer"] == 2
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
    ],
)
def test_wrong_settings_are_refused_by_name(tmp_path, text, environ, says):
    local = tmp_path / "local.yaml"
    local.write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_execution(local, environ=environ)
