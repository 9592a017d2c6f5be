"""The stack on a laptop: never in the layer."""
