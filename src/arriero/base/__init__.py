"""What every layer may use and nothing here depends on: errors, the clock port, ids."""
