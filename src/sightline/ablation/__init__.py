"""Which augmentation suits these pictures, answered by trainings side by side.

paired       the change in accuracy between conditions, with intervals over seeds and pictures
bench        one small recipe and its pictures, read once and trained on many times
experiment   the order of the trainings, within the minutes; `ablate` itself
result       what came out: table, policy, plain data
figure       a dot and an interval for each augmentation
"""

from sightline.ablation.experiment import ablate
from sightline.ablation.result import Ablation, Effect

__all__ = ["Ablation", "Effect", "ablate"]
