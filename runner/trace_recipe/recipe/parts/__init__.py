"""The parts that a recipe is put together from."""
