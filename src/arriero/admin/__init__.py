"""The key API: an application of its own beside the data plane, loaded when it is first asked."""
