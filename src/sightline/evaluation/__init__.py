"""How good a classifier is: figures, each with its interval, its number of pictures and its split."""

from sightline.evaluation.intervals import LEVEL, Estimate
from sightline.evaluation.metrics import ClassScores, Scores, score
from sightline.evaluation.tables import clean_line, scores_table

__all__ = ["LEVEL", "ClassScores", "Estimate", "Scores", "clean_line", "score", "scores_table"]
