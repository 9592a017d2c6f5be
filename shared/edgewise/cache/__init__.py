"""Have we it? The exact cache in memory and in a store, matching by meaning, and one call for many askers."""
