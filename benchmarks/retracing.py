"""What retracing {1, 2, 3} costs beside a plain step, batched and looped, at batch 8.

    python benchmarks/retracing.py [--rounds 6] [--batch 8]

Our whole world model at a small size (64 x 64 pixels, 64 tokens, D 128), random weights, one thread: a step is prior,
dynamics and decoder. Row-steps: batched 10 in 4 sequential steps (a row joins where its branch leaves the recorded
path), looped the same 10 in 10. The ratio is to one plain step of the same model at the same batch.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measure import machine
from model_work import interleaved

from whale.evaluation.uncertainty.estimation.retracing import retraced
from whale.models.behavior.behavior import BehaviorConfig, BehaviorModel
from whale.models.dynamics.dynamics import Dynamics, DynamicsConfig
from whale.models.tokenizer.tokenizer import TokenizerConfig, VideoTokenizer
from whale.models.trunk.st_transformer import STTransformerConfig
from whale.models.world.learned import LearnedWorld
from whale.models.world.rollout import Query

DEPTHS, CONTEXT, WINDOW = (1, 2, 3), 8, 16
TRUNK = STTransformerConfig(num_layers=4, num_heads=4, d_model=128)


def small_world() -> LearnedWorld:
    """Seeded random networks of the real architecture."""
    torch.manual_seed(0)
    tokenizer = TokenizerConfig(
        resolution=64, patch_size=8, num_codes=512, latent_dim=32, commitment=0.25, encoder=TRUNK, decoder=TRUNK
    )
    behavior = BehaviorConfig(
        resolution=64, patch_size=16, action_size=7, num_categories=16, num_classes=16, kl_beta=0.1, unimix=0.01,
        log_std_range=[-2.0, 5.0], posterior=TRUNK, prior=TRUNK, policy=TRUNK,
    )  # fmt: skip
    dynamics = DynamicsConfig(num_codes=512, action_size=7, z_size=256, behavior_conditioning=True, trunk=TRUNK)
    parts = (VideoTokenizer(tokenizer), BehaviorModel(behavior), Dynamics(dynamics))
    return LearnedWorld(*(part.eval() for part in parts), window=WINDOW)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    world = small_world()
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (arguments.batch, CONTEXT, 64, 64, 3), dtype=torch.uint8, generator=generator)
    actions = torch.rand(arguments.batch, CONTEXT, 7, generator=generator) * 2 - 1
    state, action = world.start(frames, actions[:, :-1]), actions[:, -1]
    contenders = {"plain step": lambda: world.step(state, action)}
    for form in ("batched", "looped"):
        contenders[form] = lambda f=form: retraced(Query(world, state, action), DEPTHS, form=f)
    clocks = interleaved(contenders, arguments.rounds)
    print(f"machine: {machine()}; torch {torch.__version__}; batch {arguments.batch}, depths {DEPTHS}")
    print(f"{'':22}{'ms best':>9}{'median':>9}{'plain steps':>13}{'row-steps':>11}{'sequential':>12}")
    for name, clock in clocks.items():
        rows, sequential = {"plain step": (1, 1), "batched": (10, 4), "looped": (10, 10)}[name]
        times = f"{clock.best * 1e3:9.1f}{clock.median * 1e3:9.1f}{clock.best / clocks['plain step'].best:12.1f}x"
        print(f"{name:22}{times}{rows:11}{sequential:12}")
    print("aim on a CPU: 11 plain steps or fewer")


if __name__ == "__main__":
    main()
