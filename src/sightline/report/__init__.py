"""The report of a run: one HTML file that opens offline, in light and dark, on a phone and on paper."""

from sightline.report.data import ReportData
from sightline.report.write import write_report

__all__ = ["ReportData", "write_report"]
