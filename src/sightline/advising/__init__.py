"""How to reuse a pretrained network for new pictures, measured and tried: which strategy, which layer, how good."""

from sightline.advising.advice import Advice, advise
from sightline.advising.evidence import Evidence
from sightline.advising.prediction import Prediction

__all__ = ["Advice", "Evidence", "Prediction", "advise"]
