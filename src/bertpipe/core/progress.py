"""Progress reports: stages emit them, the command line draws them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a stage has come."""

    label: str
    completed: float
    total: float | None
    """None where it is not known."""
    unit: str
    detail: str = ""


def ignore_progress(progress: Progress) -> None:
    """Show nothing."""


def ignore_note(note: str) -> None:
    """Show nothing."""
