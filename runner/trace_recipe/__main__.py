"""`python -m trace_recipe`."""

from trace_recipe.cli import main

if __name__ == "__main__":
    main()
