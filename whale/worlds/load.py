"""`whale.load`: a folder -> a `World`, every byte proven first. Needs torch, numpy and safetensors, no DVC."""

from collections.abc import Sequence
from pathlib import Path

from whale.common.files import MANIFEST_NAME, sha256_of_file
from whale.common.json_files import read_json
from whale.models.behavior.behavior import BehaviorModel
from whale.models.dynamics.dynamics import Dynamics
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.models.trunk.folder import CONFIG
from whale.models.world.actions import ActionMap
from whale.models.world.learned import LearnedWorld
from whale.reward.reading import encoder_digest
from whale.reward.reward import RewardHead
from whale.seal import verify_sealed
from whale.worlds.contract import ActionContract
from whale.worlds.folder import WorldFolder, chosen_dataset, open_folder
from whale.worlds.starts import Start, read_starts
from whale.worlds.trust import entry_in
from whale.worlds.world import Checking, World


def load(
    folder: Path | str, robot: str | None = None, *, dynamics: str = "full", device: str = "cpu", verify: bool = True,
    checking: Checking = "enforce", reward: Path | str | None = None, calibrated: bool = True,
) -> World:  # fmt: skip
    """The world in an exported bundle or in the pipeline's own `models` folder, in evaluation mode on `device`.

    robot: the dataset whose actions will come; needed where the model knows several. verify: every file against its
    MANIFEST.json; MismatchError names one that differs. checking off: actions that only look wrong pass in silence.
    reward: the folder of a reward head (stage train_reward); without it, that of the bundle, or of the pipeline's
    artifacts where exactly one of them reads this world's tokenizer. calibrated off: what its uncertainties mean is not
    read, for a stage that asks for them before they were measured.
    """
    found = open_folder(folder, dynamics, verify)
    name = chosen_dataset(found, robot)
    contract = ActionContract.of(name, found.contracts[name], found.statistics.get(name), found.folder)
    digests = found.digests
    calibration = entry_in(found.calibration, found.measured) if found.calibration and calibrated else None
    model = _model(found, contract, device)
    world = World(
        model=model,
        contract=contract,
        digests=digests,
        measured=found.measured,
        lineage=found.lineage,
        starts=_starts(found, name, model.tokenizer.config.resolution, len(contract.dimensions)),
        reward=_reward(found, None if reward is None else Path(reward), model.tokenizer, verify),
        checking=checking,
    )
    world.calibrate(calibration)
    return world


def _model(found: WorldFolder, contract: ActionContract, device: str) -> LearnedWorld:
    return LearnedWorld(
        VideoTokenizer.restore(found.tokenizer, device), BehaviorModel.restore(found.behavior, device),
        Dynamics.restore(found.dynamics, device), found.window, ActionMap.of(contract.normalizer),
    )  # fmt: skip


def _reward(found: WorldFolder, chosen: Path | None, tokenizer: VideoTokenizer, verify: bool) -> RewardHead | None:
    """The chosen head, the bundle's, or the only one beside the models that reads this tokenizer."""
    encoder = encoder_digest(tokenizer)
    folder = chosen or found.reward or _only(found.heads, encoder)
    if folder is None:
        return None
    if verify and (folder / MANIFEST_NAME).is_file():
        verify_sealed(folder, sha256_of_file)
    return RewardHead.of_encoder(folder, encoder, tokenizer.device)


def _only(heads: Sequence[Path], encoder: str) -> Path | None:
    """None where none fits, or several: which one is then for a person to say."""
    configs = {folder: read_json(folder / CONFIG) for folder in heads if (folder / CONFIG).is_file()}
    fitting = [
        folder
        for folder, record in configs.items()
        if isinstance(record, dict) and isinstance(record.get("config"), dict)
        and record["config"].get("encoder") == encoder
    ]  # fmt: skip
    return fitting[0] if len(fitting) == 1 else None


def _starts(found: WorldFolder, name: str, resolution: int, action_size: int) -> list[Start]:
    path = None if found.starts is None else found.starts / f"{name}.npz"
    return read_starts(path, resolution, action_size) if path is not None and path.is_file() else []
