"""`whale mix`: the mixture as the paper prints it, as it is asked for, as it is drawn; and for other loaders."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whale.commands.output import AsJson, print_columns, print_json, tell
from whale.common.errors import ConfigError, MissingInputError
from whale.common.json_files import read_json

if TYPE_CHECKING:
    from whale.planning.mixture_table import MixtureRow

PARAMS = Path("params.yaml")
Params = Annotated[Path, typer.Option("--params", help="A parameter set, e.g. profiles/whale-x.yaml.")]
Every = Annotated[bool, typer.Option("--all", help="Also the datasets of Table 11 that are not drawn.")]
Receipt = Annotated[Path | None, typer.Option("--receipt", help="A checkpoint's folder, or its receipt.json.")]
MixDir = Annotated[Path, typer.Argument(help="The folder of `mix`, e.g. artifacts/demo/mix.")]
Shards = Annotated[Path, typer.Option("--shards", help="The folder above the datasets' shards.")]
PlanName = Annotated[str, typer.Option("--plan", help="pretrain or dynamics.")]
Webdataset = Annotated[bool, typer.Option("--webdataset", help="A WebDataset pipeline (the only format so far).")]

RECEIPT = {  # column -> field of a receipt's row, and its form
    "dataset": ("name", ""),
    "asked": ("raw_weight", "g"),
    "normalised": ("normalized_share", ".4%"),
    "expected": ("planned_share", ".4%"),
    "realised": ("segment_share", ".4%"),
    "expected fr.": ("expected_frame_share", ".4%"),
    "realised fr.": ("valid_frame_share", ".4%"),
    "unique": ("unique_segments", ""),
    "epochs": ("epochs", ".3f"),
}

COLUMNS = {  # of the mixture: column -> field of a row, and its form
    "dataset": ("name", ""),
    "printed %": ("printed", ""),
    "normalised %": ("printed_normalized", ".3f"),
    "w N %": ("w_times_n", ".3f"),
    "x 0.9535": ("w_times_n_fitted", ".3f"),
    "asked": ("asked", "g"),
    "share %": ("share", ".3f"),
    "draws": ("draws", "g"),
    "source": ("source", ""),
}
OWN: tuple[str, ...] = ("dataset", "asked", "share %", "draws", "source")
TABLE_11 = """ The printed numbers sum to 94.8, two rows are '<0.1':
weights are normalised as fractions and never asserted to sum to anything."""

app = typer.Typer(no_args_is_help=True, help="The mixture: asked, normalised, expected, realised.")


@app.command("show", epilog="Example: whale mix show --params profiles/whale-x.yaml")
def show(params: Params = PARAMS, receipt: Receipt = None, every: Every = False, as_json: AsJson = False) -> None:
    """Show what the mixture asks for and draws. Of the active profile, or what a checkpoint's training really drew.

    --all: also the datasets of the paper's Table 11 that this profile does not draw; as printed, normalised, and by
    the w N derivation.
    """
    if receipt is not None:
        _show_receipt(receipt, as_json)
        return
    from whale.common.config import load_sections
    from whale.data.mixture import MixConfig
    from whale.planning.datasets import load_facts
    from whale.planning.mixture_table import mixture_rows, totals

    if not params.is_file():
        raise MissingInputError("no parameters here", file=params, remedy="run from the project's root")
    mix = MixConfig.parse(load_sections(params).get("mix"), file=params, place="mix")
    rows = mixture_rows(load_facts(Path()), mix)
    if as_json:
        print_json({"rows": [vars(row) for row in rows], "sums": totals(rows), "block": mix.block})
        return
    _print(rows, mix.block, every)


def _print(rows: "list[MixtureRow]", block: int, every: bool) -> None:
    """The datasets of the active mixture first; columns of Table 11 only where one of its datasets is shown."""
    from whale.planning.mixture_table import totals

    drawn = [row for row in rows if row.draws is not None]
    others = [row for row in rows if row.draws is None]
    shown = drawn + others if every else drawn
    cells, columns = [vars(row) for row in shown], {name: COLUMNS[name] for name in OWN}
    if has_table_11 := any(row.printed for row in shown):
        sums = totals(shown)
        cells, columns = [*cells, {**sums, "name": "sum", "printed": f"{sums['printed']:.1f}"}], COLUMNS
    print_columns(columns, cells)
    print(f"share: of segments drawn; draws: of every {block}." + TABLE_11 * has_table_11)
    if others and not every:
        print(f"{len(others)} datasets of the paper's Table 11 are not drawn here: whale mix show --all")


@app.command(
    "export",
    epilog="Example: whale mix export artifacts/demo/mix --shards artifacts/demo/data/pretrain/shards --webdataset",
)
def export(mix_dir: MixDir, shards: Shards, webdataset: Webdataset = False, plan: PlanName = "pretrain") -> None:
    """Print a loader of the mixture as Python. For people who train with their own loader."""
    from whale.data.loading.sampler import Plan
    from whale.data.workbench.webdataset_export import webdataset_module

    if not webdataset:
        raise ConfigError("choose a format: --webdataset", place="whale mix export", found="none")
    print(webdataset_module(Plan.load(mix_dir / "plan.json", plan), shards), end="")


def _show_receipt(path: Path, as_json: bool) -> None:
    path = path / "receipt.json" if path.is_dir() else path
    if not path.is_file():
        raise MissingInputError("no receipt here", file=path, remedy="train a model: its folder holds receipt.json")
    receipt: dict[str, Any] = read_json(path)
    if "chi_square" not in receipt:
        raise ConfigError(
            "not the receipt of a training",
            file=path,
            found=f"{', '.join(sorted(receipt))}: what is expected of a plan",
            expected="the folder of a checkpoint, e.g. artifacts/demo/models/tokenizer",
        )
    tell(receipt, as_json, _print_receipt)


def _print_receipt(receipt: dict[str, Any]) -> None:
    print_columns(RECEIPT, [{"name": name, **row} for name, row in sorted(receipt["datasets"].items())])
    test, ledger = receipt["chi_square"], receipt["ledger"]
    print(f"{receipt['num_draws']} draws; chi2 {test['statistic']:.3f} of {test['degrees']}, p {test['p']:.3f}"
          + ("  ALARM: the draws do not fit the plan" if test["alarm"] else ""))  # fmt: skip
    print(f"{ledger['world_size']} ranks: overlap {ledger['overlap']}, missing {ledger['missing']}")
