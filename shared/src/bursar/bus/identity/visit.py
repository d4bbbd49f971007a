"""Credentials for one errand in an account: made where the account's key lies, and gone with the errand.

What a backup may do (read and restore whole streams) nobody may do every day, so no principal of the tables has it.
Whoever holds the home's keys signs a visitor for it, which expires in an hour and is removed at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bursar.bus.identity import jwt, keys
from bursar.bus.identity.home import Home

SECONDS = 3_600


@contextmanager
def visit(home: Home, account: str, principal: str, publish: Sequence[str]) -> Iterator[Path]:
    """A file of credentials that may publish on these subjects of an account, and hear its own inbox."""
    signer = keys.load(home.keys_dir / f"account-{account}.nk")
    user = keys.generate(keys.USER)
    token = jwt.visitor(principal, user.public, signer, publish, SECONDS)
    with TemporaryDirectory(prefix="bursar-visit-") as directory:
        path = Path(directory) / f"{principal}.creds"
        keys.write_private(path, jwt.creds(token, user.seed).encode())
        yield path
