"""One line per request: cost, time, quality, why."""
