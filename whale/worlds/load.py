"""`whale.load`: a folder -> a `World`, every byte proven first. Needs torch, numpy and safetensors, no DVC."""

from pathlib import Path

from whale.models.behavior.behavior import BehaviorModel
from whale.models.dynamics.dynamics import Dynamics
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.models.world.actions import ActionMap
from whale.models.world.learned import LearnedWorld
from whale.worlds.contract import ActionContract
from whale.worlds.folder import WorldFolder, chosen_dataset, open_folder
from whale.worlds.reward_head import RewardHead
from whale.worlds.starts import Start, read_starts
from whale.worlds.trust import entry_in
from whale.worlds.world import Checking, World


def load(
    folder: Path | str, robot: str | None = None, *, dynamics: str = "full", device: str = "cpu", verify: bool = True,
    checking: Checking = "enforce",
) -> World:  # fmt: skip
    """The world in an exported bundle or in the pipeline's own `models` folder, in evaluation mode on `device`.

    robot: the dataset whose actions will come; needed where the model knows several. verify: every file against its
    MANIFEST.json; MismatchError names one that differs. checking off: actions that only look wrong pass in silence.
    """
    found = open_folder(folder, dynamics, verify)
    name = chosen_dataset(found, robot)
    contract = ActionContract.of(name, found.contracts[name], found.statistics.get(name), found.folder)
    digests = found.digests
    calibration = None if found.calibration is None else entry_in(found.calibration, found.measured)
    model = _model(found, contract, device)
    world = World(
        model=model,
        contract=contract,
        digests=digests,
        measured=found.measured,
        lineage=found.lineage,
        starts=_starts(found, name, model.tokenizer.config.resolution, len(contract.dimensions)),
        reward=None if found.reward is None else RewardHead.of_world(found.reward, found.measured, device),
        checking=checking,
    )
    world.calibrate(calibration)
    return world


def _model(found: WorldFolder, contract: ActionContract, device: str) -> LearnedWorld:
    return LearnedWorld(
        VideoTokenizer.restore(found.tokenizer, device), BehaviorModel.restore(found.behavior, device),
        Dynamics.restore(found.dynamics, device), found.window, ActionMap.of(contract.normalizer),
    )  # fmt: skip


def _starts(found: WorldFolder, name: str, resolution: int, action_size: int) -> list[Start]:
    path = None if found.starts is None else found.starts / f"{name}.npz"
    return read_starts(path, resolution, action_size) if path is not None and path.is_file() else []
