"""Caches in this process's memory: one shelf, and one file for each order of eviction."""
