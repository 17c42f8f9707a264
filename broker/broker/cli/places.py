"""Which store a command means, and what opens its secrets."""

from collections.abc import Mapping
from pathlib import Path

from broker.config import settings_from, sqlite_path
from broker.encryption import Cipher
from broker.store.port import Unusable

FILE = "broker.db"


def store_file(given: str | None, environ: Mapping[str, str]) -> Path:
    """Return the file of the store that is given, or of the one that BROKER_STORE names.

    Given may be a URL as in BROKER_STORE, a file, or the folder it is in. Raises WrongSetting,
    Unusable.
    """
    if given is None or "://" in given:
        wanted = environ if given is None else {"BROKER_STORE": given}
        store = settings_from({"BROKER_STORE": wanted.get("BROKER_STORE", "")}).store
        return Path(sqlite_path(store)).absolute()
    path = Path(given).absolute()
    return _file_in(path) if path.is_dir() else path


def cipher_in(environ: Mapping[str, str]) -> Cipher | None:
    """Return what decrypts with the keys of the environment, if it has any.

    Raises WrongSetting.
    """
    names = ("BROKER_ENCRYPTION_KEY", "BROKER_ENCRYPTION_KEY_FILE")
    keys = settings_from({name: environ.get(name, "") for name in names}).encryption_keys
    return Cipher(keys) if keys else None


def _file_in(folder: Path) -> Path:
    named = folder / FILE
    found = [named] if named.is_file() else sorted(folder.glob("*.db"))
    if len(found) != 1:
        what = "several files that could be stores" if found else "no store"
        raise Unusable(f"In {folder} there is {what}. Name the file itself.")
    return found[0]
