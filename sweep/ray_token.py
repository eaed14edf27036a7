"""The token that Ray's nodes ask for: whether a cluster does ask, and where this machine's is."""

import ipaddress
import os
import subprocess
import sys
from pathlib import Path

ANSWER_SECONDS = 60.0
TURN_ON = (
    "start every node of it with RAY_AUTH_MODE=token and one RAY_AUTH_TOKEN, for which "
    "'(umask 077; ray get-auth-token --generate)' writes one, and have the same token here"
)


def refuse_open(address: str) -> None:
    """Raises ValueError when a cluster can be reached from other machines and takes commands without a token.

    address: `host:port` of its head. That a client has a token says nothing: an open cluster lets it in with one, too.
    """
    if is_loopback(address.rpartition(":")[0]):
        return
    asked = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    without = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_TOKEN")}
    try:
        done = subprocess.run(
            asked,
            env={**without, "RAY_AUTH_MODE": "disabled"},
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"the Ray cluster at {address} does not say within {ANSWER_SECONDS:g} s whether it asks for a token; try "
            f"again"
        ) from None
    if done.returncode == 0:
        raise ValueError(
            f"the Ray cluster at {address} takes commands from everybody who can reach it; to turn its token on, "
            f"{TURN_ON}"
        )
    if "AuthenticationError" not in done.stderr:
        last = done.stderr.strip().rpartition("\n")[2]
        raise ValueError(
            f"the Ray cluster at {address} does not say whether it asks for a token ({last or 'no answer'}); try again"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host of that name or address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def token_file() -> Path:
    """Where Ray looks for the token when it is not in RAY_AUTH_TOKEN."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def token() -> str:
    """This machine's token. Raises ValueError when it has none."""
    found = os.environ.get("RAY_AUTH_TOKEN", "")
    if not found:
        try:
            found = token_file().read_text()
        except OSError:
            raise ValueError(
                f"there is no Ray token in RAY_AUTH_TOKEN or {token_file()}; put the cluster's in one of them"
            ) from None
    return found.strip()
