"""Train one dynamics model: tokens, z, sampling plan -> dynamics."""

import json
from functools import partial

from whale.config import load_seed, stage_args
from whale.data.segments import SegmentConfig
from whale.models.tokenizer import VideoTokenizer
from whale.runtime.guard.stage import stage
from whale.runtime.training_stage import GRACE_SECONDS, run_training
from whale.training.communicator import Communicator
from whale.training.dynamics_task import TrainDynamicsConfig, dynamics_task, new_dynamics
from whale.training.inputs import TokenInputs
from whale.training.loop import Task


def build(communicator: Communicator, config: TrainDynamicsConfig, inputs: TokenInputs, num_codes: int) -> Task:
    """The task of one worker."""
    loader = inputs.loader(communicator, config.optimization.batch_size, stream="dynamics")
    model = new_dynamics(config, num_codes=num_codes, seed=inputs.seed)
    return dynamics_task(model, config.optimization, loader)


def main() -> None:
    args = stage_args("tokens", "z", "mix", "tokenizer", "out", doc=__doc__)
    config, segments = TrainDynamicsConfig.load("train_dynamics", args.item), SegmentConfig.load("segments")
    values = {"train_dynamics": config, "segments": segments, "seed": load_seed()}
    with stage("train_dynamics", args, values, grace_seconds=GRACE_SECONDS) as run:
        statistics = json.loads((args.mix / "statistics.json").read_text())
        inputs = TokenInputs(args.tokens, args.z, args.mix, statistics, segments, load_seed())
        num_codes = VideoTokenizer.restore(args.tokenizer).config.num_codes
        run_training(
            run,
            "train_dynamics",
            partial(build, config=config, inputs=inputs, num_codes=num_codes),
            config.optimization.training_steps,
            statistics=statistics,
            contracts=json.loads((args.tokenizer / "contract.json").read_text()),
        )


if __name__ == "__main__":
    main()
