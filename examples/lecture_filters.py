"""The lecture's small network on digits: its layer table, the training, and the filters that it learnt.

    python examples/lecture_filters.py [--quick] [KERNEL_SIZE]

"Try to change the kernel size": with 3 instead of 5 the table has 160 + 4,640 + 15,690 parameters instead of
416 + 12,832 + 15,690, and the filters become 3x3. Writes `filters.png`.
"""

import sys

import sightline
from sightline.api import summary
from sightline.visualization.figures import draw_filters
from sightline.visualization.filters import filters

arguments = sys.argv[1:]
kernel_size = next((int(a) for a in arguments if a.isdigit()), 5)

print(summary("lecture_net", arguments={"kernel_size": kernel_size}))

run = sightline.fit(
    "digits",
    model="lecture_net",
    epochs=2 if "--quick" in arguments else None,
    **{"model.kernel_size": kernel_size},
)
print("accuracy:", run.scores.accuracy)
draw_filters(filters(run.classifier.network)).save("filters.png")
print("filters:  filters.png")
