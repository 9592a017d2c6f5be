"""Functions whose starts are compared by `bench/coldstart.py`."""
