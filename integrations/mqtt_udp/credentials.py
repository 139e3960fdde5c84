"""What devices prove with that they are who they say."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

_PASSWORD_BYTES = 24
_SECRET_BYTES = 32


class Credentials:
    """Derives each device's password from one secret of the hub.

    The same device is told the same password at each start, so its memory is not worn by writing, and nothing of it has to
    be kept: neither a list of passwords nor their hashes can leak.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def password(self, device_id: str, client_id: str) -> str:
        """The password of a device. *client_id* changes when its memory is erased, and the password with it."""
        digest = hmac.digest(self._secret, f"{device_id}\0{client_id}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest[:_PASSWORD_BYTES]).decode()

    def admits(self, device_id: str, client_id: str, password: bytes) -> bool:
        """Is this the device's password? Takes as long for a wrong one as for the right one."""
        return hmac.compare_digest(self.password(device_id, client_id).encode(), password)


def load_credentials(file: Path, auth_key: str) -> Credentials:
    """Take the owner's ``server: auth_key:``, else the secret in *file*, which is made when it is not there."""
    if auth_key:
        return Credentials(hmac.digest(auth_key.encode(), b"mqtt_udp", hashlib.sha256))
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        secret = file.read_bytes()
        if len(secret) == _SECRET_BYTES:
            return Credentials(secret)
        file.unlink()  # a power cut at the very first start; devices get new passwords at their next one
        return load_credentials(file, auth_key)
    with os.fdopen(handle, "wb") as stream:
        secret = secrets.token_bytes(_SECRET_BYTES)
        stream.write(secret)
    return Credentials(secret)
