"""What `whale model counts` prints: the integers of Tables 5 to 7 on the profiles as they are shipped."""

from pathlib import Path

import pytest

from whale.planning.model_counts import Count, model_counts
from whale.planning.profile import load_profile

PROFILES = Path(__file__).parents[2] / "profiles"


def counted(name: str) -> dict[str, Count]:
    return {count.component: count for count in model_counts(load_profile(PROFILES / f"{name}.yaml"))}


@pytest.mark.parametrize(
    ("profile", "component", "parameters"),
    [
        ("whale-st-64", "tokenizer.encoder", 8_437_792),
        ("whale-st-64", "tokenizer.codebook", 32_768),
        ("whale-st-64", "tokenizer.decoder", 16_833_072),
        ("whale-st-256", "tokenizer", 59_622_688),
        ("whale-x", "tokenizer", 194_321_696),
        ("whale-x", "behavior.posterior", 59_217_664),
        ("whale-x", "behavior.prior", 18_500_864),
        ("whale-x", "behavior.policy", 59_228_174),
        ("whale-x", "dynamics.small without z input", 38_831_872),
        ("whale-x", "dynamics.medium without z input", 77_115_648),
        ("whale-x", "dynamics.full without z input", 203_509_760),
        ("whale-x", "dynamics.full", 203_771_904),
        ("whale-x", "dynamics.large without z input", 456_261_120),
        ("whale-x", "total: tokenizer + dynamics + prior less its patch stem", 414_757_920),
    ],
)
def test_counts_are_those_of_the_specification(profile, component, parameters):
    assert counted(profile)[component].parameters == parameters


@pytest.mark.parametrize("profile", ["whale-st-64", "whale-st-256", "whale-x"])
def test_every_printed_number_is_met_and_a_row_rounds_to_the_printed_one(profile):
    counts = counted(profile)
    assert all(count.agrees for count in counts.values())
    rows = [count for name, count in counts.items() if name.endswith("without z input") and count.paper is not None]
    assert rows and all(round(count.parameters / 1e6) == count.paper for count in rows)


def test_the_total_of_whale_st_256_contradicts_the_papers_own_tables_and_says_so():
    total = counted("whale-st-256")["total: tokenizer + dynamics"]
    assert total.tolerance is None and total.difference > 20 and "Table 5 is kept" in total.note


def test_another_size_does_not_agree():
    assert not Count("dynamics.full", 190_000_000, 204, 0.7).agrees
    assert Count("dynamics.full", 203_509_760, 204, 0.7).agrees


def test_a_profile_that_is_not_the_papers_is_counted_without_comparison():
    assert all(count.paper is None for count in counted("demo").values())
