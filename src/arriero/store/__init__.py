"""What outlives a process: keys, the audit of their changes, and usage. SQLite or PostgreSQL."""
