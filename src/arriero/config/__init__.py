"""Configuration: file bytes to frozen settings, and every mistake with its position."""
