"""The training report: one HTML file that tells those who must approve a model how good it is."""

from tabserve.report.page import render_report

__all__ = ["render_report"]
