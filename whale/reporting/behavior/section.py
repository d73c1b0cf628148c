"""Figure 15: t-SNE of z by policy and by task; what a linear probe reads off it, first of all whether it is any more
than simple features say."""

from collections.abc import Iterator, Mapping

import numpy as np

from whale.reporting.behavior.cloud import cloud
from whale.reporting.measured import Numbers
from whale.reporting.page import NOT_MEASURED, Section, number, render

QUESTIONS = {  # as whale/evaluation/behavior/measurement.py names them
    "policy": "which policy", "policy_within_task": "which policy, task given", "task": "which task",
    "task_within_policy": "which task, policy given",
}  # fmt: skip
FEATURES = ("prior", "posterior", "simple", "actions", "pixels", "shuffled")
ABOVE = "more than simple features"
PAPER = (
    "The paper (Fig. 15) shows t-SNE of prior probabilities, and no number: policies of one task and experts of "
    "several tasks lie apart, random policies of several tasks do not, and the noisy expert lies between both."
)


def behavior_section(
    found: Mapping[str, Numbers], arrays: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]
) -> Section:
    """`found`: entry of evaluate_behavior -> its flat metrics; `arrays`: entry -> split -> `tsne`, `task`, `policy`."""
    splits = [
        _split(f"{name}, {split}", _of(found[name], f"pretrain.{name}.{split}.z."), of_split)
        for name in found
        for split, of_split in arrays[name].items()
    ]
    header = ["asked", "chance", "z: prior", "z: posterior", "floor: both", "actions", "pixels", "labels shuffled"]
    return Section("Behavior embedding", render("behavior.html", splits=splits, paper=PAPER, header=header))


def verdict(numbers: Numbers) -> list[str]:
    """Bad news first."""
    asked = {name: str(numbers.get(f"{name}.status")) for name in QUESTIONS}
    said = [f"{QUESTIONS[name]}: z says {status}." for name, status in asked.items() if f"{name}.prior" in numbers
            and status != ABOVE]  # fmt: skip
    said += [f"{QUESTIONS[name]}: {status}." for name, status in asked.items() if f"{name}.prior" not in numbers]
    if better := [QUESTIONS[name] for name, status in asked.items() if status == ABOVE]:
        said.append(f"z says more than simple features: {'; '.join(better)}.")
    if cut := sum(int(numbers.get(f"{name}.unconverged_fits") or 0) for name in QUESTIONS):  # type: ignore[call-overload]
        said.append(f"{cut} fits were cut off before they converged.")
    return said


def _split(title: str, numbers: Numbers, arrays: Mapping[str, np.ndarray]) -> dict[str, object]:
    rows = [
        [words, number(numbers[f"{name}.chance"]), *(_interval(numbers, f"{name}.{each}") for each in FEATURES)]
        for name, words in QUESTIONS.items()
        if f"{name}.prior" in numbers
    ]
    charts = [(f"coloured by {label}", cloud(arrays["tsne"], arrays[label].tolist(), label))
              for label in ("task", "policy")]  # fmt: skip
    return {
        "title": title,
        "count": f"{numbers['segments']} segments of {numbers['episodes']} episodes",
        "said": verdict(numbers),
        "rows": rows,
        "charts": charts,
        "parts": list(_parts(numbers)),
        "centroids": [[name, _interval(numbers, f"centroid.{name}")] for name in _begun(numbers, "centroid.", ".low")],
    }


def _parts(numbers: Numbers) -> Iterator[list[str]]:
    """Rows of a task's policies, and of a policy's tasks: the paper's (a) and, of expert and random, (b) and (c)."""
    for question, words in (("policy_within_task", "policies of"), ("task_within_policy", "tasks of")):
        for name in _begun(numbers, f"{question}.of.", ".chance"):
            at = f"{question}.of.{name}"
            both = (_interval(numbers, f"{at}.{each}") for each in ("prior", "simple"))
            yield [f"{words} {name}", number(numbers[f"{at}.chance"]), *both]


def _begun(numbers: Numbers, place: str, end: str) -> list[str]:
    """What stands between `place` and `end` in the names of numbers."""
    found = (key for key in numbers if key.startswith(place) and key.endswith(end))
    return sorted(key.removeprefix(place).removesuffix(end) for key in found)


def _interval(numbers: Numbers, key: str) -> str:
    if key not in numbers:
        return NOT_MEASURED
    low, high = (number(numbers.get(f"{key}.{end}")) for end in ("low", "high"))
    return f"{number(numbers[key])} [{low}, {high}]"


def _of(numbers: Numbers, place: str) -> dict[str, object]:
    return {key.removeprefix(place): value for key, value in numbers.items() if key.startswith(place)}
