"""The data plane: listener, connection, pipeline, relay. Raw protocols, no task per request."""
