"""The second home of the states: whole or not there, verified when it comes back, never a hindrance to training."""

import functools
import shutil
import uuid

import fsspec
import pytest
import torch
from tiny_training import task

from whale.common.errors import ConfigError, MissingInputError
from whale.runtime.train.supervise import train
from whale.runtime.train.training_job import TrainingJob
from whale.runtime.workers.process.execution import load_execution
from whale.training.loop.communicator import Communicator
from whale.training.loop.loop import fit
from whale.training.loop.resume.checkpoint import StateFolder, TrainingState
from whale.training.loop.resume.state_mirror import StateMirror
from whale.training.loop.task import Hooks


def state(step: int) -> TrainingState:
    return TrainingState(step, {"model.w": torch.full((64, 64), float(step))}, {"curve": [{"step": step}]})


@pytest.fixture(params=["memory", "file"])
def bucket(request, tmp_path):
    return f"memory://{uuid.uuid4().hex}/run" if request.param == "memory" else f"file://{tmp_path}/bucket/run"


def folder(path, uri, said=None, notes=()) -> StateFolder:
    say = (lambda line: None) if said is None else said.append
    return StateFolder(path, say, "me", StateMirror(uri, notes))


def edit(uri: str, name: str, change) -> None:
    filesystem, root = fsspec.core.url_to_fs(uri)
    changed = change(filesystem.cat_file(f"{root}/{name}"))
    filesystem.rm_file(f"{root}/{name}")
    if changed is not None:
        filesystem.pipe_file(f"{root}/{name}", changed)


def test_another_machine_goes_on_from_the_bytes_of_the_first(tmp_path, bucket):
    first, second = folder(tmp_path / "a", bucket), folder(tmp_path / "b", bucket)
    assert first.newest() is None
    for step in (1, 2, 3):
        first.save(state(step))
    assert StateMirror(bucket).names() == ["step-00000002", "step-00000003"]  # as on the disk
    name = second.newest_name()
    assert name == first.newest_name()
    found = second.load(name)
    assert found.step == 3 and torch.equal(found.tensors["model.w"], state(3).tensors["model.w"])
    assert folder(tmp_path / "c", bucket).load(name).step == 3  # a worker of a third machine, told the name


def test_what_is_newer_here_wins_and_nothing_is_fetched(tmp_path, bucket):
    folder(tmp_path / "a", bucket).save(state(3))
    StateFolder(tmp_path / "b", identity="me").save(state(4))
    assert folder(tmp_path / "b", bucket).newest().step == 4
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["step-00000004"]


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("tensors.safetensors", lambda data: data[:-1], "tensors.safetensors"),
        ("tensors.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1]), "tensors.safetensors"),
        ("tensors.safetensors", lambda data: data + b"?" * 9, "larger than its manifest says"),
        ("MANIFEST.json", lambda data: b"{", "unreadable manifest"),
        ("MANIFEST.json", lambda data: data.replace(b"state.json", b"../../evil"), "a manifest leaves its folder"),
        ("MANIFEST.json", lambda data: None, ""),  # the copy was cut short: it does not exist
    ],
    ids=["cut", "flipped", "longer", "torn manifest", "escaping manifest", "no manifest"],
)
def test_a_damaged_copy_is_rejected_by_name_and_the_one_before_is_used(tmp_path, bucket, file, change, words):
    first, said = folder(tmp_path / "a", bucket), []
    first.save(state(1))
    first.save(state(2))
    edit(bucket, f"step-00000002/{file}", change)
    assert folder(tmp_path / "b", bucket, said).newest().step == 1
    assert len(said) == bool(words)
    assert all("step-00000002" in line and words in line for line in said)
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["step-00000001"]


def test_a_state_damaged_here_comes_back_from_there(tmp_path, bucket):
    said = []
    states = folder(tmp_path / "a", bucket, said)
    path = states.save(state(1)) / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    assert states.newest().step == 1
    assert len(said) == 1 and "rejected" in said[0]


