"""The lecture's small network on digits: its layer table, and the filters that it learns as the kernel size changes.

    python examples/filters_and_kernel_size.py [--quick] [KERNEL_SIZE ...]

"Try to change the kernel size": with 3 instead of 5 the table has 160 + 4,640 + 15,690 parameters instead of
416 + 12,832 + 15,690, and the filters become 3x3. Writes `filters_3x3.png` and so on, for 3, 5 and 9 unless told
otherwise, and `filters_5x5_each.png`, where each filter has a scale of its own: compare which are weak.
"""

import sys

import sightline
from sightline.api import summary
from sightline.visualization.figures import draw_filters, save_png
from sightline.visualization.filters import filters

arguments = sys.argv[1:]
quick = "--quick" in arguments
sizes = [int(a) for a in arguments if a.isdigit()] or [3, 5, 9]

for size in sizes:
    print(summary("lecture_net", arguments={"kernel_size": size}))
    run = sightline.fit(
        "digits", model="lecture_net", epochs=1 if quick else None, quiet=True, **{"model.kernel_size": size}
    )
    record = filters(run.classifier.network)
    save_png(draw_filters(record), f"filters_{size}x{size}.png")
    save_png(draw_filters(record, each=True), f"filters_{size}x{size}_each.png")
    print(f"accuracy with {size}x{size}: {run.scores.accuracy}")
    print(f"largest weight: {record.scale:.2f}; filters_{size}x{size}.png, filters_{size}x{size}_each.png\n")
