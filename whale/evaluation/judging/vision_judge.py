"""A vision model behind an endpoint as the judge: two turns a vote, kept replies, and an end to what it may cost."""

import base64
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from whale.common.errors import CannotWriteError, MissingInputError, RefusedError
from whale.common.json_files import canonical_json, remembered, write_json
from whale.common.limits import JUDGE_ANSWER_CHARACTERS, JUDGE_TOKENS
from whale.common.printable import shown
from whale.data.storage import images
from whale.evaluation.judging.endpoint import EndpointConfig, Trouble, post
from whale.evaluation.judging.judge import Judgement, Spent
from whale.evaluation.judging.pairs import Pair
from whale.evaluation.judging.questions import Questions, verdict

CHARACTERS_PER_TOKEN = 3.0  # of English text at most, so that an estimate is not too small
UNDERSTOOD_BY = 2  # times a vote's second turn is asked before it counts as not understood


class JudgeConfig(EndpointConfig):
    """A judge's file. `votes`: conversations a pair, odd; `image_side`: pixels a frame is enlarged to; prices as of the
    server, zero where it is free; `max_usd` and `max_calls` end a run, counted over this call alone."""

    votes: int = Field(ge=1, le=25)
    temperature: float = Field(ge=0, le=2)
    max_tokens: int = Field(ge=8, le=4096)
    image_side: int = Field(ge=16, le=2048)
    tokens_per_image: int = Field(ge=0, le=100_000)
    usd_per_million_input_tokens: float = Field(ge=0)
    usd_per_million_output_tokens: float = Field(ge=0)
    max_usd: float = Field(ge=0)
    max_calls: int = Field(ge=0)

    @field_validator("votes")
    @classmethod
    def _is_odd(cls, votes: int) -> int:
        if votes % 2 == 0:
            raise ValueError("an odd number, so that votes have a majority")
        return votes

    def usd(self, input_tokens: int, output_tokens: int) -> float:
        """What so many tokens cost."""
        spent = input_tokens * self.usd_per_million_input_tokens + output_tokens * self.usd_per_million_output_tokens
        return spent / 1e6


@dataclass(frozen=True)
class Estimate:
    """Of a run: turns to ask for, of which `cached` are known already; at most, if nothing has to be asked twice."""

    turns: int
    cached: int
    input_tokens: int
    output_tokens: int
    usd: float


