"""Every profile is complete and valid, and the paper's profiles hold the values of its Tables 5 to 8 and 11."""

import re
from fractions import Fraction

import pytest

from whale.common.config import load_yaml
from whale.common.json_files import changed, flatten
from whale.data.mixture import largest_remainder, normalized
from whale.data.spec.spec import load_spec
from whale.evaluation.uncertainty.measurement import require_depths_fit
from whale.pipeline_file import PIPELINE, expand
from whale.planning.datasets import load_facts
from whale.planning.profile import load_profile
from whale.runtime.maps.model_map import MapConfig
from whale.sim.metaworld.simulator.tasks import NAMED, TASKS

NAMES = ("bridge-sample", "demo", "demo-long", "fleet", "hidden-gain", "metaworld-small", "scaling")
NAMES += ("whale-st-256", "whale-st-64")
NAMES += ("whale-x", "whale-x-rehearsal")
METAWORLD = ("metaworld-small", "whale-st-64", "whale-st-256")  # nothing is fine-tuned in these
PAPER = ("whale-st-256", "whale-st-64", "whale-x")
ONE_MODEL = ("demo", "demo-long", "scaling")  # one good model, or sizes of it: its variants are in fleet
MAPS = ("pretokenize", "embed_behavior")
DYNAMICS_LR = (3.0e-5, 3.0e-6, 0.0)  # Table 8: max, min, weight decay


@pytest.fixture(scope="module")
def profiles(project_root):
    return {name: load_profile(project_root / "profiles" / f"{name}.yaml") for name in NAMES}


def size(trunk):
    return trunk.num_layers, trunk.d_model, trunk.num_heads


def rates(optimization):
    return optimization.max_lr, optimization.min_lr, optimization.weight_decay


def budget(optimization):
    return optimization.warmup_steps, optimization.batch_size, optimization.training_steps


def test_these_are_all_profiles(project_root):
    assert tuple(sorted(path.stem for path in (project_root / "profiles").glob("*.yaml"))) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_has_the_sections_of_the_demo_and_each_parses(name, profiles, project_root):
    path = project_root / "profiles" / f"{name}.yaml"
    assert set(load_yaml(path)) == set(profiles["demo"].params)
    assert profiles[name].name == name
    for section in MAPS:
        MapConfig.load(section, params=path)
    for entry in profiles[name].params["finetune_embed"]:
        MapConfig.load("finetune_embed", entry, params=path)


@pytest.mark.parametrize("name", NAMES)
def test_sections_agree_with_one_another(name, profiles):
    profile = profiles[name]
    pretrain = {dataset for dataset, entry in profile.datasets.items() if entry.role == "pretrain"}
    assert set(profile.mix.weights) == pretrain
    assert set(profile.mix.dynamics.datasets) <= pretrain
    assert len(profile.datasets) - len(pretrain) <= 1  # fine-tuning is on one dataset, or left out
    sizes = {
        profile.ingest.resolution,
        profile.train_tokenizer.model.resolution,
        profile.train_behavior.model.resolution,
        *(entry.model.resolution for entry in profile.train_rssm.values()),
    }
    assert len(sizes) == 1
    assert profile.train_behavior.model.action_size == 7
    assert profile.train_behavior.model.num_categories == profile.train_behavior.model.num_classes == 16
    require_depths_fit(profile.evaluate_uncertainty, profile.segments.window)
    assert profile.evaluate_uncertainty.model in profile.train_dynamics
    assert not profile.finetune_dynamics or profile.evaluate_uncertainty.model in profile.finetune_dynamics


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ONE_MODEL])
def test_every_profile_trains_with_and_without_z_and_from_scratch_where_it_tunes(name, profiles):
    profile = profiles[name]
    full, without = profile.train_dynamics["full"], profile.train_dynamics["without_z"]
    assert full.behavior_conditioning and not without.behavior_conditioning and full.size == without.size
    if name in METAWORLD:
        assert not profile.finetune_dynamics
        return
    scratch = profile.train_dynamics[profile.finetune_dynamics["from_scratch"].initial]
    assert scratch.optimization.training_steps == 0 and scratch.size == full.size


