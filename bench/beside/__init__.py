"""What the gateway is measured beside: an upstream, a load, processes pinned to cores, and the baselines."""
