"""What ``isentrope measure`` reads: one module for each kind of file, and one that prints what they find."""
