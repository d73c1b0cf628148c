"""Imports go down, never up, never sideways; frameworks stay in whale/runtime; some calls are banned everywhere."""

import ast
import re
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from whale.lineage.closure import is_inert

ROOT = Path(__file__).parents[1]
FRAMEWORKS = {"ray", "apache_beam", "mlflow", "tensorflow", "tensorflow_datasets"}
AT_HOME = ("whale/runtime", "whale/tracking")  # of frameworks
LAYERS = [
    {"whale.cli", "whale.commands"},
    {"whale.run", "whale.play"},
    {"whale.audit", "whale.guard"},
    {"whale.planning"},
    {"whale.tracking", "whale.lineage"},
    {"pipelines"},
    {"whale.runtime", "whale.reporting"},
    {"whale.control"},
    {"whale.env", "whale.trials"},
    {"whale.policies", "whale.worlds"},
    {"whale.training", "whale.evaluation"},
    {"whale.baselines", "whale.reward"},
    {"whale.data", "whale.models", "whale.sim"},
    {"whale.seal", "whale.pipeline_file"},
    {"whale.common"},
]
ONE_PACKAGE = [{"whale.cli", "whale.commands"}]
TORCH_FREE = ("whale/common", "whale/data", "whale/sim", "whale/lineage", "whale/guard", "whale/reporting")
TORCH_FREE += ("whale/audit", "whale/commands", "whale/cli.py", "whale/run.py")
MOST_FILES = 16  # of a room
BANNED_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
# Items, results and errors of our own processes travel pickled through memory, as Ray itself does; never to a file.
ALLOWED_MODULES = {"whale/runtime/maps/ray_map.py": {"pickle"}}
# The one place that chooses a module by name: one of those that lie in pipelines/.
ALLOWED_CALLS = {"whale/run.py": {"importlib.import_module"}}
# JSON is read in one place, which counts before it makes and names what is wrong; so is `from json import loads`.
JSON_HOME = "whale/common/json_files.py"
JSON_READERS = {"json.load", "json.loads", "json.JSONDecoder", "json.decoder", "json.scanner"}
BANNED_CALLS = {"eval", "exec", "os.system", "os.popen", "torch.load", "torch.save", "yaml.load", "yaml.unsafe_load"}
BANNED_CALLS |= {"np.random.seed", "numpy.random.seed", "torch.seed", "PIL.Image.open", "Image.open", "input"}
BANNED_CALLS |= {"importlib.import_module", "__import__"}


def python_files() -> list[Path]:
    return sorted(path for name in ("whale", "pipelines") for path in (ROOT / name).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> set[str]:
    """Dotted names imported anywhere in the file; what stands under TYPE_CHECKING counts too."""
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def part(module: str) -> str | None:
    """`whale.data.storage.shards.ShardSet` -> `whale.data`; None for what is not ours."""
    words = module.split(".")
    if words[0] == "pipelines":
        return "pipelines"
    return ".".join(words[:2]) if words[0] == "whale" and len(words) > 1 else None


def level(name: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if name in layer)


def parametrize_files(paths=None):
    paths = python_files() if paths is None else paths
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.relative_to(ROOT).as_posix())


@parametrize_files()
def test_imports_go_down_and_never_sideways(path):
    own = part(".".join(path.relative_to(ROOT).with_suffix("").parts)) or "whale"
    if own == "whale.__init__":
        return
    for name in sorted(filter(None, map(part, imports(path)))):
        if name == own or any({name, own} <= package for package in ONE_PACKAGE):
            continue
        assert level(name) > level(own), f"{own} imports {name}"


@parametrize_files()
def test_frameworks_are_imported_at_home_only_and_dvc_nowhere(path):
    tops = {name.partition(".")[0] for name in imports(path)}
    assert "dvc" not in tops
    if not path.relative_to(ROOT).as_posix().startswith(AT_HOME):
        assert not tops & FRAMEWORKS


@parametrize_files(sorted(path for room in AT_HOME for path in (ROOT / room).rglob("*.py")))
def test_frameworks_are_imported_inside_functions(path):
    """So that the switches of environment.apply() come first, and a short stage does not pay for them."""
    top_level = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in tree(path).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not {name.partition(".")[0] for name in top_level} & FRAMEWORKS


