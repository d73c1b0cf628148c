import json

import numpy as np
import pytest
from tiny_shards import encode, write_tiny_shards

from whale.common.errors import BadDataError, MismatchError, MissingInputError, RefusedError
from whale.data.loading.loader import SegmentLoader, TokenSegments
from whale.data.loading.sampler import Draw, SegmentSampler, single_dataset_plan
from whale.data.segments.actions import ActionNormalizer
from whale.data.segments.grid import SegmentConfig, pad_frames
from whale.data.segments.token_shards import TokenSet, ZSet, require_same_grid, write_manifest
from whale.data.storage.shards import ShardSet
from whale.runtime.maps.segment_maps import Embedder, embed_shard, grid_of_shards, shard_tasks, tokenize_shard

SEGMENTS = SegmentConfig(window=4, phases=2)
LENGTHS = [7, 2, 12, 1, 5]


def embed(frames_STHWC, actions_STA):
    level = frames_STHWC.mean((-1, -2, -3)) / 255 + actions_STA.sum(-1)
    return np.repeat(level[..., None], 256, axis=-1).reshape(*level.shape, 16, 16).astype(np.float16)


def make_tokens(shards_dir, out, segments=SEGMENTS, reverse=False):
    tasks = shard_tasks(shards_dir, out, segments)
    fragments = [tokenize_shard(encode, task) for task in (tasks[::-1] if reverse else tasks)]
    write_manifest(out, "tokens", shards_dir.name, grid_of_shards(shards_dir, segments), "enc", fragments)
    return TokenSet.open(out)


def make_z(shards_dir, out, segments=SEGMENTS):
    embedder = Embedder(embed, ActionNormalizer.from_statistics(ShardSet.open(shards_dir).statistics))
    fragments = [embed_shard(embedder, task) for task in shard_tasks(shards_dir, out, segments)]
    write_manifest(out, "z", shards_dir.name, grid_of_shards(shards_dir, segments), "prior", fragments)
    return ZSet.open(out)


@pytest.fixture(scope="module")
def shards_dir(tmp_path_factory):
    return write_tiny_shards(tmp_path_factory.mktemp("shards") / "fleet_a", "fleet_a", LENGTHS)


@pytest.fixture(scope="module")
def tokens(shards_dir, tmp_path_factory):
    return make_tokens(shards_dir, tmp_path_factory.mktemp("tokens") / "fleet_a")


@pytest.fixture(scope="module")
def z(shards_dir, tmp_path_factory):
    return make_z(shards_dir, tmp_path_factory.mktemp("z") / "fleet_a")


def test_stored_tokens_are_the_encoder_on_each_segment_alone(shards_dir, tokens):
    shard_set = ShardSet.open(shards_dir)
    frames_of = {row.key: shard_set.read_frames(row, 0, row.num_steps) for row in shard_set.episodes("train")}
    action_of = {row.key: shard_set.read_arrays(row)["action"] for row in shard_set.episodes("train")}
    for row in tokens.episodes("train"):
        arrays = tokens.read(row)
        for i, (start, count) in enumerate(zip(arrays["starts"], arrays["num_frames"], strict=True)):
            alone = pad_frames(frames_of[row.key][start : start + 5], 5)[None]
            np.testing.assert_array_equal(arrays["tokens"][i], encode(alone)[0])
            assert count == min(5, row.num_steps - start)
            valid = arrays["action_valid"][i]
            assert valid.sum() == count - 1
            np.testing.assert_array_equal(arrays["action"][i][valid], action_of[row.key][start : start + count - 1])


def test_shards_keep_their_names_and_every_episode_with_two_frames(shards_dir, tokens):
    kept = [row.key for row in ShardSet.open(shards_dir).episodes("train") if row.num_steps > 1]
    assert [row.key for row in tokens.episodes("train")] == kept
    shard_of = {row.key: row.shard for row in ShardSet.open(shards_dir).episodes("train")}
    assert all(shard_of[row.key] == row.shard for row in tokens.episodes("train"))
    assert tokens.manifest["totals"] == {"episodes": 4, "segments": 3 + 1 + 6 + 2, "too_short": 1}


