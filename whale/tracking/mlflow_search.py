"""Searches of MLflow to their end: each gives a page and a token for the next one, and a first page is no answer."""

from collections.abc import Callable, Iterator
from typing import Any

from whale.common.errors import BeyondLimitError
from whale.common.limits import FOUND_PAGE, FOUND_ROWS


def every(search: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
    """All rows of `search(*arguments)`, a bound method of MlflowClient, page by page as they are asked for.

    BeyondLimitError where a store has more than FOUND_ROWS, or never comes to an end: an empty page counts as a row.
    """
    token, rows = None, 0
    while True:
        page = search(*arguments, max_results=FOUND_PAGE, page_token=token)
        rows += max(len(page), 1)
        if rows > FOUND_ROWS:
            store = getattr(getattr(search, "__self__", None), "tracking_uri", "MLflow")
            raise BeyondLimitError(
                "MLflow's store has too much to look through", file=store,
                place=f"{getattr(search, '__name__', 'search')}{arguments}",
                found=f"more than {FOUND_ROWS} rows", expected=f"<= {FOUND_ROWS}",
                remedy="move mlflow.db away and remove old spools; `whale track sync` makes it anew",
            )  # fmt: skip
        yield from page
        token = page.token
        if not token:
            return
