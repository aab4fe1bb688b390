"""The first tier of the check within a fit: what shows the same stays on one side of a split, or is told of."""

from __future__ import annotations

import shlex

from sightline.audit import Alike, alike, leaking
from sightline.data import ImageDataset
from sightline.fitting.folder import Fit
from sightline.training.prepare import Job


def kept_together(dataset: ImageDataset, fit: Fit) -> Alike:
    """What the splits made for this run must not part; the main process looks, for all of them."""
    return fit.processes.on_main(lambda: alike(dataset, fit.watch.reading))


def seen_before(job: Job, found: Alike, fit: Fit) -> list[str]:
    """The names of the test pictures that show the same as pictures of other splits.

    What there is to say of them, and of what was left out, is added to the reasons of `job`.
    """
    if found.said:
        job.reasons.append(found.said)
    dataset = job.dataset
    rows = {split: leaking(dataset, found.groups, split) for split in ("test", "val")}
    counts = [
        f"{len(part):,} of the {len(dataset.split(split)):,} {name} pictures"
        for (split, part), name in zip(rows.items(), ("test", "validation"), strict=True)
        if len(part)
    ]
    if counts:
        twice = (
            "; scores stand twice, on all test pictures and on the clean part" if len(rows["test"]) else ""
        )
        job.reasons.append(
            f"{' and '.join(counts)} show the same as pictures of another split{twice}: see them, and mend the splits, "
            f"with `sightline check {shlex.quote(fit.source or 'DATA')} --fix FILE.csv`."
        )
    return [dataset.ref(row) for row in rows["test"].tolist()]