@pytest.mark.parametrize("name", NAMES)
def test_another_family_is_trained_where_it_is_compared_with_on_as_many_segments_at_paper_scale(name, profiles):
    profile = profiles[name]
    assert list(profile.train_rssm) == (["dreamer"] if name in METAWORLD else [])
    for entry in profile.train_rssm.values():
        assert entry.model.z_shape in {(16, 16), (32, 32)} and entry.model.action_size == 7
        if name in PAPER:
            ours, theirs = (each.optimization for each in (profile.train_dynamics["full"], entry))
            assert (ours.batch_size, ours.training_steps) == (theirs.batch_size, theirs.training_steps)


@pytest.mark.parametrize("name", NAMES)
def test_no_profile_needs_weights_of_others(name, profiles):
    for config in (profiles[name].evaluate_video, profiles[name].evaluate_uncertainty):
        assert config.lpips is None and config.percep_efflite0 is None
        assert "percep_efflite0" in config.model_fields_set  # said, not left out


@pytest.mark.parametrize("name", METAWORLD)
def test_members_of_an_ensemble_differ_by_their_seed_alone(name, profiles):
    profile = profiles[name]
    members = [profile.train_dynamics[each] for each in ("full", *profile.evaluate_uncertainty.ensemble)]
    assert len({profile.params["seed"] if each.seed is None else each.seed for each in members}) == len(members) == 3
    assert len({each.model_copy(update={"seed": None}).digest() for each in members}) == 1


@pytest.mark.parametrize("name", METAWORLD)
def test_meta_world_is_measured_on_policies_that_nothing_was_trained_or_stopped_on(name, profiles):
    profile = profiles[name]
    (source,) = profile.collect_metaworld.values()
    assert set(source.tasks) == (set(NAMED) if name == "metaworld-small" else set(TASKS))
    for task, cross in source.tasks.items():
        assert {cross.cross_a, cross.cross_b, cross.cross_c} <= set(TASKS) - {task}
    for config in (profile.evaluate_video, profile.evaluate_uncertainty):
        assert config.pretrain_splits == ["test"]
    assert source.frames > max(profile.evaluate_video.horizons)
    (dataset,) = profile.datasets
    camera = load_spec(dataset).cameras["primary"]
    assert camera.hw == [source.resolution] * 2 and source.resolution == profile.ingest.resolution
    assert profile.datasets[dataset].raw == f"artifacts/{name}/raw/{dataset}/{dataset}"


@pytest.mark.parametrize("name", ("bridge-sample", "demo"))
def test_small_profiles_split_every_batch_over_two_workers(name, profiles):
    profile = profiles[name]
    entries = [profile.train_tokenizer, *profile.train_dynamics.values()]
    assert not [entry for entry in entries if entry.optimization.batch_size % 2]


def test_windows_of_the_bridge_sample_fit_into_its_eight_steps(profiles):
    profile = profiles["bridge-sample"]
    assert max(profile.evaluate_video.horizons) + 1 == 8
    assert profile.evaluate_uncertainty.context + profile.evaluate_uncertainty.horizon == 8


