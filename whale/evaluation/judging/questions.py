"""What a judge is asked, as data; an instruction as quoted data; and what counts as an answer.

The paper's protocol has two turns: the prompt of the task with the recorded last frame, then the follow-up with the
imagined one. Prompts stand in data_specs/questions/, one file a set.
"""

import json
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field, field_validator

from whale.common.config import Config, load_yaml
from whale.common.errors import ConfigError
from whale.common.limits import PROMPT_CHARACTERS, QUOTED_CHARACTERS
from whale.evaluation.judging.pairs import Pair

PLACE, ANY = "{instruction}", "any"
BEGIN, END = "<recorded-data>", "</recorded-data>"
VERDICT = re.compile(r"[\s*_\"'`]*(yes|no)[*_\"'`]*\s*(?:$|[\n.,:;!-])", re.IGNORECASE)


class Questions(Config):
    """`tests`: test -> task -> prompt; the task `any` stands for those without a prompt of their own."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    source: str
    follow_up: str = Field(min_length=1, max_length=PROMPT_CHARACTERS)
    tests: dict[str, dict[str, str]] = Field(min_length=1)

    @field_validator("tests")
    @classmethod
    def _prompts_are_bounded(cls, tests: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        for test, prompts in tests.items():
            for task, prompt in prompts.items():
                if not 0 < len(prompt) <= PROMPT_CHARACTERS or prompt.count(PLACE) > 1:
                    raise ValueError(f"{test}.{task}: 1 to {PROMPT_CHARACTERS} characters, {PLACE} at most once")
        return tests

    @classmethod
    def read(cls, path: Path) -> "Questions":
        """ConfigError for what is no set of questions."""
        return cls.parse(load_yaml(path), file=path)

    def require(self, pairs: Iterable[Pair]) -> None:
        """ConfigError that names every task that nobody wrote a question for."""
        asked = sorted({(pair.test, pair.task) for pair in pairs})
        if unknown := [f"{test}/{task}" for test, task in asked if self._text(test, task) is None]:
            raise self._no_question(unknown)

    def prompt(self, test: str, task: str, instruction: str) -> str:
        """The first turn's text; ConfigError for a task that nobody wrote a question for."""
        text = self._text(test, task)
        if text is None:
            raise self._no_question([f"{test}/{task}"])
        return text.replace(PLACE, quoted(instruction))

    def _text(self, test: str, task: str) -> str | None:
        prompts = self.tests.get(test, {})
        return prompts.get(task, prompts.get(ANY))

    def _no_question(self, tasks: list[str]) -> ConfigError:
        known = [f"{name}/{each}" for name, prompts in self.tests.items() for each in prompts]
        return ConfigError("no question for this task", file=f"questions {self.name}", place=", ".join(tasks),
                           expected=", ".join(known), remedy="add it to the file of questions")  # fmt: skip


def quoted(instruction: str) -> str:
    """Foreign text as one delimited JSON field that it cannot leave: at most 256 visible characters, ASCII, no mark-up.

    Control, format (bidi, zero-width) and private characters are left out, runs of spaces are one space.
    """
    plain = "".join(" " if each.isspace() else each for each in instruction[: 16 * QUOTED_CHARACTERS])
    seen = "".join(each for each in plain if unicodedata.category(each)[0] != "C")
    text = json.dumps({"instruction": " ".join(seen.split())[:QUOTED_CHARACTERS]}, ensure_ascii=True)
    for mark in "<>&`":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return f"{BEGIN}{text}{END}"


def verdict(reply: str) -> bool | None:
    """True for a reply whose first word is yes, False for no, with nothing but its end or a sign behind; else None."""
    found = VERDICT.match(reply)
    return None if found is None else found[1].lower() == "yes"
