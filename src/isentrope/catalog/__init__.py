"""The bibliography: which paper is implemented by which object, and `cite`."""

from isentrope.catalog.bibliography import Paper, cite, find, papers, used_by

__all__ = ["Paper", "cite", "find", "papers", "used_by"]
