"""trace-recipe: a YAML recipe in, a kernel trace out, and the kernel as it was."""
