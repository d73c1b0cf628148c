import re

import numpy as np

from whale.reporting.first_screen import first_screen

GROUP = "pretrain.blocks.val"
AT = f"{GROUP}.dynamics.full.rollout"


def words(video=None, uncertainty=None, films=None, tmp_path=None) -> str:
    html = str(first_screen(films or {}, video or {}, uncertainty or {}, [], tmp_path, "mine"))
    return re.sub(r"data:image/[^\"]*", "", html)


def test_it_says_how_good_and_marks_what_is_worse_than_a_still_image(tmp_path):
    video = {f"{AT}.h8.ee": 0.4, f"{AT}.h8.ee.low": 0.3, f"{AT}.h8.ee.high": 0.5}
    video |= {f"{AT}.h8.ssim": 0.7, f"{AT}.h8.ssim_copy_last": 0.8}
    video |= {f"{AT}.h8.psnr_moving": 19.0, f"{AT}.h8.psnr_moving_copy_last": 14.0}
    html = words(video, tmp_path=tmp_path)
    assert "0.40 [0.30, 0.50]" in html and "19.0 | 14.0" in html
    (worse,) = re.findall(r'<td class="n worse" title="[^"]+">([^<]+)', html)
    assert worse == "0.700 | 0.800"
    assert len(re.findall(r'<td class="n[^"]*" title="[^"]+">', html)) == 3  # a meaning at each number


def test_a_probe_too_weak_and_a_missing_state_are_said(tmp_path):
    assert "probe too weak" in words({f"{AT}.h8.ee_unjudged": 0.4}, tmp_path=tmp_path)
    said = {f"{AT}.ee_status": "no recorded state", f"{AT}.h8.ssim": 0.7, f"{AT}.h8.ssim_copy_last": 0.6}
    assert "no recorded state" in words(said, tmp_path=tmp_path)


def test_retracing_stands_beside_its_simple_rival(tmp_path):
    key = f"{GROUP}.{{}}.latent.per_rollout.pearson"
    found = {key.format("retracing"): 0.35, key.format("moved"): 0.55}
    assert re.search(r"n worse[^>]+>0\.35<[\s\S]*class=\"n\"[^>]+>0\.55<", words(None, found, tmp_path=tmp_path))


def test_nothing_measured_is_said(tmp_path):
    assert words(tmp_path=tmp_path).count("not measured") == 2


def test_the_strip_shows_imagined_steps_only(tmp_path):
    frames = np.zeros((1, 9, 8, 8, 3), np.uint8)
    films = {GROUP: {"recorded": frames, "imagined.full": frames[:, 1:], "imagined.copy_last": frames[:, 1:]}}
    html = words(films=films, tmp_path=tmp_path)
    assert all(f"<span>{label}</span>" in html for label in ("recorded", "imagined", "still")) and "--frames:5" in html
