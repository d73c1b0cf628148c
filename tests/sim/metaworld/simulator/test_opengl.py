"""Without the packages or an OpenGL there is one message, with the command that brings what is missing."""

import os
import subprocess
import sys

import pytest

from whale.common.errors import MissingInputError
from whale.sim.metaworld.simulator import opengl


def test_missing_packages_are_named_with_the_command_that_installs_them(monkeypatch):
    monkeypatch.setattr(opengl, "PACKAGES", ("no_such_simulator",))
    with pytest.raises(MissingInputError, match="no_such_simulator") as caught:
        opengl.drawn_by()
    assert caught.value.exit_code == 2 and ".[metaworld]" in caught.value.remedy


@pytest.mark.parametrize("backend", ["osmesa", "egl", "glfw"])
def test_an_opengl_that_is_not_there_is_one_message_with_exit_code_2(backend, drawn):
    """In a process of its own: mujoco chooses its backend once. No machine of ours has all of them."""
    code = "from whale.sim.metaworld.simulator.opengl import drawn_by\n"
    code += "from whale.common.errors import WhaleError\n"
    code += "try:\n    print(drawn_by())\n"
    code += "except WhaleError as error:\n    print(error)\n    raise SystemExit(error.exit_code)"
    environment = os.environ | {"MUJOCO_GL": backend}
    environment.pop("DISPLAY", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        pytest.skip(f"{backend} is here")
    assert done.returncode == 2, done.stderr
    assert "cannot draw here" in done.stdout and f"MUJOCO_GL={backend}" in done.stdout and opengl.APT in done.stdout


def test_the_opengl_and_the_simulator_that_draw_are_named(drawn):
    assert set(drawn) == {"gl_renderer", "gl_version", "metaworld", "mujoco"} and all(drawn.values())
