"""Formats, both ways: HTTP heads, SSE, NDJSON, and one module per dialect. Incremental, no I/O."""
