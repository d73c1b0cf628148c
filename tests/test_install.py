"""scripts/install.py: what a person sees while pip works."""

import importlib.util
import sys
from pathlib import Path

PATH = Path(__file__).parents[1] / "scripts" / "install.py"
SLOW = """
import sys, time
for n in range(3):
    print('Collecting p', flush=True)
    time.sleep(0.3)
print('Installing collected packages', flush=True)
time.sleep(0.5)
sys.exit(3)
"""


def test_it_says_how_far_pip_is_while_pip_runs_and_keeps_its_output(tmp_path, capsys, monkeypatch):
    spec = importlib.util.spec_from_file_location("install", PATH)
    install = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(install)
    monkeypatch.setattr(install, "INTERVAL_SECONDS", 0.1)
    assert install._follow([sys.executable, "-c", SLOW], tmp_path / "log") == 3
    said = capsys.readouterr()
    counts = [line.split()[2] for line in said.out.splitlines() if line.endswith("packages resolved")]
    assert len(set(counts)) > 1 and counts == sorted(counts)  # a busy machine may miss one, not all
    assert said.out.splitlines()[-1].endswith("writing files") and "pip failed" in said.err
    assert (tmp_path / "log").read_text() == "Collecting p\n" * 3 + "Installing collected packages\n"
