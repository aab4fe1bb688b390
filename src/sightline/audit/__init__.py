"""Checking a data set: files, duplicates, labels, and properties that give the class away."""

from sightline.audit.alike import Alike, alike
from sightline.audit.checking import check, near_duplicate_groups, near_groups
from sightline.audit.duplicates import thumbnail
from sightline.audit.findings import Finding, Findings
from sightline.audit.groups import leaking

__all__ = [
    "Alike",
    "Finding",
    "Findings",
    "alike",
    "check",
    "leaking",
    "near_duplicate_groups",
    "near_groups",
    "thumbnail",
]