@parametrize_files()
def test_video_and_hdf5_libraries_are_imported_by_their_readers_only(path):
    """And these inside a function of `opening`, so that nobody pays for a format that is not read."""
    readers = {"whale/data/ingest/sources/video.py": {"av"}, "whale/data/ingest/sources/hdf5.py": {"h5py"}}
    readers |= {"whale/audit/conversion/lerobot.py": {"av"}, "whale/audit/conversion/hdf5.py": {"h5py"}}  # the second
    tops = {name.partition(".")[0] for name in imports(path)}
    assert tops & {"av", "h5py"} <= readers.get(path.relative_to(ROOT).as_posix(), set())
    if path.name != "lerobot.py":
        for node in tree(path).body:
            module = node.module if isinstance(node, ast.ImportFrom) else ""
            assert module.removeprefix("whale.data.ingest.sources.") not in {"video", "hdf5", "lerobot"}, (
                f"line {node.lineno}"
            )


@parametrize_files()
def test_data_simulation_and_lineage_work_without_torch(path):
    if path.relative_to(ROOT).as_posix().startswith(TORCH_FREE):
        assert "torch" not in {name.partition(".")[0] for name in imports(path)}


@parametrize_files()
def test_no_banned_call_or_module(path):
    banned = BANNED_MODULES - ALLOWED_MODULES.get(path.relative_to(ROOT).as_posix(), set())
    assert not {name.partition(".")[0] for name in imports(path)} & banned
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            allowed = ALLOWED_CALLS.get(path.relative_to(ROOT).as_posix(), set())
            assert called not in BANNED_CALLS - allowed, f"line {node.lineno}"
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                assert (keyword.arg, value) not in {("shell", True), ("allow_pickle", True)}, f"line {node.lineno}"


@parametrize_files()
def test_json_is_read_in_its_one_home(path):
    """`parse_json` and `read_json`: bounded, never a RecursionError, and the file is named."""
    if path.relative_to(ROOT).as_posix() == JSON_HOME:
        return
    assert not {name for name in imports(path) if name.startswith("json.")}
    assert not {name.partition(".")[0] for name in imports(path)} & {"orjson", "ujson", "simplejson", "msgspec"}
    used = {ast.unparse(node): node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
    assert not {name: line for name, line in used.items() if name in JSON_READERS}


HOMES = {"MANIFEST.json": "whale/common/files.py", "model.safetensors": "whale/common/files.py"}


@parametrize_files()
def test_names_of_files_that_rooms_share_stand_at_their_owner(path):
    """As a whole text or the end of a path; prose may speak of them."""
    own = path.relative_to(ROOT).as_posix()
    texts = [(node.value, node.lineno) for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)
             and isinstance(node.value, str) and not {" ", "\n"} & set(node.value)]  # fmt: skip
    again = [(line, text) for text, line in texts for name, home in HOMES.items()
             if text.rpartition("/")[2] == name and own != home]  # fmt: skip
    assert not again


