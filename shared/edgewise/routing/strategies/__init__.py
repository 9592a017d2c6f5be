"""One file a strategy; each is a pure function from an `Ask` to a `Choice`."""
