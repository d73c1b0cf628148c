"""A LeRobot policy folder behind a websocket, for `whale policy evaluate` and `whale play` (openpi's messages).

LeRobot pins another torch, and since 0.5 another Python, so it runs in an environment of its own, which needs nothing
of this project:

    python3.12 -m venv lerobot && lerobot/bin/pip install lerobot==0.6.1 msgpack websockets
    lerobot/bin/python scripts/serve_lerobot.py POLICY_FOLDER --port 8000 --control-hz 5
    whale policy evaluate world-bundle --policy mine=ws://127.0.0.1:8000

The folder is what `save_pretrained` wrote: config.json, model.safetensors, and the two processors, which normalise
observations and un-normalise actions. What comes out of them is what the world gets: say its rate and the names of its
dimensions, so that the world's action contract can be compared. Each observation is answered by one chunk; a policy
that looks at several past frames is refused, for a chunk's frames in between never reach it.
"""

import argparse
import hashlib
import itertools
import sys
import traceback
from pathlib import Path

import msgpack
import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from torch.nn.functional import interpolate
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

LOOPBACK = "127.0.0.1"
# As whale/common/limits.py has the first (MESSAGE_BYTES). An observation is one map of a handful of arrays.
MAX_MESSAGE_BYTES, MAX_LISTS = 64 * 2**20, 1000


def packed(value: object) -> bytes:
    def default(found):
        return {b"__ndarray__": True, b"data": found.tobytes(), b"dtype": found.dtype.str, b"shape": found.shape}

    return msgpack.packb(value, default=default)


def unpacked(payload: bytes) -> dict:
    """Only arrays of plain numbers become arrays. ValueError for any other, and for more than a thousand lists or maps,
    each of a thousand: whatever a browser's page or another process of this machine sends stays small in memory."""
    lists = itertools.count(1)

    def few(found):
        if next(lists) > MAX_LISTS:
            raise ValueError(f"a message of more than {MAX_LISTS} lists and maps")
        return found

    def hook(found):
        few(found)
        if b"__ndarray__" not in found:
            return found
        kind = np.dtype(found[b"dtype"])
        if kind.kind not in "biuf":
            raise ValueError(f"an array of {kind}")
        return np.frombuffer(found[b"data"], kind).reshape(found[b"shape"])

    return msgpack.unpackb(
        payload, object_hook=hook, list_hook=few, max_array_len=MAX_LISTS, max_map_len=MAX_LISTS, max_ext_len=0
    )


class ServedPolicy:
    """`chunk`: one observation -> actions [k, A], un-normalised."""

    def __init__(self, folder: Path, device: str, zero_state: bool, clip_gripper: bool):
        config = PreTrainedConfig.from_pretrained(folder)
        config.device = device
        self.clip_gripper = clip_gripper
        steps = getattr(config, "n_obs_steps", 1)
        if steps != 1:
            raise SystemExit(f"error: this policy looks at {steps} past frames; here it is shown one a chunk")
        self.images = {name: each.shape for name, each in config.image_features.items()}
        self.others = {name: each.shape for name, each in config.input_features.items() if name not in self.images}
        if len(self.images) != 1:
            raise SystemExit(f"error: one camera is imagined, and this policy looks at {sorted(self.images) or 'none'}")
        if self.others and not zero_state:
            names = ", ".join(f"{name} {tuple(shape)}" for name, shape in self.others.items())
            raise SystemExit(f"error: no world imagines what this policy also wants: {names}\n"
                             "  remedy:   --zero-state, if it may do without")  # fmt: skip
        self.policy = get_policy_class(config.type).from_pretrained(folder, config=config).to(device).eval()
        override = {"device_processor": {"device": device}}
        self.before, self.after = make_pre_post_processors(
            config, pretrained_path=str(folder), preprocessor_overrides=override
        )
        self.used = int(getattr(config, "n_action_steps", 1))

    @torch.inference_mode()
    def chunk(self, image: np.ndarray, instruction: str) -> np.ndarray:
        """image uint8 [R, R, 3]."""
        ((name, shape),) = self.images.items()
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        pixels = interpolate(pixels, tuple(shape[-2:]), mode="bilinear", antialias=True, align_corners=False)
        observation: dict[str, object] = {name: pixels.clamp(0, 1), "task": [instruction]}
        observation |= {other: torch.zeros(1, *size) for other, size in self.others.items()}
        self.policy.reset()
        actions = self.policy.predict_action_chunk(self.before(observation))
        chosen = self.after(actions)[0, : self.used].float().cpu().numpy()
        if self.clip_gripper:
            chosen[:, -1] = chosen[:, -1].clip(0, 1)
        return chosen


def digest_of(folder: Path) -> str:
    """Of every file: what the client takes for the policy's identity."""
    whole = hashlib.sha256()
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        whole.update(f"{path.relative_to(folder)}|{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=8000, help="0: a free one, which is printed")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--image", default="observation/image", help="the observation's name for the frame")
    parser.add_argument("--control-hz", type=float, help="rate of its actions, compared with the world's")
    parser.add_argument("--dimensions", help="names of its dimensions, with commas between, compared with the world's")
    parser.add_argument("--zero-state", action="store_true", help="zeros for what no world imagines (joint states)")
    parser.add_argument("--clip-gripper", action="store_true", help="the last dimension into [0, 1]: it is regressed")
    args = parser.parse_args()
    if not (args.folder / "config.json").is_file():
        print(f"error: no LeRobot policy here\n  file:     {args.folder}\n  expected: config.json", file=sys.stderr)
        return 2
    served = ServedPolicy(args.folder, args.device, args.zero_state, args.clip_gripper)
    metadata: dict[str, object] = {"policy": f"lerobot {digest_of(args.folder)}"}
    metadata |= {"zero_state": args.zero_state, "clip_gripper": args.clip_gripper}
    metadata |= {} if args.control_hz is None else {"control_hz": args.control_hz}
    metadata |= {} if args.dimensions is None else {"action_dimensions": args.dimensions.split(",")}

    def handle(connection) -> None:
        connection.send(packed(metadata))
        try:
            for message in connection:
                asked = unpacked(message)
                connection.send(packed({"actions": served.chunk(asked[args.image], str(asked.get("prompt", "")))}))
        except ConnectionClosed:
            return
        except Exception:  # as openpi's servers do: the client shows the trace
            connection.send(traceback.format_exc())
            raise

    with serve(handle, LOOPBACK, args.port, compression=None, max_size=MAX_MESSAGE_BYTES) as server:
        print(f"ws://{LOOPBACK}:{server.socket.getsockname()[1]}", flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
