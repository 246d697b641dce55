"""report.html, a study in one page."""
