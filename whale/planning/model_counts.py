"""Parameters of every network of a profile, counted on the built modules, beside what the paper prints (Tables 5-7).

What the paper's totals add up is nowhere said; the definition that fits is stated with each. Where the paper
contradicts itself, `note` says so, and no tolerance is stretched over it. Actions are 7 wide in every profile; the
paper's Whale-ST has 4, which makes each action input of ours 3 D weights larger.
"""

from dataclasses import dataclass

import torch
from torch import nn

from whale.models.behavior.behavior import BehaviorModel
from whale.models.dynamics.dynamics import Dynamics
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.planning.profile import Profile
from whale.training.tasks.dynamics import new_dynamics

# Profile -> entry of train_dynamics -> millions, as Table 7 prints them. The paper leaves the z input out.
TABLE_7 = {
    "whale-st-64": {"full": 26},
    "whale-st-256": {"full": 26},
    "whale-x": {"small": 39, "medium": 77, "full": 204, "large": 456},
}
TRAINING_ONLY = dict.fromkeys(("behavior.posterior", "behavior.policy"), "training only")
Z_NOTE = "the printed number leaves the z input out"
X_BASE_NOTE = f"{Z_NOTE}; the text says 203M, the floor of the same count"
ROW_TOLERANCE = 0.7  # millions: half a printed digit, and what our z input of 7-wide actions adds


@dataclass(frozen=True)
class Count:
    """`parameters` of one component; `paper`: millions as printed, None where the paper prints none.

    `tolerance`: millions by which ours may differ; None where the printed number contradicts the paper's own tables.
    """

    component: str
    parameters: int
    paper: float | None = None
    tolerance: float | None = None
    note: str = ""

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, in millions."""
        return None if self.paper is None else self.parameters / 1e6 - self.paper

    @property
    def agrees(self) -> bool:
        """Within the tolerance, or nothing to hold it against."""
        return self.difference is None or self.tolerance is None or abs(self.difference) <= self.tolerance


def model_counts(profile: Profile) -> list[Count]:
    """Every component of a profile's three models, then the total that the paper prints for it, if it is one of its."""
    num_codes, z_shape = profile.train_tokenizer.model.num_codes, profile.train_behavior.model.z_shape
    with torch.device("meta"):
        tokenizer = VideoTokenizer(profile.train_tokenizer.model)
        behavior = BehaviorModel(profile.train_behavior.model)
        entries = profile.train_dynamics.items()
        dynamics = {name: new_dynamics(entry, num_codes=num_codes, z_shape=z_shape, seed=0) for name, entry in entries}
    parts: dict[str, list[nn.Module]] = {
        "tokenizer.encoder": [tokenizer.encoder],
        "tokenizer.codebook": [tokenizer.quantizer],
        "tokenizer.decoder": [tokenizer.decoder],
        "tokenizer": [tokenizer],
        "behavior.posterior": [behavior.posterior_encoder, behavior.posterior_head],
        "behavior.prior": [behavior.prior_encoder, behavior.prior_head],
        "behavior.policy": [behavior.policy_encoder, behavior.policy_head, behavior.policy_z],
    }
    counts = [Count(name, _count(*of), note=TRAINING_ONLY.get(name, "")) for name, of in parts.items()]
    for name, network in dynamics.items():
        counts += _dynamics(network, name, profile.name)
    return counts + _totals(profile.name, tokenizer, behavior, dynamics)


def _dynamics(network: Dynamics, name: str, profile: str) -> list[Count]:
    paper = TABLE_7.get(profile, {}).get(name)
    note = X_BASE_NOTE if (profile, name) == ("whale-x", "full") else Z_NOTE
    whole = Count(f"dynamics.{name}", _count(network), paper, None if paper is None else ROW_TOLERANCE)
    if paper is None:
        return [whole]
    without_z_input = _count(network) - _count(network.z)
    return [whole, Count(f"dynamics.{name} without z input", without_z_input, paper, ROW_TOLERANCE, note)]


def _totals(
    profile: str, tokenizer: VideoTokenizer, behavior: BehaviorModel, dynamics: dict[str, Dynamics]
) -> list[Count]:
    if profile not in TABLE_7 or "full" not in dynamics:
        return []
    with_z = _count(tokenizer, dynamics["full"])
    without_z = with_z - _count(dynamics["full"].z)
    if profile == "whale-st-64":
        return [Count("total: tokenizer + dynamics", without_z, 51, 0.3, "Tables 1 and 2")]
    if profile == "whale-st-256":
        note = "Tables 1 and 2; Tables 5 and 7 add up to 85M, 63M would need a tokenizer of 17 layers: Table 5 is kept"
        return [Count("total: tokenizer + dynamics", without_z, 63, None, note)]
    prior = _count(behavior.prior_encoder, behavior.prior_head)
    stem = _count(behavior.prior_encoder.stem, behavior.prior_encoder.stem_norm)
    fitting = without_z + prior - stem
    return [
        Count("total: tokenizer + dynamics + prior less its patch stem", fitting, 414, 1.0, "the definition that fits"),
        Count("total: the same with stem and z input", with_z + prior, 414, 3.0, "everything that a rollout needs"),
    ]


def _count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