# Limits on what others wrote stand in whale/common/limits.py. A name elsewhere that looks like one is listed here, with
# what it is instead.
LIMIT = re.compile(r"_?(MAX|MOST|LONGEST|LARGEST|DEEPEST)(_\w+)?|(\w+_)?(LIMIT|TIMEOUT)(_\w+)?")
NO_LIMITS = {
    "whale/audit/checks/tracking_page.py": ({"MAX_SHOWN"}, "lines of a report"),
    "whale/audit/checks/verify.py": ({"MAX_LEAD"}, "how far clocks may differ"),
    "whale/audit/exports/world_bundle/rounded.py": ({"MOST"}, "starts that are compared: of what we write"),
    "whale/audit/exports/world_bundle/world.py": ({"MOST_BYTES"}, "of what we write"),
    "whale/commands/lineage/text.py": ({"MAX_ROWS"}, "lines of a report"),
    "whale/control/optimize.py": ({"MOST_FRAMES"}, "of a fit: science"),
    "whale/data/ingest/quality/motion.py": ({"MOST_MOTION"}, "of the quality gate: science"),
    "whale/data/ingest/tar_parts.py": ({"MAX_PARTS"}, "of what we write"),
    "whale/data/loading/loader.py": ({"MOST_THREADS"}, "for speed"),
    "whale/data/storage/tar.py": ({"MAX_NAME"}, "what the format takes"),
    "whale/data/workbench/spec_check.py": ({"LARGEST_STEP"}, "of a robot: science"),
    "whale/evaluation/behavior/probe.py": ({"MOST_ITERATIONS"}, "of a fit: science"),
    "whale/evaluation/judging/consistency.py": ({"MOST_INVALID"}, "a share: of the protocol"),
    "whale/evaluation/judging/fleet_tests.py": ({"MAX_STEPS"}, "of the simulator's episodes: science"),
    "whale/evaluation/measuring/groups.py": ({"MOST"}, "of what is shown by name"),
    "whale/evaluation/video/pose_probe.py": ({"LARGEST"}, "of a network: science"),
    "whale/guard/run_record.py": ({"MAX_SUBJECTS"}, "of what we write"),
    "whale/lineage/code_state.py": ({"MAX_PATCH_BYTES"}, "of what we write"),
    "whale/lineage/inputs.py": ({"MAX_HOLDERS"}, "of what we write"),
    "whale/models/trunk/attention.py": ({"LONGEST_WRITTEN_OUT", "LONGEST_FUSED"}, "for speed"),
    "whale/reporting/behavior/cloud.py": ({"MOST_POINTS"}, "of a drawing"),
    "whale/reporting/charts.py": ({"MOST_TICKS", "MOST_DOTS"}, "of a drawing"),
    "whale/models/trunk/torch_process.py": ({"LARGEST", "LARGEST_OF_OLD"}, "of the allocator"),
    "whale/sim/fleet/policies.py": ({"MAX_TURN"}, "of a robot: science"),
    "whale/sim/fleet/state.py": ({"MAX_STEP", "TILT_LIMIT", "ABSENT_LIMIT"}, "of a robot: science"),
    "whale/sim/metaworld/simulator/tasks.py": ({"MOST_STEPS"}, "of the simulator's episodes: science"),
    "whale/tracking/mlflow_models.py": ({"MAX_DIGEST"}, "what MLflow takes"),
    "whale/tracking/spooled_run.py": ({"MAX_PARAMS", "MAX_METRICS", "MAX_NAME", "MAX_TEXT"}, "what MLflow takes"),
    "whale/training/loop/non_finite.py": ({"MAX_NAMED"}, "words of an error"),
    "whale/training/loop/recomputation.py": ({"MAX_NAMED"}, "words of an error"),
    "scripts/gpu.py": ({"LIMIT_SECONDS", "LIMIT_MB"}, "of what we run and write"),
    "scripts/serve_lerobot.py": ({"MAX_MESSAGE_BYTES", "MAX_LISTS"}, "it runs without this package; a test compares"),
}
# Rooms that read what others wrote: there a size in bytes is a limit, too, and no call is given one as a bare number.
READERS = ("whale/lineage", "whale/audit", "whale/data/ingest", "whale/data/storage", "whale/play", "whale/policies")
READERS += ("whale/evaluation/judging", "whale/evaluation/by_hand", "whale/worlds", "whale/tracking")
SIZES = {"SECRET_BYTES", "FRAMING_BYTES", "SCENE_BYTES", "CODE_BYTES"}  # of formats and of what we write
BOUNDING = re.compile(r"max_\w+|\w*timeout\w*|limit_\w+")


def constants(path: Path) -> set[str]:
    """Names that are assigned at the top of a module."""
    nodes = [node for node in tree(path).body if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign)]
    targets = [each for node in nodes for each in getattr(node, "targets", [getattr(node, "target", None)])]
    names = [part for each in targets for part in (each.elts if isinstance(each, ast.Tuple) else [each])]
    return {each.id for each in names if isinstance(each, ast.Name)}


