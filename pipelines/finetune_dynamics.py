"""Fine-tune one dynamics model: tokens, z of the demonstrations, an entry of train_dynamics -> dynamics."""

import json
from functools import partial
from pathlib import Path

from whale.config import load_seed, stage_args
from whale.data.segments import SegmentConfig
from whale.models.dynamics import Dynamics
from whale.runtime.guard.stage import stage
from whale.runtime.training_stage import GRACE_SECONDS, run_training
from whale.training.communicator import Communicator
from whale.training.dynamics_task import FinetuneDynamicsConfig, dynamics_task
from whale.training.inputs import TokenInputs
from whale.training.loop import Task


def build(communicator: Communicator, config: FinetuneDynamicsConfig, inputs: TokenInputs, initial: Path) -> Task:
    """The task of one worker."""
    loader = inputs.loader(communicator, config.optimization.batch_size, stream="finetune_dynamics")
    return dynamics_task(Dynamics.restore(initial), config.optimization, loader)


def main() -> None:
    args = stage_args("tokens", "z", "behavior", "initial", "out", doc=__doc__)
    config, segments = FinetuneDynamicsConfig.load("finetune_dynamics", args.item), SegmentConfig.load("segments")
    values = {"finetune_dynamics": config, "segments": segments, "seed": load_seed()}
    with stage("finetune_dynamics", args, values, grace_seconds=GRACE_SECONDS) as run:
        statistics = json.loads((args.behavior / "dataset_statistics.json").read_text())
        inputs = TokenInputs(args.tokens, args.z, None, statistics, segments, load_seed())
        run_training(
            run,
            "finetune_dynamics",
            partial(build, config=config, inputs=inputs, initial=args.initial),
            config.optimization.training_steps,
            statistics=statistics,
            contracts=json.loads((args.behavior / "contract.json").read_text()),
        )


if __name__ == "__main__":
    main()
