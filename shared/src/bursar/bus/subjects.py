"""Subjects of NATS: tokens with dots between; ``*`` stands for one token, ``>`` for one or more at the end."""

from __future__ import annotations


def is_publishable(subject: str) -> bool:
    """True for a subject without white space; the server leaves the shape of its tokens alone."""
    return bool(subject) and len(subject.split()) == 1 and subject == subject.strip()


def is_subscribable(subject: str) -> bool:
    """True when no token is empty and wildcards stand alone, ``>`` only at the end."""
    if not is_publishable(subject):
        return False
    tokens = subject.split(".")
    for index, token in enumerate(tokens):
        if not token or (token != "*" and "*" in token):
            return False
        if ">" in token and (token != ">" or index != len(tokens) - 1):
            return False
    return True


def matches(pattern: str, subject: str) -> bool:
    """True when a subscription (or permission) on ``pattern`` covers ``subject``.

    Of two patterns: whether the first covers all that the second can stand for.
    """
    wanted, tokens = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > index
        if index >= len(tokens) or tokens[index] == ">" or (token not in {"*", tokens[index]}):
            return False
    return len(tokens) == len(wanted)
