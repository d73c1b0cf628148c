"""Evaluate policies: a world, reward head, policies -> the value of each in imagination and in truth."""

from pathlib import Path
from typing import Annotated

from whale.common.run import Run
from whale.common.stage_args import OF_ITEM, StageArgs
from whale.data.storage.shards import ShardSet
from whale.evaluation.numbers.metrics import save_arrays, written
from whale.models.trunk.torch_process import set_up_torch
from whale.runtime.workers.process.execution import load_execution
from whale.trials.contenders import contenders_of
from whale.trials.episodes.true_values import Form, fleet_beginnings, fleet_judge
from whale.trials.evaluate import Trial, TrialStageConfig, run_trials
from whale.trials.report import trial_metrics, trial_protocol
from whale.worlds.load import load
from whale.worlds.trust import entry_in


class Args(StageArgs):
    """The models, a reward head, the shards of the robot's role, and the calibration of uncertainties."""

    models: Path
    reward: Path
    data: Path
    uncertainty: Path
    evaluate_policies: Annotated[TrialStageConfig, OF_ITEM]


def run(args: Args, run: Run) -> None:
    """Closed loops from the same starts, in the world and in the simulator."""
    config, execution = args.evaluate_policies, load_execution()
    device = execution.chosen_device()
    set_up_torch(execution.threads)
    run.note(engine={"device": device})
    folder = args.models / "finetuned" if config.role == "finetune" else args.models
    trials = config.trials
    with run.compute():
        world = load(folder, config.dataset, dynamics=config.model, device=device, verify=False, reward=args.reward)
        world.calibrate(entry_in(args.uncertainty / "calibration.json", world.digests))
        limit = world.limit_if_known(trials.coverage, trials.uncertainty)
        shards = ShardSet.open(args.data / "shards" / config.dataset)
        form = Form(shards.law.images.resolution, shards.law.images.jpeg_quality)
        beginnings = fleet_beginnings(config.dataset, trials.episodes, trials.seed, form)
        judge = fleet_judge(trials.horizon, world.contract, form)
        contenders = contenders_of(trials.policies, world)
        with run.progress(len(contenders), "policies") as progress:
            played = run_trials(world, contenders, beginnings, trials, judge, run.work, progress.update)
        for trial in played:
            save_arrays(run.out / f"{trial.name}.npz", _arrays(trial))
    metrics = trial_metrics(world, played, trials, limit)
    metrics["protocol"] = trial_protocol(world, played, trials, "fleet simulator", "fleet simulator", limit)
    run.write_metrics(written(metrics))


def _arrays(trial: Trial) -> dict:
    optional = {"uncertainty": trial.uncertainty, "success": trial.success}
    return {**trial.rewards, "actions": trial.actions, **{k: v for k, v in optional.items() if v is not None}}
