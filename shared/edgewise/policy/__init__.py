"""May we? Keys, budgets, limits and guards."""
