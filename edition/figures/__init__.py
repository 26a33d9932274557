"""Figures: functions from tables of records to matplotlib figures, in one look."""

# The kind of output that holds a figure as a phone shows it, a PNG file; pages know it, JupyterLab does not.
NARROW = "application/vnd.samlib.narrow"
