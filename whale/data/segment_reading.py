"""One drawn segment -> numpy arrays: from frame shards (pixels, decoded on demand) or from token and z shards.

Everything random about a sample, its jitter and its noise, is keyed by (seed, stream, global sample index).

Shapes: T window, R resolution, A = 7 action dimensions, N tokens per frame, Z = 16 variables of z.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache, partial

import numpy as np

from whale.data.actions import ActionNormalizer
from whale.data.consumption import Batch
from whale.data.decoded_frames import DecodedFrames
from whale.data.sampler import Draw, combine, mix, text_key
from whale.data.segments import SegmentConfig, SegmentIndex, cut_actions, normalize_actions
from whale.data.storage.episode_index import EpisodeRow
from whale.data.storage.shards import ShardSet
from whale.data.tokens import CACHE_BYTES, SampleRow, TokenSet, ZSet, require_same_grid
from whale.errors import BadDataError

NUM_Z, NUM_Z_CLASSES = 16, 16
CACHED_EPISODES = 4096  # some kilobytes each
STEP_BYTES = 7 * 4 + 1 + 3 * 8  # of a cached episode: action, whether it is valid, where the frame lies
ROW_BYTES = 4096  # and once: key, instruction, metadata, where its arrays lie


def keyed_uniform(seed: int, stream: str, index: int, shape: tuple[int, ...]) -> np.ndarray:
    """float32 in [0, 1), a pure function of its arguments (Philox, 24 bits of each raw word)."""
    raw = np.random.Philox(key=_noise_key(seed, stream), counter=[0, 0, 0, index]).random_raw(int(np.prod(shape)))
    return ((raw >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)).reshape(shape)


@lru_cache(maxsize=64)
def _noise_key(seed: int, stream: str) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:16], "<u8")


@lru_cache(maxsize=64)
def _jitter_key(seed: int) -> np.ndarray:
    return combine(mix(np.uint64(seed % 2**64)), text_key("jitter"))


def jitter_shifts(seed: int, indices: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """int64 shifts, uniform in [0, limit), keyed by (seed, global sample index)."""
    bits = combine(_jitter_key(seed), np.asarray(indices, np.uint64)) >> np.uint64(32)
    return ((bits * np.asarray(limit, np.uint64)) >> np.uint64(32)).astype(np.int64)


class PixelSegments:
    """Segments of frames, for tokenizer and behavior model; `decoded_bytes` of decoded frames are kept.

    With `jitter` a start moves by a seeded shift smaller than the grid's stride, so that every frame with a successor
    is the start of some segment.
    """

    def __init__(
        self,
        shards: Mapping[str, ShardSet],
        split: str,
        config: SegmentConfig,
        normalizers: Mapping[str, ActionNormalizer],
        resolution: int,
        jitter: bool,
        seed: int,
        stream: str = "z",
        decoded_bytes: int = 0,
    ):
        self.shards, self.config, self.normalizers = dict(shards), config, dict(normalizers)
        self.resolution, self.jitter, self.seed, self.stream = resolution, jitter, seed, stream
        self._rows = {name: shard_set.episodes(split) for name, shard_set in self.shards.items()}
        self._index = {name: SegmentIndex(rows.num_steps, config) for name, rows in self._rows.items()}
        self._episode = lru_cache(maxsize=CACHED_EPISODES)(self._read_episode)
        self._decoded = DecodedFrames(decoded_bytes)
        self._frames_left = {name: index.frames_left() for name, index in self._index.items()}

    def num_segments(self, dataset: str) -> int:
        return self._index[dataset].num_segments

    def shards_digest(self, dataset: str) -> str:
        return self.shards[dataset].digest

    def segment_config(self, dataset: str) -> SegmentConfig:
        return self.config

    def describe(self, draw: Draw) -> str:
        """Where a draw comes from, for error messages."""
        episode, start = self._index[draw.dataset].start_of(draw.segment)
        row = self._rows[draw.dataset][episode]
        return f"dataset {draw.dataset}, episode {row.key}, frame {start}, shard {row.shard}"

    def buffers(self, num_samples: int) -> Batch:
        """Arrays of a batch that `fetch` fills itself."""
        shape = (num_samples, self.config.window + 1, self.resolution, self.resolution, 3)
        return {"frames": np.empty(shape, np.uint8)}

    def fetch(self, draw: Draw, buffers: Batch | None = None) -> Batch:
        """frames uint8 [T+1,R,R,3], action float32 [T,A], action_valid bool [T], action_mask bool [A].

        And of every sample: num_frames int32, sample_index int64, uniform float32 [T,Z] in [0, 1).
        buffers: this sample's part of `self.buffers`; its frames are decoded there.
        """
        window, shard_set = self.config.window, self.shards[draw.dataset]
        episode, start = self._index[draw.dataset].start_of(draw.segment)
        row, action_FA, valid_F = self._episode(draw.dataset, episode)
        start += int(self._shift(draw.dataset, np.array([draw.segment]), np.array([draw.index]))[0])
        stop = min(start + window + 1, row.num_steps)
        self._check_resolution(draw)
        frames_FHWC = (buffers or {name: array[0] for name, array in self.buffers(1).items()})["frames"]
        decode = partial(shard_set.read_frames_into, row)
        self._decoded.read_into((draw.dataset, episode), row.num_steps, start, frames_FHWC[: stop - start], decode)
        frames_FHWC[stop - start :] = frames_FHWC[stop - start - 1]
        action_TA, valid_T = cut_actions(action_FA, valid_F, start, window)
        return {
            "frames": frames_FHWC,
            "action": normalize_actions(self.normalizers[draw.dataset].normalize, action_TA, valid_T),
            "action_valid": valid_T,
            "action_mask": ~self.normalizers[draw.dataset].dead,
            "num_frames": np.array(stop - start, np.int32),
            **_common(self.seed, self.stream, draw, window),
        }

    def episode_of(self, draw: Draw) -> int:
        """Which episode of its dataset a draw comes from."""
        return self._index[draw.dataset].locate(draw.segment)[0]

    def memory_bound(self) -> int:
        """Bytes of the index, of the decoded frames that are kept, and of a full cache of the longest episodes."""
        index = sum(rows.nbytes for rows in self._rows.values())
        index += sum(left.nbytes for left in self._frames_left.values())
        longest = max(int(rows.num_steps.max()) for rows in self._rows.values() if len(rows))
        cached = min(CACHED_EPISODES, sum(map(len, self._rows.values())))
        frames = sum(int(rows.num_steps.sum()) for rows in self._rows.values()) * self.resolution**2 * 3
        return index + min(self._decoded.limit, frames) + cached * (longest * STEP_BYTES + ROW_BYTES)

    def valid_frames(self, dataset: str, segments: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Unpadded frames of draws `indices` of a dataset."""
        left = self._frames_left[dataset][segments] - self._shift(dataset, segments, indices)
        return np.minimum(self.config.window + 1, left)

    def _read_episode(self, dataset: str, episode: int) -> tuple[EpisodeRow, np.ndarray, np.ndarray]:
        """What every segment of an episode needs: its row, actions and their validity."""
        row = self._rows[dataset][episode]
        arrays = self.shards[dataset].read_arrays(row, ("action", "action_valid"))
        return row, arrays["action"], arrays["action_valid"]

    def _shift(self, dataset: str, segments: np.ndarray, indices: np.ndarray) -> np.ndarray:
        if not self.jitter:
            return np.zeros(len(segments), np.int64)
        limit = np.minimum(self.config.stride, self._frames_left[dataset][segments] - 1)
        return jitter_shifts(self.seed, indices, limit)

    def _check_resolution(self, draw: Draw) -> None:
        found = self.shards[draw.dataset].law.images.resolution
        if found != self.resolution:
            raise BadDataError(
                "frames of another shape than the model's",
                place=self.describe(draw),
                found=f"{found} x {found}",
                expected=f"{self.resolution} x {self.resolution}",
                remedy="set the same size in `ingest` and `tokenizer`",
            )


