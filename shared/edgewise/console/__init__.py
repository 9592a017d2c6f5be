"""The page served at `/`: static files."""
