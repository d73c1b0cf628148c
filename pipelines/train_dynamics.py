"""Train one dynamics model: tokens, z, sampling plan -> dynamics."""

from functools import partial
from pathlib import Path
from typing import Annotated

from whale.common.json_files import read_json
from whale.common.run import Run
from whale.common.stage_args import OF_ITEM
from whale.data.segments.grid import SegmentConfig
from whale.models.trunk.folder import read_config
from whale.runtime.train.training_stage import TrainingArgs, run_training
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import TokenInputs
from whale.training.loop.task import Task
from whale.training.tasks.dynamics import TrainDynamicsConfig, dynamics_task, new_dynamics


class Args(TrainingArgs):
    """Tokens and z of the pretraining datasets, the plan of what to draw, and the tokenizer for its number of codes."""

    tokens: Path
    z: Path
    mix: Path
    tokenizer: Path
    train_dynamics: Annotated[TrainDynamicsConfig, OF_ITEM]
    segments: SegmentConfig
    seed: int


def build(communicator: Communicator, config: TrainDynamicsConfig, inputs: TokenInputs, num_codes: int) -> Task:
    """The task of one worker."""
    loader = inputs.loader(communicator, config.optimization.batch_size, stream="dynamics")
    model = new_dynamics(config, num_codes=num_codes, z_shape=inputs.z_shape(), seed=inputs.seed)
    return dynamics_task(model, config.optimization, loader)


def run(args: Args, run: Run) -> None:
    """The next frame's tokens from tokens, actions and z."""
    config = args.train_dynamics
    statistics = read_json(args.mix / "statistics.json")
    seed = args.seed if config.seed is None else config.seed
    inputs = TokenInputs(args.tokens, args.z, args.mix, statistics, args.segments, seed, config.data_fraction)
    run_training(
        run,
        partial(
            build, config=config, inputs=inputs, num_codes=read_config(args.tokenizer, "video_tokenizer")["num_codes"]
        ),
        config.optimization,
        statistics=statistics,
        contracts=read_json(args.tokenizer / "contract.json"),
    )
