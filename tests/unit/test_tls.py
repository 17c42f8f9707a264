"""Files that TLS needs: what is wrong with one is told before the start."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from broker.config import Settings, WrongSetting, settings_from
from broker.tls import Tls, tls_of
from support.certificates import Authority, Identity


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    return authority.vouch_for("broker@example.com")


@pytest.fixture
def encrypted(identity: Identity, tmp_path: Path) -> Path:
    """The identity's key, behind a passphrase."""
    key = load_pem_private_key(identity.key.read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    file = tmp_path / "locked.key"
    file.write_bytes(locked)
    return file


def faults(environ: Mapping[str, object]) -> list[str]:
    with pytest.raises(WrongSetting) as refused:
        settings_from({name: str(value) for name, value in environ.items()})
    return str(refused.value).splitlines()


def pair(certificate: object, key: object) -> dict[str, object]:
    return {"BROKER_CLIENT_CERT_FILE": certificate, "BROKER_CLIENT_KEY_FILE": key}


def test_good_files_are_taken(authority: Authority, identity: Identity) -> None:
    certificate, key = str(identity.certificate), str(identity.key)

    settings = settings_from(
        {
            "BROKER_CA_FILE": str(authority.file),
            "BROKER_CLIENT_CERT_FILE": certificate,
            "BROKER_CLIENT_KEY_FILE": key,
        }
    )

    assert settings == Settings(
        ca_file=str(authority.file), client_cert_file=certificate, client_key_file=key
    )


@pytest.mark.parametrize("variable", ["BROKER_CA_FILE", "BROKER_CLIENT_CERT_FILE"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file"),
        (b"", "no certificate in PEM"),
        (b"certificate", "no certificate in PEM"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "no certificate in PEM",
        ),
        (b"\x30\x82\xff\x00", "not PEM"),
    ],
)
def test_file_without_certificates_is_told(
    identity: Identity, tmp_path: Path, variable: str, content: bytes | None, told: str
) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_bytes(content)

    (fault,) = faults({**pair(identity.certificate, identity.key), variable: file})

    assert fault.startswith(f'{variable} is "{file}", which ')
    assert told in fault
    assert "allowed: a file" in fault


def test_folder_is_no_file(tmp_path: Path) -> None:
    (fault,) = faults({"BROKER_CA_FILE": tmp_path})

    assert "cannot be read: Is a directory" in fault


def test_file_without_a_key_is_told(identity: Identity) -> None:
    (fault,) = faults(pair(identity.certificate, identity.certificate))

    assert fault.startswith("BROKER_CLIENT_KEY_FILE is ")
    assert "no private key in PEM" in fault


def test_key_behind_a_passphrase_is_told(identity: Identity, encrypted: Path) -> None:
    (fault,) = faults(pair(identity.certificate, encrypted))

    assert fault.startswith("BROKER_CLIENT_KEY_FILE is ")
    assert "passphrase" in fault


def test_key_of_another_certificate_is_told(authority: Authority, identity: Identity) -> None:
    other = authority.vouch_for("other@example.com")

    (fault,) = faults(pair(identity.certificate, other.key))

    assert "does not belong to the certificate" in fault
    assert str(identity.certificate) in fault
    assert str(other.key) in fault


@pytest.mark.parametrize(
    ("set_", "absent"),
    [
        ("BROKER_CLIENT_CERT_FILE", "BROKER_CLIENT_KEY_FILE"),
        ("BROKER_CLIENT_KEY_FILE", "BROKER_CLIENT_CERT_FILE"),
    ],
)
@pytest.mark.parametrize("blank", [{}, {"BROKER_CLIENT_CERT_FILE": " "}])
def test_one_of_two_is_not_enough(
    identity: Identity, set_: str, absent: str, blank: dict[str, str]
) -> None:
    (fault,) = faults({**blank, set_: identity.both})

    assert fault.startswith(f"{absent} is not set")
    assert set_ in fault


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    none = tmp_path / "none"

    told = faults({"BROKER_CA_FILE": none, **pair(none, none), "BROKER_PORT": 0})

    assert len(told) == 4


# -- whom to trust -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "folder", "mine", "authorities", "authorities_folder"),
    [
        ("/s.pem", "/s", None, ["/s.pem"], None),
        ("/s.pem", None, "/m.pem", ["/s.pem", "/m.pem"], None),
        (None, "/s", "/m.pem", ["/m.pem"], "/s"),
        (None, "/s", None, [], "/s"),
        (None, None, None, [], None),
    ],
)
def test_authorities_are_those_of_python_and_of_the_file(
    monkeypatch: pytest.MonkeyPatch,
    file: str | None,
    folder: str | None,
    mine: str | None,
    authorities: list[str],
    authorities_folder: str | None,
) -> None:
    system = ssl.DefaultVerifyPaths(file, folder, "", "", "", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: system)

    assert tls_of(mine, None, None) == Tls(authorities, authorities_folder)
