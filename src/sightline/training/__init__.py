"""Everything that turns a data set and a recipe into a trained network."""
