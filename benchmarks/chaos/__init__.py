"""The chaos run: many streams through one gateway while its backends die, hang, drop and fail."""
