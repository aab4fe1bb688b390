"""Maps over pictures: the fixed one (Preprocess) and the random ones (Augment)."""
