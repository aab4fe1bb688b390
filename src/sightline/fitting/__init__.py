"""One fit from its first picture to its report: the run's folder around the training loop, and how it is resumed."""

from sightline.fitting.begin import begin, resume

__all__ = ["begin", "resume"]
