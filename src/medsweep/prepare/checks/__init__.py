"""Checks of the data: each finds one kind of trouble, and none decides how bad that is."""
