"""Have we it? Exact, by normalised text and by meaning, in memory and shared."""
