"""Is everything here that Meta-World needs: its packages, and an OpenGL that draws without a screen?

Two programs draw the same pixels as long as Mesa is the same one, so its name is kept beside the data.
"""

import ctypes
import importlib.util
import os
from importlib.metadata import version

from whale.common.errors import MissingInputError

BACKENDS = {"osmesa": ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"), "egl": ("libEGL.so.1",)}
PACKAGES = ("metaworld", "mujoco")
INSTALL = ".venv/bin/pip install -c constraints.txt -e '.[metaworld]'"
APT = "apt-get install libegl1 libegl-mesa0 (or libosmesa6)"


def choose_backend() -> None:
    """Before mujoco is imported: the first backend whose library is here, unless MUJOCO_GL names one."""
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa's own threads only get in the way of our processes
    if "MUJOCO_GL" not in os.environ:
        found = [name for name, libraries in BACKENDS.items() if any(map(_loads, libraries))]
        os.environ["MUJOCO_GL"] = found[0] if found else "egl"


def drawn_by() -> dict[str, str]:
    """What decides the pixels: the OpenGL that draws here, and the simulator's versions.

    MissingInputError with the one command that brings what is missing. A process that calls this must never import
    TensorFlow afterwards.
    """
    gone = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if gone:
        raise MissingInputError("Meta-World is not installed", found=f"no package {', '.join(gone)}", remedy=INSTALL)
    choose_backend()
    try:
        from mujoco import GLContext  # which backend it is, is decided here
        from OpenGL import GL

        context = GLContext(16, 16)
        context.make_current()
        names = {"gl_renderer": GL.glGetString(GL.GL_RENDERER), "gl_version": GL.glGetString(GL.GL_VERSION)}
        context.free()
        found = {name: value.decode() for name, value in names.items()}
    except Exception as error:  # each backend fails in a way of its own
        raise cannot_draw(error) from None
    return found | {name: version(name) for name in PACKAGES}


def cannot_draw(error: BaseException) -> MissingInputError:
    """What to say where no picture can be drawn."""
    found = f"MUJOCO_GL={os.environ.get('MUJOCO_GL')}: {type(error).__name__}: {error}"
    return MissingInputError("Meta-World cannot draw here", found=found[:300], remedy=APT,
                             expected="an OpenGL library that draws without a screen")  # fmt: skip


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
