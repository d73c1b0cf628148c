"""Write a bundle: everything `whale.load` needs, in one folder that knows nothing of this project's artifacts."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from whale.audit.exports.world_bundle.rounded import round_weights
from whale.common.json_files import write_json
from whale.evaluation.uncertainty.estimation.calibration_file import FORMAT_VERSION
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.reward.reading import encoder_digest
from whale.reward.reward import RewardHead
from whale.worlds.contract import ActionContract
from whale.worlds.folder import FORMAT, WORLD, WorldFolder
from whale.worlds.starts import Start, write_starts
from whale.worlds.trust import entry_in

ENV = '''"""LeRobot EnvHub: make_env(n_envs) -> {suite: {task: vector environment}}. Needs whale-world-model[env]."""

from pathlib import Path

from whale.env.registration import make_env as _make_env


def make_env(n_envs=1, use_async_envs=False, **settings):
    return _make_env(Path(__file__).parent, n_envs, **settings)
'''
README = """# A world model: imagine what a robot's actions lead to

```python
import whale

world = whale.load(".", robot="{robot}")
start = world.starts[0]
imagined = world.imagine(start.frames, start.actions, horizon=8)
print(imagined.frames.shape, world.contract.describe())
```
Needs the package whale-world-model with torch. Every file is compared with `MANIFEST.json` before it is used.

{contracts}

Where it comes from: `lineage.json`, and the signed statements in `statements.intoto.jsonl`.
"""


def write_parts(
    out: Path,
    world: WorldFolder,
    starts: Mapping[str, Sequence[Start]],
    reward: Path | None = None,
    small: bool = False,
    front: Mapping[str, Any] | None = None,
) -> None:
    """Fill the new folder `out`, which the caller seals: weights as published, contracts, calibration, starts.

    small: weights rounded to float16. front: what the hub reads of README.md.
    """
    out.mkdir(parents=True)
    for name in ("tokenizer", "behavior", "dynamics"):
        shutil.copytree(getattr(world, name), out / name)
        if small:
            round_weights(out / name)
    if reward is not None:
        # A head that does not fit is refused here, not by whoever opens it.
        RewardHead.of_encoder(reward, encoder_digest(VideoTokenizer.restore(world.tokenizer)))
        shutil.copytree(reward, out / "reward")
    about: dict[str, Any] = {"format": FORMAT, "window": world.window, "statistics": dict(world.statistics)}
    about |= {"contracts": dict(world.contracts)}
    write_json(out / WORLD, about | ({"rounded": {"weights": "float16", "of": world.digests}} if small else {}))
    write_json(out / "lineage.json", dict(world.lineage))
    entry = None if world.calibration is None else entry_in(world.calibration, world.digests)
    if entry is not None:
        write_json(out / "calibration.json", {"version": FORMAT_VERSION, "checkpoints": [dict(entry)]})
    for name, chosen in starts.items():
        write_starts(out / "starts" / f"{name}.npz", chosen)
    contracts = [
        ActionContract(name, world.contracts[name], world.statistics[name]) for name in sorted(world.contracts)
    ]
    text = "\n".join(f"```text\n{each.describe()}\n```" for each in contracts)
    card = "---\n" + yaml.safe_dump(dict(front), sort_keys=False, width=120) + "---\n\n" if front else ""
    card += README.format(robot=sorted(world.contracts)[0], contracts=text)
    (out / "README.md").write_text(card, encoding="ascii")
    (out / "env.py").write_text(ENV, encoding="ascii")
