"""Whose token it is: signature, issuer, audience and time are checked, then the rules say who that is here.

A token counts if one of the issuers of the file has signed it for the audience (RS, PS, ES or EdDSA; never HMAC, never
"none"), it has a subject and an end, and a rule names the subject. The principal is made of the rest of the subject,
with the rule's prefix before it: keep that apart from the names of those whose credentials are made in the home::

    [[issuer]]
    issuer = "https://kubernetes.default.svc"
    audience = "bursar"
    jwks = "https://kubernetes.default.svc/openid/v1/jwks"     # or the path of a file; without: asked of the issuer

    [[issuer.rule]]
    subject = "system:serviceaccount:agents:*"
    prefix = "k8s-"                                            # k8s-NAME
    role = "agent"
"""

from __future__ import annotations

import json
import re
import time
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bursar.bus.permissions import check_agent_name
from bursar.callout.keys import Found

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_SECONDS: Final = 30
LONGEST_SECONDS: Final = 3_600
"""A connection is asked again for its token at least so often."""
REFRESH_SECONDS: Final = 30
"""Keys are asked for anew at most so often, when a token names one that is not known."""
MAX_TOKEN: Final = 16_384


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(_Told):
    """``subject``: of the token, or its beginning with a * behind it."""

    subject: Annotated[str, Field(min_length=1, max_length=256)]
    prefix: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}-$")]
    role: Literal["agent", "worker", "node"] = "agent"

    def principal(self, subject: str) -> str | None:
        """The name here; None when the rule does not speak of this subject."""
        start = self.subject.removesuffix("*")
        if subject != self.subject and not (self.subject.endswith("*") and subject.startswith(start)):
            return None
        rest = subject[len(start) :] if self.subject.endswith("*") else re.split(r"[:/|]", subject)[-1]
        return self.prefix + rest


class Issuer(_Told):
    """One that signs tokens. ``jwks``: URL or file of its keys."""

    issuer: Annotated[str, Field(min_length=1)]
    audience: Annotated[str, Field(min_length=1)]
    jwks: str = ""
    rule: Annotated[tuple[Rule, ...], Field(min_length=1)]


def read_issuers(path: Path) -> tuple[Issuer, ...]:
    """The issuers of a file. Raises `ValueError`, which says what is wrong with it."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        issuers = tuple(Issuer.model_validate(one) for one in document["issuer"])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    except (KeyError, TypeError):
        raise ValueError(f"{path}: it has no [[issuer]]") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if len({one.issuer for one in issuers}) < len(issuers):
        raise ValueError(f"{path}: an issuer stands there twice")
    return issuers


class Keys:
    """An issuer's public keys, asked for anew when a token names one that is not known. Blocks while it asks."""

    def __init__(self, issuer: Issuer, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._clock = clock
        self._asked_at = float("-inf")
        self._known: dict[str, jwt.PyJWK] = {}

    def of(self, token: str) -> jwt.PyJWK:
        """The key that the token names. Raises `jwt.PyJWTError`."""
        name = str(jwt.get_unverified_header(token).get("kid", ""))
        if name not in self._known and self._clock() - self._asked_at >= REFRESH_SECONDS:
            self._asked_at = self._clock()
            self._known = {str(key.key_id or ""): key for key in jwt.PyJWKSet.from_dict(self._ask()).keys}
        if name not in self._known:
            raise jwt.InvalidKeyError("the issuer has no key of this name")
        return self._known[name]

    def _ask(self) -> dict[str, Any]:
        place = self._issuer.jwks or self._discovered()
        try:
            return _get(place) if "://" in place else dict(json.loads(Path(place).read_text()))
        except (OSError, ValueError) as error:
            raise jwt.PyJWKClientConnectionError(f"its keys cannot be read ({type(error).__name__})") from None

    def _discovered(self) -> str:
        try:
            place = str(_get(f"{self._issuer.issuer.rstrip('/')}/.well-known/openid-configuration")["jwks_uri"])
        except (OSError, ValueError, KeyError) as error:
            raise jwt.PyJWKClientConnectionError(
                f"the issuer does not tell its keys ({type(error).__name__})"
            ) from None
        if not place.startswith("https://"):
            raise jwt.PyJWKClientConnectionError("its keys are told of at no https address")
        return place


def _get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=5.0) as answer:  # noqa: S310 - the operator's own file names it
        return dict(json.loads(answer.read(1 << 20)))


class Verifier:
    """Tells whose token something is."""

    def __init__(self, issuers: tuple[Issuer, ...], clock: Callable[[], float] = time.time) -> None:
        self._issuers = {one.issuer: (one, Keys(one)) for one in issuers}
        self._clock = clock

    def who(self, token: str) -> Found | str:
        """Who that is here, or why it is nobody: a sentence that holds nothing of the token."""
        if not token or len(token) > MAX_TOKEN:
            return "there is no token"
        try:
            told = jwt.decode(token, options={"verify_signature": False}).get("iss")
            if told not in self._issuers:
                return "nobody here trusts its issuer"
            issuer, keys = self._issuers[told]
            key = keys.of(token)
            claims = jwt.decode(
                token, key, algorithms=ALGORITHMS, audience=issuer.audience, issuer=issuer.issuer,
                leeway=LEEWAY_SECONDS, options={"require": ["exp", "iss", "sub", "aud"]},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            return f"the token does not count ({type(error).__name__})"
        return self._named(issuer, str(claims["sub"]), int(claims["exp"]))

    def _named(self, issuer: Issuer, subject: str, end: int) -> Found | str:
        for rule in issuer.rule:
            principal = rule.principal(subject)
            if principal is not None:
                try:
                    check_agent_name(principal)
                except ValueError:
                    return "its subject makes no name of a principal"
                return Found(principal, rule.role, min(end, int(self._clock()) + LONGEST_SECONDS))
        return "no rule speaks of its subject"