def test_bytes_do_not_depend_on_the_order_of_the_shards(shards_dir, tokens, tmp_path):
    again = make_tokens(shards_dir, tmp_path / "fleet_a", reverse=True)
    files = sorted(p.relative_to(tokens.directory) for p in tokens.directory.rglob("*") if p.is_file())
    assert len(files) == 5
    for file in files:
        assert (tokens.directory / file).read_bytes() == (again.directory / file).read_bytes()


def test_the_grid_names_the_cut_and_the_frame_shards(shards_dir, tokens, z):
    digest = ShardSet.open(shards_dir).digest
    assert tokens.grid == z.grid == {"window": 4, "phases": 2, "min_frames": 2, "shards": digest}
    assert (tokens.made_by, z.made_by) == ("enc", "prior")
    require_same_grid(tokens, z)


def test_joining_another_cut_other_shards_or_other_episodes_is_refused(shards_dir, tokens, z, tmp_path):
    other_cut = make_z(shards_dir, tmp_path / "cut", SegmentConfig(window=4, phases=1))
    other_shards = make_z(write_tiny_shards(tmp_path / "fleet_a", "fleet_a", LENGTHS, seed=1), tmp_path / "z")
    fewer = ZSet(z.directory, z.manifest, z.episodes("train")[1:], 0)
    for wrong in (other_cut, other_shards, fewer):
        with pytest.raises(RefusedError):
            require_same_grid(tokens, wrong)


def test_training_samples_join_tokens_and_z_of_the_same_segment(shards_dir, tokens, z):
    normalizers = {"fleet_a": ActionNormalizer.from_statistics(ShardSet.open(shards_dir).statistics)}
    segments = TokenSegments({"fleet_a": tokens}, {"fleet_a": z}, normalizers, "train", seed=0)
    batch = segments.fetch([Draw(7, "fleet_a", 4)])  # episodes of 3, 1, 6 segments: the third one's first
    sample = {name: array[0] for name, array in batch.items()}
    row = tokens.episodes("train")[2]
    np.testing.assert_array_equal(sample["tokens"], tokens.read(row)["tokens"][0])
    np.testing.assert_array_equal(sample["z_log_probs"], z.read(z.episodes("train")[2])["z"][0].astype(np.float32))
    assert (sample["tokens"].dtype, sample["z_log_probs"].dtype) == (np.int64, np.float32)
    plan = single_dataset_plan(
        "fleet_a", segments.num_segments("fleet_a"), 0, window=4, phases=2, shards_digest=str(tokens.grid["shards"])
    )
    _, batch = next(iter(SegmentLoader(SegmentSampler(plan), segments, 4)))
    assert batch["tokens"].shape == (4, 5, 4) and batch["z_log_probs"].shape == (4, 4, 16, 16)
    assert batch["uniform"].shape == (4, 4, 16) and z.shape == (16, 16)


def test_memory_is_bounded_by_the_cache(tokens):
    bounded = TokenSet.open(tokens.directory, cache_bytes=700)
    free = TokenSet.open(tokens.directory)
    for _ in range(2):
        for row in bounded.episodes("train"):
            for name, array in bounded.read(row).items():
                np.testing.assert_array_equal(array, free.read(row)[name])
            assert sum(a.nbytes for arrays in bounded._cache.values() for a in arrays.values()) <= 700


