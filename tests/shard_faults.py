"""What can happen to a folder of shards, each as one function that does it; used by tests/data and tests/faults."""

import io
import json
import shutil
import tarfile

from whale.data.storage.shards import ShardSet


def read_everything(directory, verify="size"):
    """Arrays and frames of every episode: what a training run over the whole set would see."""
    shard_set = ShardSet.open(directory, verify=verify)
    found = {}
    for row in shard_set.episodes("train"):
        frames = shard_set.read_frames(row, 0, row.num_steps)
        found[row.key] = (shard_set.read_arrays(row)["action"].tobytes(), frames.tobytes())
    return found


def first_tar(directory):
    return directory / "train" / "tiny-train-00000-000.tar"


def cut_at_member_boundary(directory):
    shard_set = ShardSet.open(directory)
    truncate(first_tar(directory), shard_set.episodes("train")[1].frames["primary"][0][0] - 512)


def cut_in_a_header(directory):
    shard_set = ShardSet.open(directory)
    truncate(first_tar(directory), shard_set.episodes("train")[1].frames["primary"][0][0] - 200)


def cut_in_a_payload(directory):
    shard_set = ShardSet.open(directory)
    truncate(first_tar(directory), shard_set.episodes("train")[1].frames["primary"][0][0] + 100)


def truncate(path, size):
    path.write_bytes(path.read_bytes()[: int(size)])


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[int(position)] ^= 1
    path.write_bytes(bytes(data))


def flip_a_header(directory):
    row = ShardSet.open(directory).episodes("train")[1]
    flip(first_tar(directory), row.frames["primary"][0][0] - 512)


def flip_a_payload(directory):
    row = ShardSet.open(directory).episodes("train")[1]
    flip(first_tar(directory), row.frames["primary"][2][0] + 300)


def writer_was_killed(directory):
    (directory / "manifest.json").unlink()


def keys_interleaved(directory):
    path = first_tar(directory)
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in sorted(members, key=lambda pair: pair[0].name.split(".", 1)[1]):
            tar.addfile(member, io.BytesIO(data))


def shard_listed_twice(directory):
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["shards"].append(manifest["shards"][0])
    (directory / "manifest.json").write_text(json.dumps(manifest))


def shard_missing(directory):
    first_tar(directory).unlink()


def shard_is_a_compressed_bomb(directory):
    shutil.make_archive(str(directory / "bomb"), "gztar", directory / "train")
    shutil.move(directory / "bomb.tar.gz", first_tar(directory))


def shard_is_a_link(directory):
    shutil.move(first_tar(directory), directory / "elsewhere.tar")
    first_tar(directory).symlink_to(directory / "elsewhere.tar")


def shard_outside(directory):
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["shards"][0]["file"] = "../../etc/passwd"
    (directory / "manifest.json").write_text(json.dumps(manifest))


FAULTS = [
    cut_at_member_boundary, cut_in_a_header, cut_in_a_payload, flip_a_header, flip_a_payload, writer_was_killed,
    keys_interleaved, shard_listed_twice, shard_missing, shard_is_a_compressed_bomb, shard_is_a_link, shard_outside,
]  # fmt: skip
