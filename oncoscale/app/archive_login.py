"""Who asks an archive: from a file that no one else can read, or from the environment; never from the command line."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from urllib.parse import urlsplit

from ..core.errors import ConfigurationRejected
from ..imaging.dicomweb import Login
from .options import read_toml

USER, PASSWORD, TOKEN = "ONCOSCALE_ARCHIVE_USER", "ONCOSCALE_ARCHIVE_PASSWORD", "ONCOSCALE_ARCHIVE_TOKEN"


def archive_login(url: str, file: Path | None, environment: Mapping[str, str] = os.environ) -> Login | None:
    """The login for an address: from the file if one is given, else from the environment, else none.

    Raises ConfigurationRejected for a file that others can read, or that holds no login for this host.
    """
    if file is not None:
        _check_private(file)
        return _of_toml(file) if file.suffix == ".toml" else _of_netrc(file, urlsplit(url).hostname or "")
    stated = {name: environment.get(name, "") for name in (USER, PASSWORD, TOKEN)}
    return _login(stated[USER], stated[PASSWORD], stated[TOKEN], "the environment") if any(stated.values()) else None


def _check_private(file: Path) -> None:
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise ConfigurationRejected(
            f"the login file {file.name!r} cannot be read: {os.strerror(error.errno or 0)}", "a file", "check its path"
        ) from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationRejected(
            f"others can read the login file {file.name!r} (mode {stat.S_IMODE(mode):04o})",
            "mode 0600",
            f"chmod 600 {file.name}",
        )


def _of_toml(file: Path) -> Login:
    content = read_toml(file)
    strange = sorted(set(content) - {"user", "password", "token"})
    if strange or not all(isinstance(value, str) for value in content.values()):
        raise ConfigurationRejected(
            f"the login file {file.name!r} says something else",
            'user = "…" and password = "…", or token = "…", nothing more',
            "correct the file",
        )
    return _login(content.get("user", ""), content.get("password", ""), content.get("token", ""), repr(file.name))


def _of_netrc(file: Path, host: str) -> Login:
    try:
        found = netrc(str(file)).authenticators(host)
    except (NetrcParseError, UnicodeDecodeError):
        raise ConfigurationRejected(
            f"the login file {file.name!r} is neither TOML nor netrc", "NAME.toml, or a netrc file", "correct the file"
        ) from None
    if found is None:
        raise ConfigurationRejected(
            f"the login file {file.name!r} has no login for this host", f"machine {host} login … password …", "add it"
        )
    return _login(found[0], found[2] or "", "", repr(file.name))


def _login(user: str, password: str, token: str, where: str) -> Login:
    if bool(token) == bool(user or password) or bool(user) != bool(password):
        raise ConfigurationRejected(
            f"half a login, or two, in {where}", "a user with a password, or a token", "state one of them, whole"
        )
    return Login(user, password, token)
