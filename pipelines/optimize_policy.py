"""Optimize a policy: world model, reward head, recordings of a task -> policies, and what they really succeed in."""

from pathlib import Path
from typing import Annotated

from whale.common.files import WEIGHTS, sha256_of_file
from whale.common.json_files import write_json
from whale.common.run import Run
from whale.common.stage_args import OF_ITEM, StageArgs
from whale.control.arenas import MetaworldArenaConfig, arena_of
from whale.control.demonstrations import Demonstrations
from whale.control.optimize import Optimization, OptimizePolicyConfig
from whale.control.summary import curves, metrics, optimization_protocol, table
from whale.data.storage.shards import ShardSet
from whale.evaluation.numbers.metrics import save_arrays, written
from whale.models.trunk.folder import save_model
from whale.models.trunk.torch_process import set_up_torch
from whale.reward.reading import encoder_digest
from whale.reward.reward import RewardHead
from whale.runtime.workers.process.execution import load_execution
from whale.training.loop.resume.checkpoint import StateFolder
from whale.trials.episodes.true_values import Form
from whale.worlds.load import load


class Args(StageArgs):
    """The models, the folder of reward heads, and the shards of the pretraining datasets."""

    models: Path
    reward: Path
    shards: Path
    optimize_policy: Annotated[OptimizePolicyConfig, OF_ITEM]


def run(args: Args, run: Run) -> None:
    """Every run of learning is kept by rounds below `run.work`: one that was killed goes on there."""
    config, execution = args.optimize_policy, load_execution()
    device = execution.chosen_device()
    set_up_torch(execution.threads)
    run.note(engine={"device": device})
    with run.compute():
        world = load(args.models, config.dataset, dynamics=config.model, device=device, verify=False, checking="off",
                     calibrated=False)  # fmt: skip
        shards = ShardSet.open(args.shards / config.dataset)
        raw = config.arena.image if isinstance(config.arena, MetaworldArenaConfig) else "jpeg"
        form = Form(shards.law.images.resolution, shards.law.images.jpeg_quality, raw)
        arena = arena_of(config.arena, config.task, world.contract, form)
        demonstrations = Demonstrations.read(shards, "train", config.task)
        head = RewardHead.of_encoder(args.reward / config.reward, encoder_digest(world.model.tokenizer), device)
        optimization = Optimization(config, world, head, demonstrations, arena, args.models)
        expert = optimization.expert()
        with run.progress(config.rounds, "rounds") as progress:

            def tell(done: int, earlier: bool) -> None:
                if earlier:
                    progress.resume_at(progress.done + done)
                else:
                    progress.update(done)

            def states(name: str) -> StateFolder:
                return StateFolder(run.work / name, identity=run.identity)

            learned = list(optimization.runs(states, tell))
    for each in learned:
        name = f"{each.method}.{each.seed}"
        (run.out / name).mkdir()
        save_model(run.out / name, each.policy)
        write_json(run.out / name / "records.json", each.records)
    save_arrays(run.out / "curves.npz", curves(learned, config))
    found = metrics(learned, expert, config)
    digest = sha256_of_file(args.reward / config.reward / WEIGHTS)[:16]
    found["protocol"] = optimization_protocol(world, shards.digest[:16], digest, arena.name, config)
    run.write_metrics(written(found))
    print(table(found, config), flush=True)
