"""What is asked? The canonical request, its keys, and whether it may be matched by meaning."""
