"""Guards: what a request may carry. Each is a rule of its own; `edgewise.policy.guards.guard` walks through them."""
