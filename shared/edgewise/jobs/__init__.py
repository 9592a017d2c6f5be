"""Later, and exactly once: files, batches, background answers and tasks."""