def test_another_kind_a_missing_one_and_an_edited_index_are_refused(tokens, z, tmp_path):
    with pytest.raises(RefusedError, match="another kind"):
        ZSet.open(tokens.directory)
    with pytest.raises(MissingInputError):
        TokenSet.open(tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("manifest.json", "episodes.parquet"):
        (copy / name).write_bytes((tokens.directory / name).read_bytes())
    with pytest.raises(MismatchError, match="another size"):
        TokenSet.open(copy)
    (copy / "episodes.parquet").write_bytes((z.directory / "episodes.parquet").read_bytes())
    with pytest.raises(MismatchError, match="index"):
        TokenSet.open(copy)


def test_a_flipped_bit_is_found_when_the_sample_is_read(shards_dir, tmp_path):
    damaged = make_tokens(shards_dir, tmp_path / "fleet_a")
    row = damaged.episodes("train")[0]
    (member,) = [member for member in row.members if member.name.endswith(".tokens.npy")]
    path = damaged.directory / row.shard
    data = bytearray(path.read_bytes())
    data[member.offset + member.size - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadDataError, match="bytes changed"):
        damaged.read(row)


def test_a_manifest_edited_to_another_grid_is_refused(shards_dir, tmp_path):
    edited = make_tokens(shards_dir, tmp_path / "fleet_a").directory / "manifest.json"
    manifest = json.loads(edited.read_text())
    manifest["grid"]["window"] = 8
    edited.write_text(json.dumps(manifest))
    with pytest.raises(MismatchError, match="grid"):
        TokenSet.open(edited.parent)


def test_an_encoder_of_another_type_is_refused(shards_dir, tmp_path):
    task = shard_tasks(shards_dir, tmp_path, SEGMENTS)[0]
    with pytest.raises(TypeError, match="uint16"):
        tokenize_shard(lambda frames: encode(frames).astype(np.int32), task)
    assert not any(path.is_file() for path in tmp_path.rglob("*")), "a failed shard leaves nothing"


def past(frames_STHWC, actions_STA):
    """A causal stand-in for a prior: how bright all frames so far are, and what has been done, step by step."""
    level = (frames_STHWC.mean((-1, -2, -3)) / 255 + actions_STA.sum(-1)).cumsum(axis=1) / 64
    return np.repeat(level[..., None], 256, axis=-1).reshape(*level.shape, 16, 16).astype(np.float16)


@pytest.mark.parametrize("memory", [4, 5, 8, 40])
def test_z_with_memory_comes_from_the_last_steps_of_the_episode_and_not_from_the_start_of_the_segment(
    shards_dir, tmp_path, memory
):
    shard_set = ShardSet.open(shards_dir)
    embedder = Embedder(past, ActionNormalizer.from_statistics(shard_set.statistics), memory)
    fragments = [embed_shard(embedder, task) for task in shard_tasks(shards_dir, tmp_path / "z", SEGMENTS)]
    write_manifest(tmp_path / "z", "z", shards_dir.name, grid_of_shards(shards_dir, SEGMENTS), "prior", fragments)
    table = ZSet.open(tmp_path / "z")
    for row in shard_set.episodes("train"):
        if row.num_steps < 2:
            continue
        frames, arrays = shard_set.read_frames(row, 0, row.num_steps), shard_set.read_arrays(row)
        action = np.where(arrays["action_valid"][:, None], arrays["action"], 0)
        taken = np.where(arrays["action_valid"][:, None], embedder.normalizer.normalize(action), 0)
        taken[-1] = 0  # leads out of the episode
        first, stored = 0, table.read(next(each for each in table.episodes("train") if each.key == row.key))
        for step in range(row.num_steps):
            if step - first == memory:  # full: the later half stays
                first = step - memory // 2
            expected = past(frames[None, first : step + 1], taken[None, first : step + 1])[0, -1]
            for start, z_TKM in zip(stored["starts"], stored["z"], strict=True):
                if start <= step < start + SEGMENTS.window:
                    np.testing.assert_allclose(z_TKM[step - start], expected, atol=2e-3)


def test_without_memory_z_is_that_of_the_segment_alone(shards_dir, z):
    shard_set = ShardSet.open(shards_dir)
    row = max(shard_set.episodes("train"), key=lambda each: each.num_steps)
    frames, arrays = shard_set.read_frames(row, 0, row.num_steps), shard_set.read_arrays(row)
    stored = z.read(next(each for each in z.episodes("train") if each.key == row.key))
    normalizer = ActionNormalizer.from_statistics(shard_set.statistics)
    taken = normalizer.normalize(arrays["action"][4:8])[None]
    np.testing.assert_array_equal(stored["z"][1], embed(frames[None, 4:8], taken)[0])
