"""Published tables computed again from the networks: what can be checked without training on ImageNet.

Each table has the published figures and ours side by side, and says where they differ and why. Where the slides of
the lecture that this library follows have a figure wrong, the published column is the slide's and the note is the
correction.
"""

from sightline.reproduce.record import Reproduction, Row
from sightline.reproduce.tables import TABLES, reproduce

__all__ = ["TABLES", "Reproduction", "Row", "reproduce"]