@parametrize_files(python_files() + sorted((ROOT / "scripts").rglob("*.py")))
def test_limits_on_what_others_wrote_stand_in_one_file(path):
    own = path.relative_to(ROOT).as_posix()
    known, _ = NO_LIMITS.get(own, (set(), ""))
    named = {name for name in constants(path) if LIMIT.fullmatch(name)}
    assert named == known, "a limit belongs into whale/common/limits.py; what is none, into NO_LIMITS with what it is"
    if own.startswith(READERS):
        assert not {name for name in constants(path) - known if name.endswith("_BYTES")} - SIZES


@parametrize_files([path for path in python_files() if path.relative_to(ROOT).as_posix().startswith(READERS)])
def test_no_limit_is_a_bare_number_in_a_call(path):
    """One is none: `max_results=1` asks whether there is any."""
    keywords = [each for node in ast.walk(tree(path)) if isinstance(node, ast.Call) for each in node.keywords]
    bare = [f"line {each.value.lineno}: {each.arg}" for each in keywords if BOUNDING.fullmatch(each.arg or "")
            and isinstance(getattr(each.value, "value", None), int | float) and each.value.value > 1]  # fmt: skip
    assert not bare


def test_every_limit_is_used_and_none_stands_there_twice():
    home = ROOT / "whale/common/limits.py"
    used = {name.rpartition(".")[2] for path in python_files() for name in imports(path)
            if name.startswith("whale.common.limits.")}  # fmt: skip
    assert constants(home) - {"KIB", "GIB"} <= used
    text = home.read_text(encoding="utf-8")
    assert [
        name for name in constants(home) if len(re.findall(rf"^[A-Z_, ]*\b{name}\b[A-Z_, ]* = ", text, re.M)) > 1
    ] == []


def test_every_room_of_the_layers_is_there():
    names = {part(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in python_files()}
    assert set().union(*LAYERS) == names - {None, "whale.__init__"}


def test_rooms_are_small():
    rooms = Counter(path.parent.relative_to(ROOT).as_posix() for path in python_files() if path.name != "__init__.py")
    del rooms["pipelines"]  # a file a stage
    assert not {room: number for room, number in rooms.items() if number > MOST_FILES}


def test_no_import_goes_round_in_a_circle():
    """Also not where an import stands under TYPE_CHECKING or inside a function."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in python_files()}
    below = {
        name: {found for each in imports(path) for found in (each, each.rpartition(".")[0]) if found in modules}
        - {name}
        for name, path in modules.items()
    }
    TopologicalSorter(below).prepare()  # CycleError names a circle


OWN_TEXT = {
    "getsource",
    "getsourcelines",
    "getdoc",
    "getcomments",
    "__doc__",
    "co_firstlineno",
    "f_lineno",
    "linecache",
}
READ_BY = {"whale/run.py", "whale/planning/dag_file.py"}  # for --help


@parametrize_files()
def test_nothing_that_decides_a_byte_reads_its_own_text(path):
    """Comments and docstrings may change without a run: `whale accept` holds only because nobody looks at them."""
    if path.relative_to(ROOT).as_posix() in READ_BY:
        return
    for node in ast.walk(tree(path)):
        names = [getattr(node, field, None) for field in ("attr", "id", "module", "name")]
        names += [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []
        assert not OWN_TEXT & {name for name in names if isinstance(name, str)}, f"line {node.lineno}"


@parametrize_files()
def test_code_is_ascii(path):
    path.read_bytes().decode("ascii")


@parametrize_files()
def test_no_expression_stands_for_a_decision(path):
    """`a() if b else c()` and `a() or b()` as statements hide an `if`; ruff has no rule for it."""
    hidden = [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Expr)
              and isinstance(node.value, ast.IfExp | ast.BoolOp)]  # fmt: skip
    assert not hidden, f"lines {hidden}"


def test_init_files_are_empty_but_the_first_which_only_fetches_on_demand():
    """Importing it runs nothing, so it is code of no stage; and no stage may ask it for anything."""
    full = [path for path in python_files() if path.name == "__init__.py" and path.stat().st_size]
    assert full == [ROOT / "whale/__init__.py"] and is_inert(full[0])
    askers = [path for path in python_files() if {name for name in imports(path) if name.partition(".")[0] == "whale"}
              & {"whale", "whale.load"}]  # fmt: skip
    assert not askers
