"""One OpenAI-compatible address in front of a small fleet of model servers."""

__version__ = "0.1.0"
