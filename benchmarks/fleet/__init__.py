"""A discrete-event simulator of a fleet, to compare routing policies on the same requests."""
