"""The edge: HTTP in OpenAI's shape, and nothing of what happens behind it."""
