"""`python -m arriero` is the `arriero` command."""

from arriero.cli.main import app

app()
