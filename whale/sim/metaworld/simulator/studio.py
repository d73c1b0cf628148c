"""One task of Meta-World, and a camera that is twelve times as fast as the simulator's own.

The simulator draws with a shadow map of 4096 and four samples a pixel: 170 ms a frame on a CPU. Without shadows, fog
and reflections, at twice the size and averaged: 13 ms.
"""

import atexit
from functools import lru_cache
from typing import Any

import numpy as np

from whale.sim.metaworld.simulator.opengl import cannot_draw, choose_backend

FLIPPED = ("corner", "corner2", "corner3", "corner4")  # mounted upside down
SWITCHED_OFF = ("mjRND_SHADOW", "mjRND_REFLECTION", "mjRND_FOG", "mjRND_HAZE")


class Studio:
    """`reset`, `step` and `picture` of one task. Results depend on the seed of a reset and what follows it alone."""

    def __init__(self, task: str, camera: str, resolution: int, supersample: int):
        choose_backend()
        import mujoco
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE

        # The plain classes hide the goal, which the experts need.
        self.env: Any = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task}-v3-goal-observable"](seed=0)
        self.env._freeze_rand_vec, self.env.seeded_rand_vec = False, True
        self.camera, self.supersample, size = camera, supersample, resolution * supersample
        model = self.env.model
        model.vis.quality.offsamples, model.vis.quality.shadowsize = 0, 64
        model.vis.global_.offwidth, model.vis.global_.offheight = size, size
        try:
            self.renderer = mujoco.Renderer(model, size, size)
        except Exception as error:  # each backend fails in a way of its own
            raise cannot_draw(error) from None
        self.off = [int(getattr(mujoco.mjtRndFlag, name)) for name in SWITCHED_OFF]
        atexit.register(self.renderer.close)  # EGL complains of what is still open at the end

    def reset(self, seed: int) -> np.ndarray:
        """float64 [39]: the observation of a fresh scene."""
        import mujoco

        self.env.seed(seed)
        mujoco.mj_resetData(self.env.model, self.env.data)  # the solver starts from what it found last
        observation, _ = self.env.reset()
        return observation

    def step(self, action: np.ndarray, repeat: int) -> tuple[np.ndarray, float, bool]:
        """Hold float32 [4] for `repeat` simulator steps: observation, mean reward (0 to 10), success in any of them."""
        rewards, success = [], False
        for _ in range(repeat):
            observation, reward, _, _, info = self.env.step(action)
            rewards.append(float(reward))
            success |= bool(info["success"])
        return observation, float(np.mean(rewards)), success

    def picture(self) -> np.ndarray:
        """uint8 [R, R, 3] RGB, upright: a mean over `supersample` x `supersample` drawn pixels."""
        self.renderer.update_scene(self.env.data, camera=self.camera)
        for flag in self.off:
            self.renderer.scene.flags[flag] = 0
        drawn = self.renderer.render()
        drawn = drawn[::-1] if self.camera in FLIPPED else drawn
        n, size = self.supersample, len(drawn) // self.supersample
        summed = drawn.reshape(size, n, size, n, 3).astype(np.uint16).sum(axis=(1, 3))
        return ((summed + n * n // 2) // (n * n)).astype(np.uint8)


@lru_cache(maxsize=1)
def studio(task: str, camera: str, resolution: int, supersample: int) -> Studio:
    """The studio of this process: the next episode is mostly of the same task, and a studio takes a second."""
    return Studio(task, camera, resolution, supersample)
