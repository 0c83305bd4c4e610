"""The training report: one HTML file that says how good a model is to somebody who must approve it."""

from tabserve.report.page import render_report

__all__ = ["render_report"]
