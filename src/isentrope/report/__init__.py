"""Pictures, the HTML report, and the run store they are made from."""

from isentrope.report.store import RunStore, list_runs

__all__ = ["RunStore", "list_runs"]
