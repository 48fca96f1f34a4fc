"""What the gateway tells of itself: metrics, the access log, events. Write only."""
