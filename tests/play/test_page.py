"""The page in a real browser: keys move the imagined arm, settings take hold, and time goes back."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_world
from browser import Browser, browser_path

ROOT = Path(__file__).parents[2]
BUNDLED, SECOND = "a_robot", "b_robot"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser_path() is None, reason="no Chromium here: apt-get install chromium"),
]
IDLE = "!busy && !wanted.length && !held.size"
FRAME = "[...painter.{}.getImageData(0, 0, about.resolution, about.resolution).data].join()"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Of `whale play`, as a person starts it."""
    bundle = tiny_world.write_bundle(tmp_path_factory.mktemp("world"), robots=(BUNDLED, SECOND), seen=True)
    command = [sys.executable, "-c", "import whale.cli; whale.cli.main()", "play", str(bundle)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        lines = iter(process.stdout.readline, "")
        yield next(found[0] for line in lines if (found := re.search(r"http://\S+", line)))
        process.terminate()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(tmp_path_factory.mktemp("browser"))
    yield found
    found.close()


@pytest.fixture
def page(browser, url):
    """The page, freshly opened, at its first frame."""
    browser.errors.clear()
    browser.look()
    browser.open("about:blank")
    browser.open(url)
    browser.wait_for("document.body.dataset.step === '0' && " + IDLE)
    yield browser
    assert not browser.errors


def frame(page, name="imagined"):
    return page.value(FRAME.format(name))


def at(page):
    return int(page.value("document.body.dataset.step"))


def press(page, key):
    """One tap: at least one step."""
    before = at(page)
    page.key(key)
    page.wait_for(f"document.body.dataset.step > {before} && {IDLE}")


def choose(page, name, value):
    page.value(f"$('{name}').value = '{value}'; $('{name}').dispatchEvent(new Event('change'))")


def step_back_to(page, step):
    while at(page) > step:
        before = at(page)
        page.key("Backspace")
        page.wait_for(f"document.body.dataset.step == {before - 1} && {IDLE}")


def test_keys_move_the_world_and_another_key_leads_to_another_frame(page):
    first = frame(page)
    assert first == frame(page, "recorded")
    press(page, "w")
    forward = frame(page)
    moved = page.value("moments[1].action")
    assert forward != first and moved[0] > 0 and moved[1] == 0
    step_back_to(page, 0)
    assert frame(page) == first
    press(page, "s")
    assert page.value("moments[1].action")[0] == -moved[0] and frame(page) != forward
    step_back_to(page, 0)
    press(page, "w")
    assert page.value("moments[1].action") == moved and page.value("moments.length") >= 2


def test_a_key_that_is_held_moves_on_and_stops_when_it_is_let_go(page):
    page.key("a", seconds=2.0)
    page.wait_for(f"document.body.dataset.step > 2 && {IDLE}")
    step = at(page)
    page.wait_for("new Promise((done) => setTimeout(() => done(true), 500))")
    assert at(page) == step and page.value("moments[2].action[1]") > 0


def test_the_gripper_closes_and_opens(page):
    press(page, " ")
    assert page.value("moments[1].action[6]") == 0 and page.value("$('gripper').textContent") == "closed"
    press(page, " ")
    assert page.value("moments[2].action[6]") == 1


def test_buttons_for_a_finger_do_what_keys_do(page):
    page.click("#pads button[data-axis='2'][data-sign='-1']")
    page.wait_for(f"document.body.dataset.step > 0 && {IDLE}")
    assert page.value("moments[1].action[2]") < 0


def test_a_gamepad_steers_and_its_first_button_is_the_gripper(page):
    pad = "navigator.getGamepads = () => [null, {{axes: [0, {}, 0.1, 0], buttons: [{{pressed: {}}}]}}]"
    page.value(pad.format(-1, "false"))
    page.wait_for("document.body.dataset.step >= 2")
    page.value(pad.format(0, "false"))
    page.wait_for(IDLE)
    moved = page.value("moments[1].action")
    assert moved[0] > 0 and moved[5] == 0  # a stick that rests a little off its middle moves nothing
    before = at(page)
    page.value(pad.format(0, "true"))
    page.wait_for(f"document.body.dataset.step > {before} && {IDLE}")
    assert page.value(f"moments[{before + 1}].action[6]") == 0


def test_the_recorded_actions_play_beside_the_recorded_frames(page):
    choose(page, "by", "recorded")
    beside = frame(page, "recorded")
    page.key("p")
    page.wait_for("document.body.dataset.step == 12 && $('notice').textContent.includes('recorded actions end')")
    assert not page.value("playing") and frame(page, "recorded") != beside
    assert [each for each in page.errors if "400" not in each] == []  # the refused step stands in the browser's log
    page.errors.clear()


def test_the_behavior_models_own_policy_drives(page):
    choose(page, "by", "behavior")
    page.click("#forward")
    page.wait_for(f"document.body.dataset.step == 1 && {IDLE}")
    assert page.value("moments[1].by") == "behavior" and any(page.value("moments[1].action"))


def test_the_strip_shows_uncertainties_and_the_calibrated_limit(page):
    for doubt in ("entropy", "retracing"):
        choose(page, "doubt", doubt)
        for _ in range(3):
            press(page, "w")
        last = page.value("moments[moments.length - 1]")
        assert last["doubt"] == doubt and last["limit"] > 0 and last["uncertainty"] > 0
    assert "80 % of held-out steps" in page.value("$('limit').textContent")
    dark = "[...$('strip').getContext('2d').getImageData(0, 0, $('strip').width, $('strip').height).data]"
    assert page.value(f"new Set({dark}).size") > 4
    choose(page, "frames", "drawn")
    assert page.value("$('limit').textContent").endswith("if frames are the most likely ones: here it is rough")
    choose(page, "doubt", "none")
    press(page, "w")
    assert page.value("$('doubt-now').textContent") == "" and page.value("$('limit').textContent") == ""


def test_a_click_into_the_strip_goes_back_to_that_step(page):
    for _ in range(4):
        press(page, "r")
    place = page.value("$('strip').getBoundingClientRect().x + 1.5 * stripSlot($('strip').clientWidth)")
    page.value(f"$('strip').dispatchEvent(new MouseEvent('click', {{clientX: {place}, bubbles: true}}))")
    page.wait_for(f"document.body.dataset.step == 2 && {IDLE}")


def test_z_another_first_frame_and_another_robot_are_chosen_on_the_page(page):
    before = frame(page)
    choose(page, "z", "drawn")
    assert not page.value("$('z-seed-label').hidden")
    doubts = set()
    for number in (0, 0, 1):  # the likeliest frame of an untrained network may be the same, how sure it is is not
        step_back_to(page, 0)
        page.value(f"$('z-seed').value = {number}")
        press(page, "w")
        doubts.add(page.value("moments[1].uncertainty"))
    assert len(doubts) == 2
    choose(page, "start", "2")
    page.wait_for(f"document.body.dataset.step == 0 && {IDLE}")
    assert frame(page) != before
    choose(page, "dataset", SECOND)
    page.wait_for(f"about.dataset === '{SECOND}' && document.body.dataset.step == 0 && {IDLE}")
    press(page, "w")


def test_a_gif_of_the_drive_can_be_saved(page):
    press(page, "w")
    head = (
        "fetch($('gif').href).then((a) => a.arrayBuffer()).then((b) => String.fromCharCode(...new Uint8Array(b, 0, 6)))"
    )
    assert page.value(head) == "GIF89a"


@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_off_at_either_width_and_text_stands_out(page, width, dark):
    page.look(width, 900, dark)
    assert page.value("document.documentElement.scrollWidth <= window.innerWidth")
    wide = page.value("[...document.querySelectorAll('section, button, select')]"
                      ".filter((each) => each.getBoundingClientRect().right > window.innerWidth).length")  # fmt: skip
    assert wide == 0
    colours = page.value("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    text, back = (sum(map(int, re.findall(r"\d+", each)[:3])) / 3 for each in colours)
    assert (text > 180 and back < 60) if dark else (text < 60 and back > 220)


def test_a_wrong_token_shows_no_page(browser, url):
    head, _, token = url.rstrip("/").rpartition("/")
    browser.open(f"{head}/{'x' * len(token)}/")
    browser.wait_for("document.body.textContent.includes('no token, or a wrong one')")
    assert browser.value("document.querySelector('canvas')") is None


def test_when_the_server_is_gone_the_page_says_so(browser, tmp_path):
    bundle = tiny_world.write_bundle(tmp_path, seen=True)
    command = [sys.executable, "-c", "import whale.cli; whale.cli.main()", "play", str(bundle)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        lines = iter(process.stdout.readline, "")
        browser.open(next(found[0] for line in lines if (found := re.search(r"http://\S+", line))))
        browser.wait_for("document.body.dataset.step === '0' && " + IDLE)
        process.terminate()
        process.wait(60)
    browser.key("w")
    browser.wait_for("$('notice').textContent.includes('whale play')")
