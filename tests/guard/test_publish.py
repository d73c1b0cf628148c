"""Publishing: bytes are whole or absent, also when the process is killed at any moment."""

import os
import subprocess
import sys
import time
from pathlib import Path

from whale.common.files import sha256_of_file
from whale.guard.publish import open_temporary, publish, remove_leftovers
from whale.seal import verify_sealed

ROOT = Path(__file__).parents[1]
WRITER = """
import sys
from pathlib import Path
from whale.common.files import sha256_of_file
from whale.guard.publish import open_temporary, publish
print("go", flush=True)
for number in range(10**6):
    temporary = open_temporary(Path("out"))
    for name in "abc":
        (temporary / name).write_bytes(bytes([number % 256]) * 20000)
    publish(temporary, Path("out"), sha256_of_file)
"""


def test_a_killed_writer_leaves_a_whole_output_or_none(tmp_path):
    """SIGKILL at 8 different moments; what has the final name always verifies."""
    for delay in (0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", WRITER]
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=-1, text=True) as process:
            process.stdout.readline()
            time.sleep(delay)
            process.kill()
        if (tmp_path / "out").exists():
            verify_sealed(tmp_path / "out", sha256_of_file)
            assert len({(tmp_path / "out" / name).read_bytes() for name in "abc"}) == 1
    remove_leftovers(tmp_path / "out")
    assert not list(tmp_path.glob(".out.*"))


def test_a_reader_of_the_old_output_is_not_disturbed(tmp_path):
    first = open_temporary(tmp_path / "out")
    (first / "a").write_text("first")
    publish(first, tmp_path / "out", sha256_of_file)
    with open(tmp_path / "out" / "a") as reader:
        second = open_temporary(tmp_path / "out")
        (second / "a").write_text("second")
        publish(second, tmp_path / "out", sha256_of_file)
        assert reader.read() == "first"
    assert (tmp_path / "out" / "a").read_text() == "second"
