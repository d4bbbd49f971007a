"""Subjects of NATS: tokens with dots between; ``*`` stands for one token, ``>`` for one or more at the end."""

from __future__ import annotations


def is_publishable(subject: str) -> bool:
    """True for a subject without white space; the server leaves the shape of its tokens alone."""
    return bool(subject) and len(subject.split()) == 1 and subject == subject.strip()


def is_subscribable(subject: str) -> bool:
    """True when no token is empty and wildcards stand alone, ``>`` only at the end."""
    if not is_publishable(subject):
        return False
    parts = subject.split(".")
    return all(
        part == "*" or (part == ">" and index == len(parts) - 1) or (part and "*" not in part and ">" not in part)
        for index, part in enumerate(parts)
    )


def matches(pattern: str, subject: str) -> bool:
    """True when a subscription (or permission) on ``pattern`` covers ``subject``.

    Of two patterns: whether the first covers all that the second can stand for.
    """
    wanted, parts = pattern.split("."), subject.split(".")
    for index, want in enumerate(wanted):
        if want == ">":
            return len(parts) > index
        if index >= len(parts) or parts[index] == ">" or want not in {"*", parts[index]}:
            return False
    return len(parts) == len(wanted)
