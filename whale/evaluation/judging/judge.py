"""Judges: who says whether an imagined last frame is consistent with the recorded one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from whale.common.errors import ConfigError
from whale.evaluation.judging.pairs import Pair


@dataclass(frozen=True)
class Judgement:
    """`votes`: True yes, False no, None not to be understood. `turns`: what was replied, one list a vote."""

    votes: tuple[bool | None, ...]
    turns: tuple[tuple[str, ...], ...] = ()

    @property
    def consistent(self) -> bool | None:
        """The majority of the votes that were understood; None without a majority. None counts as no in a rate."""
        yes, no = self.votes.count(True), self.votes.count(False)
        return None if yes == no else yes > no


@dataclass
class Spent:
    """Requests to a server, of them repeated ones, turns taken from the cache; tokens and USD counted at least as
    estimated."""

    calls: int = 0
    retries: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0


class Judge(Protocol):
    """`settings`: all that decides an answer beside the pair, for the protocol and the records."""

    spent: Spent

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> dict[str, Any]: ...

    def require(self, pairs: Sequence[Pair]) -> None:
        """ConfigError unless all of these can be judged: said before the first one is."""
        ...

    def judge(self, pair: Pair) -> Judgement: ...


@dataclass
class KnownTruth:
    """The judge that knows: `truth` of a pair, from the simulator's state. One vote."""

    name: str = "truth"
    settings: dict[str, Any] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)

    def require(self, pairs: Sequence[Pair]) -> None:
        if unknown := [pair.key for pair in pairs if pair.about.truth is None]:
            remedy = "name a vision endpoint with --judge FILE (docs/how-to/judge-consistency.md)"
            raise ConfigError("no judge: the truth of these pairs is not known", found=unknown[:3], remedy=remedy)

    def judge(self, pair: Pair) -> Judgement:
        return Judgement((pair.about.truth,))
