import json
from pathlib import Path

from whale.cli import run


def test_the_command_marks_counts_and_says_what_to_try_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("profile: mine\n")
    Path("artifacts/mine/metrics").mkdir(parents=True)
    values = {"ssim": 0.7, "ssim_copy_last": 0.75}
    models = {f"pretrain.arm.test.dynamics.{name}.rollout.h3": values for name in ("full", "small")}
    Path("artifacts/mine/metrics/evaluate_video.json").write_text(json.dumps(models))
    assert run(["metrics"]) == 0
    said = capsys.readouterr().out
    assert "ours | baseline" in said and "! 0.7 | 0.75" in said and "small" not in said
    assert "1 of 1 comparisons are worse" in said and "rollout SSIM (0 of 1)" in said
    assert "whale rollout artifacts/mine/models/dynamics/full --episode arm/test/0" in said
    assert run(["metrics", "--all"]) == 0
    assert "rollout SSIM, 3 steps, small" in capsys.readouterr().out
