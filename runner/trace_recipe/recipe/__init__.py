"""The recipe language: its models, its YAML, and the way from text to a checked Recipe."""
