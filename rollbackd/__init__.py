"""Watches deployed services and puts the last known good release back when the newest one made them worse."""

__version__ = "0.1.0"
