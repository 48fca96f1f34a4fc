"""The schema of the store, step by step; run by `arriero.store.migrate` and never by serving."""
