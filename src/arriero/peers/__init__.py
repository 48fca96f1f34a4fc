"""What several gateways tell each other while they serve: limits and requests in flight."""
