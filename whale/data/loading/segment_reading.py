"""Drawn segments -> numpy arrays: from frame shards (pixels, decoded on demand) or from token and z shards.

What can be done for a batch at once is: a sample of frames that are kept costs little more than its copy.

Shapes: n samples, T window, R resolution, A = 7 action dimensions, N tokens per frame, K x M categories x classes of z.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial

import numpy as np

from whale.common.errors import BadDataError
from whale.data.loading.data_fraction import DataFraction
from whale.data.loading.decoded_frames import DecodedFrames
from whale.data.loading.keyed_noise import jitter_shifts, keyed_uniform
from whale.data.loading.receipt import Batch, Segments
from whale.data.loading.sampler import Draw
from whale.data.segments.actions import ACTION_SIZE, ActionNormalizer, normalize_each
from whale.data.segments.grid import SegmentConfig, SegmentIndex, cut_actions, normalize_actions
from whale.data.segments.token_shards import CACHE_BYTES, SampleRow, TokenSet, ZSet, require_same_grid
from whale.data.storage.episode_index import EpisodeRow
from whale.data.storage.shards import ShardSet

CACHED_EPISODES = 4096  # some kilobytes each
STEP_BYTES = 7 * 4 + 1 + 3 * 8  # of a cached episode: action, whether it is valid, where the frame lies
ROW_BYTES = 4096  # and once: key, instruction, metadata, where its arrays lie
NOT_KEPT = -1


class PixelSegments:
    """Segments of frames, for tokenizer and behavior model; `decoded_bytes` of decoded frames are kept.

    `noise_size`: K, how many numbers a model draws with in each step. `history`: a sample begins so many steps before
    its segment, or with the episode, and is longer by as many (T below is the window and the history).

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
        noise_size: int = 0,
        history: int = 0,
    ):
        self.shards, self.config, self.normalizers = dict(shards), config, dict(normalizers)
        self.resolution, self.jitter, self.seed, self.stream = resolution, jitter, seed, stream
        self.noise_size, self.history = noise_size, history
        self.length = config.window + history
        self._rows = {name: shard_set.episodes(split) for name, shard_set in self.shards.items()}
        self._index = {name: SegmentIndex(rows.num_steps, config) for name, rows in self._rows.items()}
        self._episode = lru_cache(maxsize=CACHED_EPISODES)(self._read_episode)
        self._frames_left = {name: index.frames_left() for name, index in self._index.items()}
        self._starts = {name: index.starts() for name, index in self._index.items()} if history else {}
        self._steps = np.arange(self.length + 1)
        self._require_resolution()
        num_frames = sum(int(rows.num_steps.sum()) for rows in self._rows.values())
        capacity = min(decoded_bytes // (resolution * resolution * 3), num_frames)
        self._decoded = DecodedFrames(capacity, (resolution, resolution, 3))

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
        shape = (num_samples, self.length + 1, self.resolution, self.resolution, 3)
        return {"frames": np.empty(shape, np.uint8)}

    def fetch(self, draws: Sequence[Draw], buffers: Batch | None = None) -> Batch:
        """frames uint8 [n,T+1,R,R,3], action float32 [n,T,A], action_valid bool [n,T], action_mask bool [n,A].

        And of every sample: num_frames int32 [n], sample_index int64 [n], uniform float32 [n,T,K] in [0, 1).
        buffers: these samples' part of `self.buffers`; frames are decoded there.
        """
        frames = (buffers or self.buffers(len(draws)))["frames"]
        action, valid, num_frames = _empty_steps(len(draws), self.length)
        kept_at = np.full(frames.shape[:2], NOT_KEPT)
        for i, (draw, shift) in enumerate(zip(draws, self._shifts(draws), strict=True)):
            with _reading(self, draw):
                read = self._read(draw, shift, frames[i], kept_at[i])
            action[i], valid[i], num_frames[i] = read
        self._copy_kept(kept_at, frames)
        return {
            "frames": frames,
            "num_frames": num_frames,
            **_actions(self.normalizers, draws, action, valid),
            **_noise(self.seed, self.stream, draws, (self.length, self.noise_size)),
        }

    def _read(
        self, draw: Draw, shift: int, out_THWC: np.ndarray, kept_at_T: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Raw actions, their validity, unpadded frames; and either where the frames are kept, or themselves in `out`.

        A tail repeats the last frame.
        """
        episode, start = self._index[draw.dataset].start_of(draw.segment)
        row, action_FA, valid_F = self._episode(draw.dataset, episode)
        start = max(start + shift - self.history, 0)
        count = min(len(out_THWC), row.num_steps - start)
        decode = partial(self.shards[draw.dataset].read_frames_into, row)
        place = self._decoded.place((draw.dataset, episode), row.num_steps, start, start + count, decode)
        if place is None:
            decode(start, out_THWC[:count])
            out_THWC[count:] = out_THWC[count - 1]
        else:
            kept_at_T[:] = np.minimum(place + self._steps, place + count - 1)
        return *cut_actions(action_FA, valid_F, start, self.length), count

    def _copy_kept(self, kept_at_nT: np.ndarray, frames_nTHWC: np.ndarray) -> None:
        is_kept = kept_at_nT[:, 0] != NOT_KEPT
        if is_kept.all():
            self._decoded.copy(kept_at_nT, frames_nTHWC)
            return
        for i in np.flatnonzero(is_kept):
            self._decoded.copy(kept_at_nT[i], frames_nTHWC[i])

    def choice(self, dataset: str) -> dict[str, int | float]:
        """Nothing: all episodes of the split are there to draw from."""
        return {}

    def memory_bound(self) -> int:
        """Bytes of the index, of the decoded frames that are kept, and of a full cache of the longest episodes."""
        index = sum(rows.nbytes for rows in self._rows.values())
        index += sum(each.nbytes for part in (self._frames_left, self._starts) for each in part.values())
        longest = max(int(rows.num_steps.max()) for rows in self._rows.values() if len(rows))
        cached = min(CACHED_EPISODES, sum(map(len, self._rows.values())))
        return index + self._decoded.nbytes + cached * (longest * STEP_BYTES + ROW_BYTES)

    def valid_frames(self, dataset: str, segments: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Unpadded frames of draws `indices` of a dataset."""
        left = self._frames_left[dataset][segments]
        shifts = self._jitter(indices, left) if self.jitter else 0
        before = np.minimum(self._starts[dataset][segments] + shifts, self.history) if self.history else 0
        return np.minimum(self.length + 1, left - shifts + before)

    def _read_episode(self, dataset: str, episode: int) -> tuple[EpisodeRow, np.ndarray, np.ndarray]:
        """What every segment of an episode needs: its row, actions and their validity."""
        row = self._rows[dataset][episode]
        arrays = self.shards[dataset].read_arrays(row, ("action", "action_valid"))
        return row, arrays["action"], arrays["action_valid"]

    def _shifts(self, draws: Sequence[Draw]) -> list[int]:
        """By how many frames the start of each draw moves."""
        if not self.jitter:
            return [0] * len(draws)
        left = np.array([self._frames_left[draw.dataset][draw.segment] for draw in draws])
        return self._jitter(np.array([draw.index for draw in draws]), left).tolist()

    def _jitter(self, indices: np.ndarray, frames_left: np.ndarray) -> np.ndarray:
        return jitter_shifts(self.seed, indices, np.minimum(self.config.stride, frames_left - 1))

    def _require_resolution(self) -> None:
        for name, shard_set in self.shards.items():
            found = shard_set.law.images.resolution
            if found != self.resolution:
                raise BadDataError(
                    "frames of another shape than the model's",
                    file=shard_set.directory,
                    place=f"dataset {name}",
                    found=f"{found} x {found}",
                    expected=f"{self.resolution} x {self.resolution}",
                    remedy="set the same number as `ingest.resolution` and as the model's `resolution`",
                )


class TokenSegments:
    """Stored segments of tokens, joined with their z, for the dynamics model; `chosen`: of some episodes alone."""

    def __init__(
        self,
        tokens: Mapping[str, TokenSet],
        z: Mapping[str, ZSet],
        normalizers: Mapping[str, ActionNormalizer],
        split: str,
        seed: int,
        stream: str = "z",
        chosen: DataFraction | None = None,
    ):
        self.tokens, self.z, self.normalizers = dict(tokens), dict(z), dict(normalizers)
        self.seed, self.stream, self.split, self.chosen = seed, stream, split, chosen
        sets = [*self.tokens.values(), *self.z.values()]
        for each in sets:
            each.limit_cache(CACHE_BYTES // len(sets))
        self._rows: dict[str, list[SampleRow]] = {}
        self._index: dict[str, SegmentIndex] = {}
        for name, token_set in self.tokens.items():
            require_same_grid(token_set, self.z[name])
            rows = token_set.episodes(split)
            places = chosen.places(name, [row.key for row in rows]) if chosen else range(len(rows))
            self._rows[name] = [rows[place] for place in places]
            self._index[name] = SegmentIndex([row.num_steps for row in self._rows[name]], token_set.segments)
        self._z_rows = {name: {row.key: row for row in z_set.episodes(split)} for name, z_set in self.z.items()}
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

    def fetch(self, draws: Sequence[Draw], buffers: Batch | None = None) -> Batch:
        """tokens int64 [n,T+1,N], z_log_probs float32 [n,T,K,M], and action, action_valid, ... as of pixels."""
        read = []
        for draw in draws:
            with _reading(self, draw):
                read.append(self._read(draw))
        tokens, action, valid, num_frames, z_log_probs = (np.stack(each) for each in zip(*read, strict=True))
        return {
            "tokens": tokens.astype(np.int64),
            "z_log_probs": z_log_probs.astype(np.float32),
            "num_frames": num_frames,
            **_actions(self.normalizers, draws, action, valid),
            **_noise(self.seed, self.stream, draws, z_log_probs.shape[1:3]),
        }

    def _read(self, draw: Draw) -> tuple[np.ndarray, ...]:
        """Stored tokens, raw actions, their validity, unpadded frames, and z."""
        episode, position = self._index[draw.dataset].locate(draw.segment)
        row = self._rows[draw.dataset][episode]
        arrays = self.tokens[draw.dataset].read(row)
        stored = [arrays[name][position] for name in ("tokens", "action", "action_valid", "num_frames")]
        return *stored, self.z[draw.dataset].read(self._z_rows[draw.dataset][row.key])["z"][position]

    def choice(self, dataset: str) -> dict[str, int | float]:
        """For a receipt: which part of the episodes is there to draw from; empty where all are."""
        if self.chosen is None:
            return {}
        return self.chosen.facts(len(self._rows[dataset]), len(self.tokens[dataset].episodes(self.split)))

    def memory_bound(self) -> int:
        """Bytes of the cached episodes of all sets of tokens and z at most; their index comes on top."""
        return CACHE_BYTES

    def valid_frames(self, dataset: str, segments: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Unpadded frames of segments of a dataset; `indices` play no part, stored segments are never re-cut."""
        return self._num_frames[dataset][segments]


@contextmanager
def _reading(segments: Segments, draw: Draw) -> Iterator[None]:
    """Whatever goes wrong in here says which sample it was."""
    try:
        yield
    except Exception as error:
        error.add_note(f"while reading sample {draw.index}: {segments.describe(draw)}")
        raise


def _empty_steps(num_samples: int, window: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Room for actions, their validity and the number of frames."""
    shape = (num_samples, window)
    return np.empty((*shape, ACTION_SIZE), np.float32), np.empty(shape, bool), np.empty(num_samples, np.int32)


def _actions(
    normalizers: Mapping[str, ActionNormalizer], draws: Sequence[Draw], raw_nTA: np.ndarray, valid_nT: np.ndarray
) -> Batch:
    each = [normalizers[draw.dataset] for draw in draws]
    return {
        "action": normalize_actions(partial(normalize_each, each), raw_nTA, valid_nT),
        "action_valid": valid_nT,
        "action_mask": ~np.stack([normalizer.dead for normalizer in each]),
    }


def _noise(seed: int, stream: str, draws: Sequence[Draw], shape: tuple[int, ...]) -> Batch:
    indices = np.array([draw.index for draw in draws], np.int64)
    return {"sample_index": indices, "uniform": keyed_uniform(seed, stream, indices, shape)}
