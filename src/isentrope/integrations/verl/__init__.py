"""Objectives inside verl: `plugin` makes them known, `trainer` prepares whole batches, `loss` is what workers run."""