def test_a_state_of_another_run_is_not_taken(tmp_path, bucket):
    StateFolder(tmp_path / "a", identity="other", mirror=StateMirror(bucket)).save(state(5))
    said = []
    assert folder(tmp_path / "b", bucket, said).newest() is None
    assert "a state of another run" in said[0]


def test_where_a_state_came_from_goes_with_it(tmp_path, bucket):
    note, elsewhere = tmp_path / "a.json", tmp_path / "b" / "a.json"
    note.write_text("{}")
    folder(tmp_path / "a", bucket, notes=[note]).save(state(1))
    folder(tmp_path / "b" / "states", bucket, notes=[elsewhere]).newest()
    assert elsewhere.read_text() == "{}"


def test_a_storage_that_fails_holds_nobody_up_but_is_said_and_at_the_start_refused(tmp_path):
    (tmp_path / "file").write_text("")
    said = []
    folder(tmp_path / "states", f"file://{tmp_path}/file/below", said).save(state(1))
    assert len(said) == 1 and "is not copied to" in said[0] and "saved on this disk" in said[0]
    assert StateFolder(tmp_path / "states", identity="me").newest().step == 1
    with pytest.raises(MissingInputError, match="no-such-client"):
        folder(tmp_path / "states", "no-such-client://bucket").newest_name()


def test_a_training_whose_disk_is_lost_ends_in_the_bytes_of_the_straight_run(tmp_path, bucket):
    def trained(states: StateFolder, stop_after: int | None = None):
        def crash(step: int) -> None:
            if step == stop_after:
                raise KeyboardInterrupt

        run = task("tokenizer")
        return run.model.state_dict(), fit(run, states, Communicator(), Hooks(on_step=crash))

    straight, _ = trained(StateFolder(tmp_path / "straight", identity="me"))
    with pytest.raises(KeyboardInterrupt):
        trained(folder(tmp_path / "first", bucket), stop_after=7)
    weights, result = trained(folder(tmp_path / "second", bucket))
    assert 0 < result.resumed_from <= 7
    assert all(torch.equal(weights[name], value) for name, value in straight.items())


@pytest.mark.parametrize("uri", ["s3://key:secret@host/bucket", "simplecache::s3://bucket/x", "http://a/b", "relative"])
def test_uris_with_passwords_chains_and_unknown_schemes_are_refused(tmp_path, uri):
    with pytest.raises(ConfigError, match="state_storage"):
        load_execution(tmp_path / "none.yaml", {"WHALE_STATE_STORAGE": uri})


@pytest.mark.parametrize("uri", ["s3://bucket/folder", "/mnt/share/states", "gs://bucket/a/b"])
def test_plain_uris_are_taken(tmp_path, uri):
    assert load_execution(tmp_path / "none.yaml", {"WHALE_STATE_STORAGE": uri}).state_storage == uri


def test_a_stages_training_goes_on_where_its_work_folder_was_lost(tmp_path):
    """As runtime.training_stage runs it: the place below the storage is <profile>/<stage>/<key>."""

    def run(out: str, stop_at: int | None = None) -> dict:
        work = tmp_path / out / "demo/train_tokenizer/12ab"
        (tmp_path / out / "model").mkdir(parents=True)
        build = functools.partial(stopped_task, stop_at)
        job = TrainingJob(
            build, tmp_path / out / "model", work, 0, identity="me", state_storage=str(tmp_path / "bucket")
        )
        return train(job, lambda record: None, lambda step: None)

    with pytest.raises(RuntimeError, match="the machine is gone"):
        run("first", stop_at=7)
    assert (tmp_path / "bucket/demo/train_tokenizer/12ab").is_dir()
    shutil.rmtree(tmp_path / "first/demo")
    assert run("second")["resumed_from"] > 0


def stopped_task(stop_at: int | None, communicator: Communicator):
    made = task("tokenizer", 10, communicator)
    forward = made.model.forward

    def failing(batch):
        if made.loader.step == stop_at:
            raise RuntimeError("the machine is gone")
        return forward(batch)

    made.model.forward = failing
    return made
