"""The command `report`: the HTML report of stored runs."""

import json as json_format
import os
import webbrowser
from pathlib import Path

from isentrope.report import RunStore, list_runs, write_report

__all__ = ["report"]


def report(*runs: Path, output: Path | None = None, open_browser: bool = False, json: bool = False) -> None:
    """Write the HTML report of one run, or of several side by side, and print its path.

    The report is one file and needs no network. Runs that differ only in their seed are drawn as their mean with a
    band of one standard error. A run that is still going can be reported too.

    Examples:

    ```
    isentrope report runs/20261122-004512-grpo-s0
    isentrope report runs/*-grpo-* runs/*-entropic-* --output comparison.html
    isentrope report runs                    # every run in the folder
    isentrope report runs --open-browser
    ```

    Parameters
    ----------
    runs
        Run folders, or folders that hold run folders.
    output
        The file to write. By default `report.html` in the run's folder, or next to the folders of several runs.
    open_browser
        Show the report in the browser.
    json
        Print a JSON object with the report's path and the runs in it.
    """
    if not runs:
        raise ValueError(
            "report: name at least one run folder, such as `isentrope report runs/20261122-004512-grpo-s0`"
        )
    stores = [RunStore.open(folder) for folder in dict.fromkeys(folder for run in runs for folder in _folders(run))]
    path = write_report(stores, output or _beside([store.path for store in stores]))
    if json:
        print(json_format.dumps({"report": str(path), "runs": [store.id for store in stores]}))
    else:
        print(path)
    if open_browser:
        webbrowser.open(path.resolve().as_uri())


def _folders(path: Path) -> list[Path]:
    return [path] if (path / "config.json").is_file() else list_runs(path) or [path]


def _beside(folders: list[Path]) -> Path:
    if len(folders) == 1:
        return folders[0] / "report.html"
    return Path(os.path.commonpath([folder.absolute().parent for folder in folders])) / "report.html"