@dataclass
class VisionJudge:
    """`cache`: a folder of replies, named by the sha256 of the address and of all that was sent."""

    config: JudgeConfig
    questions: Questions
    cache: Path
    sleep: Callable[[float], None] = time.sleep
    spent: Spent = field(default_factory=Spent)

    @property
    def name(self) -> str:
        return self.config.model

    @property
    def settings(self) -> dict[str, Any]:
        names = ("votes", "temperature", "max_tokens", "image_side")
        return {name: getattr(self.config, name) for name in names}

    def require(self, pairs: Sequence[Pair]) -> None:
        """ConfigError for a task without a question or a key that is not set, CannotWriteError where no reply can be
        kept: before the first call is paid."""
        self.config.key()
        self.questions.require(pairs)
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWriteError("replies cannot be kept", file=self.cache, found=error.strerror) from None

    def judge(self, pair: Pair) -> Judgement:
        """All votes. RefusedError at the cost cap or where the server refuses, MissingInputError where none answers."""
        votes = [self._vote(pair, number) for number in range(self.config.votes)]
        return Judgement(tuple(vote for vote, _ in votes), tuple(turns for _, turns in votes))

    def estimate(self, pairs: list[Pair]) -> Estimate:
        """Without asking anybody: what judging these would cost, a first turn's reply taken to be of full length."""
        self.questions.require(pairs)
        turns = cached = given = taken = 0
        for pair in pairs:
            for number in range(self.config.votes):
                messages = self._opening(pair)
                first = self._kept(self._payload(messages, number))
                second = self._second(messages, first or " " * self._length(), pair)
                known = [first, self._kept(self._payload(second, number)) if first else None]
                turns, cached = turns + 2, cached + sum(each is not None for each in known)
                for each, reply in zip((messages, second), known, strict=True):
                    given += self._input_tokens(each) if reply is None else 0
                    taken += self.config.max_tokens if reply is None else 0
        return Estimate(turns, cached, given, taken, self.config.usd(given, taken))

    def _vote(self, pair: Pair, number: int) -> tuple[bool | None, tuple[str, ...]]:
        opening = self._opening(pair)
        first = self._reply(opening, number)
        if first is None:
            return None, ()
        messages, replies = self._second(opening, first, pair), [first]
        for attempt in range(UNDERSTOOD_BY):
            second = self._reply(messages, number + attempt * 1000)
            replies += [] if second is None else [second]
            said = None if second is None else verdict(second)
            if said is not None:
                return said, tuple(replies)
        return None, tuple(replies)

    def _opening(self, pair: Pair) -> list[dict[str, Any]]:
        text = self.questions.prompt(pair.test, pair.task, pair.about.instruction)
        return [_turn(text, self._data_url(pair.recorded))]

    def _second(self, messages: list[dict[str, Any]], reply: str, pair: Pair) -> list[dict[str, Any]]:
        said = {"role": "assistant", "content": reply}
        return [*messages, said, _turn(self.questions.follow_up, self._data_url(pair.imagined))]

    def _data_url(self, frame: np.ndarray) -> str:
        data = images.encode_png(images.resize(frame, self.config.image_side))
        return f"data:image/png;base64,{base64.b64encode(data).decode()}"

    def _payload(self, messages: list[dict[str, Any]], seed: int) -> bytes:
        how = {"temperature": self.config.temperature, "max_tokens": self.config.max_tokens, "seed": seed, "n": 1}
        return canonical_json({"model": self.config.model, "messages": messages, **how}).encode()

    def _reply(self, messages: list[dict[str, Any]], seed: int) -> str | None:
        """A turn's text; None where the server keeps sending what is no reply."""
        payload = self._payload(messages, seed)
        kept = self._kept(payload)
        if kept is not None:
            self.spent.cached += 1
            return kept
        key, trouble = self.config.key(), Trouble("", silent=False)
        for attempt in range(self.config.retries + 1):
            self._pay(messages)
            self.spent.retries += attempt > 0
            try:
                text, told = _content(post(self.config, key, payload))
            except Trouble as error:
                trouble = error
                if attempt < self.config.retries:
                    wait = self.config.backoff_s * 2.0**attempt if error.wait is None else error.wait
                    self.sleep(min(wait, self.config.max_wait_s))
                continue
            self._pay_more(messages, told)
            text = text if key is None else text.replace(key, "<key>")
            write_json(self._place(payload), {"reply": text[:JUDGE_ANSWER_CHARACTERS]})
            return text[:JUDGE_ANSWER_CHARACTERS]
        if trouble.silent:
            raise MissingInputError(
                "the judge does not answer", file=self.config.url,
                found=f"{self.config.retries + 1} attempts; the last: {trouble}",
                remedy="run it again later: what was answered is kept and not asked again",
            ) from None  # fmt: skip
        return None

    def _pay(self, messages: list[dict[str, Any]]) -> None:
        """Count one request before it is sent; RefusedError if it would pass a cap."""
        given, taken = self._input_tokens(messages), self.config.max_tokens
        usd = self.config.usd(given, taken)
        for name, now, more in (("max_calls", self.spent.calls, 1), ("max_usd", self.spent.usd, usd)):
            if now + more > getattr(self.config, name) + 1e-12:
                raise RefusedError(
                    "the judge's cost cap is reached", place=name, found=f"{now:.6g} spent, the next call {more:.6g}",
                    expected=f"<= {getattr(self.config, name):g}",
                    remedy="raise it in the judge's file: what was answered is kept and not asked again",
                )  # fmt: skip
        self._count(given, taken, usd)
        self.spent.calls += 1

    def _pay_more(self, messages: list[dict[str, Any]], told: tuple[int, int]) -> None:
        """What the server says it took beyond the estimate; less than the estimate it may say as it likes."""
        given, taken = max(told[0] - self._input_tokens(messages), 0), max(told[1] - self.config.max_tokens, 0)
        self._count(given, taken, self.config.usd(given, taken))

    def _count(self, given: int, taken: int, usd: float) -> None:
        self.spent.input_tokens += given
        self.spent.output_tokens += taken
        self.spent.usd += usd

    def _input_tokens(self, messages: list[dict[str, Any]]) -> int:
        parts = [part for each in messages if isinstance(each["content"], list) for part in each["content"]]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        texts += [each["content"] for each in messages if isinstance(each["content"], str)]
        num_images = sum(part["type"] == "image_url" for part in parts)
        return num_images * self.config.tokens_per_image + int(sum(map(len, texts)) / CHARACTERS_PER_TOKEN) + 1

    def _length(self) -> int:
        return min(int(self.config.max_tokens * CHARACTERS_PER_TOKEN), JUDGE_ANSWER_CHARACTERS)

    def _place(self, payload: bytes) -> Path:
        name = hashlib.sha256(f"{self.config.url}\n".encode() + payload).hexdigest()
        return self.cache / name[:2] / f"{name}.json"

    def _kept(self, payload: bytes) -> str | None:
        reply = remembered(self._place(payload)).get("reply")
        return reply if isinstance(reply, str) and 0 < len(reply) <= JUDGE_ANSWER_CHARACTERS else None


def _turn(text: str, url: str) -> dict[str, Any]:
    image = {"type": "image_url", "image_url": {"url": url}}
    return {"role": "user", "content": [{"type": "text", "text": text}, image]}


def _content(reply: Any) -> tuple[str, tuple[int, int]]:
    """The text of choices[0] and the tokens (given, taken) that the server says it took; Trouble for another schema."""
    try:
        text = reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise Trouble(f"no choices[0].message.content in {shown(reply)[:100]}", silent=False) from None
    if not isinstance(text, str) or not text.strip():
        raise Trouble("an empty answer", silent=False)
    usage = reply.get("usage")
    told = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    given, taken = (
        min(each, JUDGE_TOKENS) if isinstance(each, int) and not isinstance(each, bool) and each > 0 else 0
        for each in told
    )
    return text, (given, taken)
