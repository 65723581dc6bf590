"""Measurements of trace-recipe and its peers; README.md says how to run and read them."""
