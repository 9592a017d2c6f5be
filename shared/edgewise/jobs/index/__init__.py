"""Where files and uploads are listed."""