class TokenSegments:
    """Stored segments of tokens, joined with their z, for the dynamics model."""

    def __init__(
        self,
        tokens: Mapping[str, TokenSet],
        z: Mapping[str, ZSet] | None,
        normalizers: Mapping[str, ActionNormalizer],
        split: str,
        seed: int,
        stream: str = "z",
    ):
        self.tokens, self.z, self.normalizers = dict(tokens), None if z is None else dict(z), dict(normalizers)
        self.seed, self.stream = seed, stream
        sets = [*self.tokens.values(), *(self.z or {}).values()]
        for each in sets:
            each.limit_cache(CACHE_BYTES // len(sets))
        self._rows: dict[str, list[SampleRow]] = {}
        self._index: dict[str, SegmentIndex] = {}
        for name, token_set in self.tokens.items():
            if self.z is not None:
                require_same_grid(token_set, self.z[name])
            self._rows[name] = token_set.episodes(split)
            self._index[name] = SegmentIndex([row.num_steps for row in self._rows[name]], token_set.segments)
        self._z_rows = {name: {row.key: row for row in z_set.episodes(split)} for name, z_set in (self.z or {}).items()}
        self._num_frames = {name: index.num_frames() for name, index in self._index.items()}

    def num_segments(self, dataset: str) -> int:
        return self._index[dataset].num_segments

    def shards_digest(self, dataset: str) -> str:
        return str(self.tokens[dataset].grid["shards"])

    def segment_config(self, dataset: str) -> SegmentConfig:
        return self.tokens[dataset].segments

    def describe(self, draw: Draw) -> str:
        """Where a draw comes from, for error messages."""
        episode, position = self._index[draw.dataset].locate(draw.segment)
        row = self._rows[draw.dataset][episode]
        return f"dataset {draw.dataset}, episode {row.key}, segment {position}, shard {row.shard}"

    def buffers(self, num_samples: int) -> Batch:
        """None: tokens are small, their batches are stacked."""
        return {}

    def fetch(self, draw: Draw, buffers: Batch | None = None) -> Batch:
        """tokens int64 [T+1,N], z_log_probs float32 [T,Z,16], and action, action_valid, ... as of pixels."""
        episode, position = self._index[draw.dataset].locate(draw.segment)
        row = self._rows[draw.dataset][episode]
        arrays = self.tokens[draw.dataset].read(row)
        valid_T = arrays["action_valid"][position]
        window = len(valid_T)
        return {
            "tokens": arrays["tokens"][position].astype(np.int64),
            "action": normalize_actions(self.normalizers[draw.dataset].normalize, arrays["action"][position], valid_T),
            "action_valid": valid_T,
            "action_mask": ~self.normalizers[draw.dataset].dead,
            "z_log_probs": self._z_log_probs(draw.dataset, row.key, position, window),
            "num_frames": arrays["num_frames"][position],
            **_common(self.seed, self.stream, draw, window),
        }

    def memory_bound(self) -> int:
        """Bytes of the cached episodes of all sets of tokens and z at most; their index comes on top."""
        return CACHE_BYTES

    def valid_frames(self, dataset: str, segments: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Unpadded frames of segments of a dataset; `indices` play no part, stored segments are never re-cut."""
        return self._num_frames[dataset][segments]

    def _z_log_probs(self, dataset: str, key: str, position: int, window: int) -> np.ndarray:
        if self.z is None:
            return np.zeros((window, NUM_Z, NUM_Z_CLASSES), np.float32)
        return self.z[dataset].read(self._z_rows[dataset][key])["z"][position].astype(np.float32)


def _common(seed: int, stream: str, draw: Draw, window: int) -> Batch:
    return {
        "sample_index": np.array(draw.index, np.int64),
        "uniform": keyed_uniform(seed, stream, draw.index, (window, NUM_Z)),
    }
