"""Fine-tune one dynamics model: tokens, z of the demonstrations, an entry of train_dynamics -> dynamics."""

from functools import partial
from pathlib import Path
from typing import Annotated

from whale.common.json_files import read_json
from whale.common.run import Run
from whale.common.stage_args import OF_ITEM
from whale.data.segments.grid import SegmentConfig
from whale.models.dynamics.dynamics import Dynamics
from whale.runtime.train.training_stage import TrainingArgs, run_training
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import TokenInputs
from whale.training.loop.task import Task
from whale.training.tasks.dynamics import FinetuneDynamicsConfig, dynamics_task


class Args(TrainingArgs):
    """Tokens and z of the demonstrations, the pretrained dynamics, and the behavior model for its statistics."""

    tokens: Path
    z: Path
    behavior: Path
    initial: Path
    finetune_dynamics: Annotated[FinetuneDynamicsConfig, OF_ITEM]
    segments: SegmentConfig
    seed: int


def build(communicator: Communicator, config: FinetuneDynamicsConfig, inputs: TokenInputs, initial: Path) -> Task:
    """The task of one worker."""
    loader = inputs.loader(communicator, config.optimization.batch_size, stream="finetune_dynamics")
    return dynamics_task(Dynamics.restore(initial), config.optimization, loader)


def run(args: Args, run: Run) -> None:
    """The same loss as in pretraining, on the demonstrations alone."""
    config = args.finetune_dynamics
    statistics = read_json(args.behavior / "dataset_statistics.json")
    inputs = TokenInputs(args.tokens, args.z, None, statistics, args.segments, args.seed)
    run_training(
        run,
        partial(build, config=config, inputs=inputs, initial=args.initial),
        config.optimization,
        statistics=statistics,
        contracts=read_json(args.behavior / "contract.json"),
    )
