"""The losses of short trainings of the tiny models: a change of arithmetic, initialisation or order is seen here.

Written anew by `python tests/training/test_golden_losses.py`, with a word in the CHANGELOG on why they changed. The
tolerance is that of other processors' float sums, far below what a changed formula does.
"""

import json
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.json"
KINDS = ("tokenizer", "behavior", "dynamics")
if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
from tiny_training import run  # noqa: E402


def losses(kind: str, directory: Path) -> list[float]:
    """Of 10 steps."""
    _, result = run(kind, directory)
    return [record["loss"] for record in result.curve]


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_the_first_day(tmp_path, kind):
    golden = json.loads(GOLDEN.read_text())[kind]
    assert losses(kind, tmp_path) == pytest.approx(golden, rel=1e-3)
    assert len(golden) >= 9 and len(set(golden)) == len(golden)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        found = {kind: losses(kind, Path(folder) / kind) for kind in KINDS}
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
