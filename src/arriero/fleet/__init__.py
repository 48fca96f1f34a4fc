"""The backends' side of the world: connections, pools, and the inventory of models."""
