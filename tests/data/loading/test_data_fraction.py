"""A fraction of the episodes: nested, keyed, a share of each dataset by itself."""

import hashlib
import random
from itertools import pairwise

from whale.data.loading.data_fraction import DataFraction

KEYS = [f"fleet_a-train-{number:07}" for number in range(200)]
FRACTIONS = (0.001, 0.1, 0.25, 0.5, 0.75, 0.999)


def chosen(fraction: float, seed: int = 0, dataset: str = "fleet_a", keys: list[str] = KEYS) -> set[str]:
    return {keys[place] for place in DataFraction(fraction, seed).places(dataset, keys)}


def test_a_smaller_fraction_is_contained_in_a_larger_one():
    sets = [chosen(fraction) for fraction in FRACTIONS]
    assert all(small < large for small, large in pairwise(sets))


def test_it_holds_the_ceiling_of_its_share_and_never_nothing():
    assert [len(chosen(fraction)) for fraction in FRACTIONS] == [1, 20, 50, 100, 150, 200]
    assert len(DataFraction(0.1, 0).places("fleet_a", KEYS[:30])) == 3  # 0.1 * 30 is above 3 in floating point
    assert DataFraction(0.5, 0).places("fleet_a", []) == []


def test_the_order_of_the_keys_decides_nothing_and_places_ascend():
    shuffled = random.Random(0).sample(KEYS, len(KEYS))
    assert chosen(0.3, keys=shuffled) == chosen(0.3)
    places = DataFraction(0.3, 0).places("fleet_a", shuffled)
    assert places == sorted(places)


def test_another_seed_and_another_dataset_choose_others():
    assert len({frozenset(each) for each in (chosen(0.3), chosen(0.3, seed=1), chosen(0.3, dataset="fleet_b"))}) == 3


def test_the_rule_is_the_one_that_is_documented():
    ranked = sorted(KEYS, key=lambda key: hashlib.sha256(f"3|fleet_a|{key}".encode()).digest())
    assert chosen(0.1, seed=3) == set(ranked[:20])
