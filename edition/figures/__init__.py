"""Figures: functions from tables of records to matplotlib figures, in one look."""
