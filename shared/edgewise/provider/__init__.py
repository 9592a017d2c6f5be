"""Call it, stream it: one adapter for each kind of provider."""
