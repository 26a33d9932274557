"""Figures: functions from tables of records to matplotlib figures, in one look."""

# Where an output's metadata hold a figure as a phone shows it, a PNG file: pages know it, JupyterLab does not.
NARROW = "narrow"