@pytest.mark.parametrize("name", PAPER)
def test_values_that_the_paper_profiles_share(name, profiles):
    profile = profiles[name]
    assert (profile.segments.window, profile.segments.phases) == (16, 2)
    tokenizer, behavior = profile.train_tokenizer.model, profile.train_behavior.model
    assert (tokenizer.latent_dim, tokenizer.commitment, tokenizer.pixel_weight) == (32, 0.25, "uniform")
    assert (tokenizer.num_tokens, (behavior.resolution // behavior.patch_size) ** 2) == (256, 64)
    assert (behavior.kl_beta, behavior.unimix, behavior.log_std_range) == (0.1, 0.01, [-2.0, 5.0])
    assert rates(profile.train_behavior.optimization) == (3.0e-4, 3.0e-5, 1.0e-4)
    for entry in profile.train_dynamics.values():
        assert entry.copy_bias is None and rates(entry.optimization) == DYNAMICS_LR
        assert budget(entry.optimization) in {(5000, 64, 300_000), (0, 64, 0)}
    if name in METAWORLD:
        return
    steps = [profile.finetune_tokenizer["robot"], profile.finetune_behavior["robot"], profile.finetune_dynamics["full"]]
    assert [entry.optimization.training_steps for entry in steps] == [5000, 1000, 5000]
    assert profile.finetune_dynamics["from_scratch"].optimization.training_steps == 10_000
    assert sorted(profile.finetune_tokenizer["robot"].freeze) == ["codebook", "encoder"]


@pytest.mark.parametrize(
    ("name", "patches", "encoder", "decoder", "steps"),
    [
        ("whale-st-64", (4, 8), (4, 512, 8), (8, 512, 8), 100_000),
        ("whale-st-256", (16, 32), (12, 512, 8), (16, 512, 8), 150_000),
    ],
)
def test_whale_st_holds_the_values_of_tables_5_to_7(name, patches, encoder, decoder, steps, profiles):
    profile = profiles[name]
    tokenizer, behavior = profile.train_tokenizer, profile.train_behavior
    assert (tokenizer.model.patch_size, behavior.model.patch_size, tokenizer.model.num_codes) == (*patches, 1024)
    assert (size(tokenizer.model.encoder), size(tokenizer.model.decoder)) == (encoder, decoder)
    assert (rates(tokenizer.optimization), budget(tokenizer.optimization)) == ((3e-4, 3e-4, 1e-4), (10_000, 32, steps))
    trunks = [size(getattr(behavior.model, part)) for part in ("posterior", "prior", "policy")]
    assert trunks == [(8, 512, 8), (4, 512, 4), (8, 512, 8)]
    assert budget(behavior.optimization) == (5000, 64, 100_000)
    assert size(profile.train_dynamics["full"].size) == (12, 512, 8)


def test_whale_x_holds_the_values_of_tables_5_to_7(profiles):
    profile = profiles["whale-x"]
    tokenizer, behavior = profile.train_tokenizer, profile.train_behavior
    assert (tokenizer.model.patch_size, behavior.model.patch_size, tokenizer.model.num_codes) == (16, 32, 2048)
    assert (size(tokenizer.model.encoder), size(tokenizer.model.decoder)) == ((12, 512, 8), (20, 1024, 16))
    assert (rates(tokenizer.optimization), budget(tokenizer.optimization)) == ((3e-4, 3e-5, 0.0), (5000, 64, 300_000))
    trunks = [size(getattr(behavior.model, part)) for part in ("posterior", "prior", "policy")]
    assert trunks == [(12, 768, 12), (8, 512, 8), (12, 768, 12)]
    assert budget(behavior.optimization) == (5000, 64, 50_000)
    sizes = {name: size(profile.train_dynamics[name].size) for name in ("small", "medium", "full", "large")}
    assert sizes == {
        "small": (18, 512, 8),
        "medium": (16, 768, 16),
        "full": (24, 1024, 16),
        "large": (24, 1536, 12),
    }


def test_weights_of_whale_x_are_those_of_table_11(profiles, project_root):
    weights, facts = profiles["whale-x"].mix.weights, load_facts(project_root).datasets
    assert set(weights) == set(facts) and len(weights) == 27
    printed = {name: fact.table11 for name, fact in facts.items() if fact.table11 is not None}
    assert {name: weights[name].weight for name in printed} == printed
    assert sum(Fraction(str(percent)) for percent in printed.values()) == Fraction("94.8")
    total = sum(fact.openvla_weight * fact.steps for fact in facts.values())
    for name in set(weights) - set(printed):
        percent = 100 * 0.9535 * facts[name].openvla_weight * facts[name].steps / total
        assert weights[name].weight == pytest.approx(percent, abs=5e-5) and weights[name].weight < 0.1
        assert "flagged" in weights[name].source
    blocks = largest_remainder(normalized({name: each.weight for name, each in weights.items()}), 10_000)
    assert min(blocks.values()) == 5


def test_the_facts_sum_to_what_the_paper_says(project_root):
    facts = load_facts(project_root).datasets.values()
    assert sum(fact.episodes for fact in facts) == 969_092  # "970k demonstrations"
    assert sum(fact.steps for fact in facts) == 57_432_971


def test_the_dynamics_subset_is_an_assumption_of_half_the_mass(profiles):
    mix = profiles["whale-x"].mix
    assert mix.dynamics.provenance.startswith("assumption tabletop_fixed")
    assert len(mix.dynamics.datasets) == 19
    assert sum(mix.weights[name].weight for name in mix.dynamics.datasets) == pytest.approx(50.3, abs=0.05)


# Where the rehearsal may differ from whale-x: names, where raw data come from, sizes, steps and how much is measured.
REHEARSED = re.compile(
    r"profile|collect(_rehearsal)?(\..*)?|datasets\.[a-z0-9_]+\.raw|datasets\.(arx5_demonstrations|fleet_unseen)\.role"
    r"|ingest\.(resolution|shard_bytes)|train_(tokenizer|behavior)\.model\.(resolution|num_codes|latent_dim)"
    r"|.*\.(num_layers|num_heads|d_model)|.*\.optimization\.(batch_size|training_steps|warmup_steps|save_every|precision)"
    r"|train_tokenizer\.codebook\..*|train_behavior\.validation\.(every_steps|num_segments)"
    r"|evaluate_[a-z]+(\.sizes)?\.(max_episodes|max_train_episodes|filmstrips|resamples|action_episodes|neighbour_episodes"
    r"|state_episodes)"
)


def test_the_rehearsal_is_whale_x_but_for_sizes_steps_and_where_raw_data_come_from(profiles):
    values = [flatten(profiles[name].params) for name in ("whale-x", "whale-x-rehearsal")]
    differing = changed(*values)
    assert not [key for key in differing if not REHEARSED.fullmatch(key)]
    datasets, rehearsed = (list(profiles[name].datasets) for name in ("whale-x", "whale-x-rehearsal"))
    assert datasets[:27] == rehearsed[:27] and len(datasets) == len(rehearsed) == 28


def test_the_rehearsal_has_every_stage_of_whale_x(profiles, project_root):
    pipeline = load_yaml(project_root / PIPELINE)
    nodes = [
        {node.name for node in expand(pipeline, profiles[name].params) if not node.stage.startswith("collect")}
        for name in ("whale-x", "whale-x-rehearsal")
    ]
    assert len(nodes[1]) == 105
    assert {name.replace("fleet_unseen", "arx5_demonstrations") for name in nodes[1]} == nodes[0]


def test_sizes_of_the_rehearsal_grow_as_those_of_the_paper(profiles):
    order = ("small", "medium", "full", "large")
    for name in ("whale-x", "whale-x-rehearsal"):
        widths = [profiles[name].train_dynamics[entry].size.d_model for entry in order]
        assert widths == [16 * each for each in (32, 48, 64, 96)] or widths == [32, 48, 64, 96]


@pytest.mark.parametrize("name", ["scaling", "whale-x", "whale-x-rehearsal"])
def test_sizes_that_are_compared_differ_in_size_and_data_alone(name, profiles):
    profile = profiles[name]
    (entry,) = profile.evaluate_scaling.values()
    models = [profile.train_dynamics[each] for each in entry.models]
    same = {"size": models[0].size, "data_fraction": 1.0}
    assert len({each.model_copy(update=same).digest() for each in models}) == 1
    assert len({size(each.size) for each in models}) == 4 and set(entry.finetuned) <= set(entry.models)
    assert len({(size(each.size), each.data_fraction) for each in models}) == len(models)


def test_the_scaling_profile_has_four_sizes_on_two_fractions_and_is_the_demo_otherwise(profiles):
    profile, demo = profiles["scaling"], profiles["demo"]
    (entry,) = profile.evaluate_scaling.values()
    pairs = [(profile.train_dynamics[each].size, profile.train_dynamics[each].data_fraction) for each in entry.models]
    assert [fraction for _, fraction in pairs] == [1.0] * 4 + [0.1] * 4
    assert [trunk for trunk, _ in pairs[:4]] == [trunk for trunk, _ in pairs[4:]]
    assert profile.train_dynamics["full"] == demo.train_dynamics["full"]
    assert profile.train_tokenizer == demo.train_tokenizer and profile.train_behavior == demo.train_behavior
    assert profile.evaluate_video.models == ["full"]
