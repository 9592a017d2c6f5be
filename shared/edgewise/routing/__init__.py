"""Which model? The cheapest plan that meets the bar, and why."""
