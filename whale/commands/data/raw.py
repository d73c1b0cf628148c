"""`whale data`: where raw data lie on this machine, and what they are."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from whale.commands.data import prove
from whale.commands.output import require_folder
from whale.common.errors import BadDataError, ConfigError, MissingInputError
from whale.common.files import temporary_path
from whale.common.json_files import write_json

RAW, SOURCES = Path("raw"), Path("data_specs/sources")

app = typer.Typer(no_args_is_help=True, help="Link, fetch or drop raw data outside the project.")


@app.command("link", epilog="Example: whale data link bridge_sample /data/bridge_dataset/1.0.0")
def link(name: str, path: Annotated[Path, typer.Argument(help="Folder of the dataset, e.g. .../1.0.0")]) -> None:
    """Link and describe raw data. raw/NAME points to PATH; data_specs/sources/NAME.json lists files, sizes, sha256."""
    from whale.data.ingest.sources.location import describe_source

    if not name.replace("_", "").isalnum() or not name.isascii() or name != name.lower():
        raise ConfigError("not a dataset name", found=name, expected="[a-z0-9_]+, as in data_specs/<name>.yaml")
    if not path.is_dir():
        what = "not a folder" if path.exists() else "the folder does not exist"
        raise MissingInputError(what, file=path, remedy="name the folder that holds the dataset's files")
    target, description = RAW / name, SOURCES / f"{name}.json"
    if target.exists() and not target.is_symlink():
        raise ConfigError("raw data lie here, not a link", file=target, remedy="move the folder away first")
    described = describe_source(path, name)
    if description.is_file():
        _say_what_changes(description, described)
    write_json(description, described)
    RAW.mkdir(exist_ok=True)
    temporary = temporary_path(target)
    temporary.symlink_to(path.absolute(), target_is_directory=True)
    os.replace(temporary, target)
    print(f"{target} -> {path.absolute()}; described in {SOURCES / name}.json (commit that file)")


def _say_what_changes(description: Path, described: dict[str, Any]) -> None:
    """The description is the dataset's identity: whoever replaces it should see that."""
    from whale.data.ingest.sources.location import read_description

    try:
        before = {file.path: file.sha256 for file in read_description(description).files}
    except BadDataError:  # damaged: the new one mends it
        return
    now = {file["path"]: file["sha256"] for file in described["files"]}
    same = sum(now.get(path) == sha256 for path, sha256 in before.items())
    if same < len(before) or len(now) > len(before):
        print(f"{description} described {len(before)} files: {same} are the same, {len(now) - same} are new or changed")


@app.command("fetch", epilog="Example: whale data fetch toto gs://gresearch/robotics/toto/0.1.0 --to /data/toto")
def fetch(
    name: str,
    uri: Annotated[str, typer.Argument(help="Where the described files lie: any fsspec URI or folder.")],
    to: Annotated[Path, typer.Option("--to", help="Folder to bring them to.")],
) -> None:
    """Bring the files of a described dataset. Size and sha256 of each must be as data_specs/sources/NAME.json says."""
    from whale.data.ingest.sources.location import read_description
    from whale.data.workbench.fetch import fetch_files

    path = SOURCES / f"{name}.json"
    if not path.is_file():
        remedy = "copy the files with the bucket's own tool, then `whale data link` describes them"
        raise MissingInputError("no file list to check against", file=path, remedy=remedy)
    require_folder(to, "--to")
    described = read_description(path)
    count = fetch_files(described.files, uri, to, done=lambda size: print(f"{size} bytes", flush=True))
    print(f"{count} of {len(described.files)} files came; next: `whale data link {name} {to}`")


app.command("prove", epilog=prove.EXAMPLE)(prove.prove)


@app.command("drop", epilog="Example: whale data drop toto")
def drop(
    name: str,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the files too, not only the link.")] = False,
) -> None:
    """Remove raw data that are ingested. The description stays, so nothing becomes stale."""
    import shutil

    from whale.data.workbench.shard_check import check_shards

    link = RAW / name
    if not link.is_symlink():
        raise MissingInputError("no link to raw data", file=link)
    if not (SOURCES / f"{name}.json").is_file():
        raise MissingInputError("raw data without a description", file=SOURCES / f"{name}.json")
    folders = [path for path in Path("artifacts").glob(f"*/data/*/shards/{name}") if (path / "manifest.json").is_file()]
    whole = [path for path in folders if not check_shards(path).findings]
    if not whole:
        raise MissingInputError("no whole shards of this dataset", file="artifacts", place=name,
                                remedy=f"`dvc repro ingest@{name}` first")  # fmt: skip
    target = link.resolve()
    link.unlink()
    if delete:
        shutil.rmtree(target)
    print(f"{link} is gone{f', {target} deleted' if delete else f'; {target} may be deleted'}; shards: {whole[0]}")
