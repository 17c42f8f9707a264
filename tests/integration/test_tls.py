"""HTTPS endpoints: whom the broker trusts, and the certificate that it shows them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api import INSTANT_RETRY, Api, good
from support.broker_process import StartBroker
from support.certificates import Authority, Identity
from support.endpoint import Answer, Endpoint, always
from support.eventually import eventually

HERE = ("localhost", "127.0.0.1")
RETRY = {**INSTANT_RETRY, "max_attempts": 0}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that endpoints, and clients, are to be known by."""
    return Authority(tmp_path_factory.mktemp("authorities") / "known")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that is not."""
    return Authority(tmp_path_factory.mktemp("authorities") / "stranger")


@pytest.fixture
def secured(authority: Authority) -> Iterator[Endpoint]:
    """An endpoint that is reached over TLS."""
    with Endpoint(certificate=authority.vouch_for(*HERE).both) as endpoint:
        yield endpoint


@pytest.fixture
def guarded(authority: Authority) -> Iterator[Endpoint]:
    """An endpoint that wants to see a certificate of the authority."""
    identity = authority.vouch_for(*HERE)
    with Endpoint(certificate=identity.both, clients=authority.file) as endpoint:
        yield endpoint


def shows(identity: Identity) -> dict[str, str]:
    """Set a broker to show a certificate."""
    return {
        "BROKER_CLIENT_CERT_FILE": str(identity.certificate),
        "BROKER_CLIENT_KEY_FILE": str(identity.key),
    }


def deliver(api: Api, endpoint: Endpoint) -> None:
    """Have a message delivered."""
    api.ok_subscribe("t", endpoint.url, retry=RETRY)
    sequence = api.ok_publish("t", 1)

    eventually(lambda: endpoint.sequences == [sequence])


def assert_refused(api: Api, url: str, endpoint: Endpoint, told: str) -> None:
    """Check that a message is tried there again and again, and never arrives; then mend it."""
    api.ok_subscribe("t", url, retry=RETRY)
    sequence = api.ok_publish("t", 1)

    eventually(lambda: told in (api.ok_status("t")["last_error"] or ""))
    eventually(lambda: len(api.attempts("t", sequence)) > 1)
    assert (endpoint.requests, api.backlog("t")) == ([], 1)

    with Endpoint() as elsewhere:
        good(api.put_subscription("t", "s", endpoint=elsewhere.url))
        eventually(lambda: elsewhere.sequences == [sequence])


# -- whom the broker trusts ----------------------------------------------------------------------


def test_authority_of_a_file_is_trusted(
    start_broker: StartBroker, authority: Authority, secured: Endpoint
) -> None:
    deliver(start_broker(BROKER_CA_FILE=str(authority.file)).api, secured)


def test_authority_of_the_system_is_trusted(
    start_broker: StartBroker, authority: Authority, secured: Endpoint
) -> None:
    deliver(start_broker(SSL_CERT_FILE=str(authority.file), SSL_CERT_DIR=None).api, secured)


@pytest.mark.parametrize("with_file", [False, True], ids=["alone", "with a file"])
def test_authority_in_the_systems_folder_is_trusted(
    start_broker: StartBroker,
    tmp_path: Path,
    authority: Authority,
    stranger: Authority,
    secured: Endpoint,
    with_file: bool,
) -> None:
    folder = hashed(tmp_path / "certs", authority)
    system = {"SSL_CERT_FILE": str(tmp_path / "none"), "SSL_CERT_DIR": str(folder)}
    file = str(stranger.file) if with_file else None

    deliver(start_broker(**system, BROKER_CA_FILE=file).api, secured)


def hashed(folder: Path, authority: Authority) -> Path:
    """Lay an authority's certificate where OpenSSL looks for it by the hash of its name."""
    if shutil.which("openssl") is None:
        if os.environ.get("CI"):
            pytest.fail("there is no openssl to make the folder")
        pytest.skip("there is no openssl to make the folder")
    folder.mkdir()
    shutil.copy(authority.file, folder / "authority.pem")
    subprocess.run(["openssl", "rehash", folder], check=True)
    return folder


def test_file_is_trusted_besides_the_system(
    start_broker: StartBroker, authority: Authority, stranger: Authority, secured: Endpoint
) -> None:
    api = start_broker(BROKER_CA_FILE=str(stranger.file), SSL_CERT_FILE=str(authority.file)).api
    with Endpoint(certificate=stranger.vouch_for(*HERE).both) as other:
        api.ok_subscribe("t", secured.url, "one", retry=RETRY)
        api.ok_subscribe("t", other.url, "two", retry=RETRY)
        sequence = api.ok_publish("t", 1)

        eventually(lambda: secured.sequences == other.sequences == [sequence])


def test_unknown_authority_is_not_trusted_and_tried_again(
    start_broker: StartBroker, stranger: Authority, secured: Endpoint
) -> None:
    api = start_broker(BROKER_CA_FILE=str(stranger.file)).api

    assert_refused(api, secured.url, secured, "cannot be trusted")


def test_certificate_of_another_host_is_not_trusted(
    start_broker: StartBroker, authority: Authority
) -> None:
    api = start_broker(BROKER_CA_FILE=str(authority.file)).api
    with Endpoint(certificate=authority.vouch_for("shop.example").both) as endpoint:
        url = endpoint.url.replace("127.0.0.1", "localhost")

        assert_refused(api, url, endpoint, "cannot be trusted")


# -- the certificate that the broker shows -------------------------------------------------------


def test_certificate_is_shown_to_an_endpoint_that_wants_one(
    start_broker: StartBroker, authority: Authority, guarded: Endpoint
) -> None:
    shown = shows(authority.vouch_for("broker@example.com"))
    api = start_broker(BROKER_CA_FILE=str(authority.file), **shown).api
    guarded.consent = always(Answer(204, {"WebHook-Allowed-Origin": "*"}))
    api.ok_subscribe("t", guarded.url, consent="required", retry=RETRY)
    sequence = api.ok_publish("t", 1)

    eventually(lambda: guarded.sequences == [sequence])

    assert len(guarded.asked) == 1  # that was shown it as well


def test_one_file_may_have_the_certificate_and_its_key(
    start_broker: StartBroker, authority: Authority, guarded: Endpoint
) -> None:
    both = str(authority.vouch_for("broker@example.com").both)
    shown = {"BROKER_CLIENT_CERT_FILE": both, "BROKER_CLIENT_KEY_FILE": both}

    deliver(start_broker(BROKER_CA_FILE=str(authority.file), **shown).api, guarded)


def test_endpoint_that_wants_a_certificate_gets_nothing_without(
    start_broker: StartBroker, authority: Authority, guarded: Endpoint
) -> None:
    api = start_broker(BROKER_CA_FILE=str(authority.file)).api

    assert_refused(api, guarded.url, guarded, "")


def test_certificate_of_a_stranger_opens_nothing(
    start_broker: StartBroker, authority: Authority, stranger: Authority, guarded: Endpoint
) -> None:
    shown = shows(stranger.vouch_for("broker@example.com"))
    api = start_broker(BROKER_CA_FILE=str(authority.file), **shown).api

    assert_refused(api, guarded.url, guarded, "")


def test_certificate_is_replaced_without_a_restart(
    start_broker: StartBroker,
    tmp_path: Path,
    authority: Authority,
    stranger: Authority,
    guarded: Endpoint,
) -> None:
    used = Identity(tmp_path / "broker.crt", tmp_path / "broker.key", tmp_path / "none")
    before, after = (each.vouch_for("broker@example.com") for each in (stranger, authority))
    for file in ("certificate", "key"):
        shutil.copy(getattr(before, file), getattr(used, file))
    api = start_broker(BROKER_CA_FILE=str(authority.file), **shows(used)).api
    api.ok_subscribe("t", guarded.url, retry=RETRY)
    sequence = api.ok_publish("t", 1)
    eventually(lambda: api.ok_status("t")["last_error"])
    assert guarded.requests == []

    for file in ("certificate", "key"):
        shutil.copy(getattr(after, file), getattr(used, file))

    eventually(lambda: guarded.sequences == [sequence])


def test_certificate_changes_nothing_for_other_endpoints(
    start_broker: StartBroker, authority: Authority, secured: Endpoint, endpoint: Endpoint
) -> None:
    shown = shows(authority.vouch_for("broker@example.com"))
    api = start_broker(BROKER_CA_FILE=str(authority.file), **shown).api
    for name, url in (("plain", endpoint.url), ("secured", secured.url)):
        api.ok_subscribe("t", url, name, retry=RETRY)
    sequence = api.ok_publish("t", 1)

    eventually(lambda: endpoint.sequences == secured.sequences == [sequence])


def test_connections_with_a_certificate_are_kept(
    start_broker: StartBroker, authority: Authority, guarded: Endpoint
) -> None:
    shown = shows(authority.vouch_for("broker@example.com"))
    api = start_broker(BROKER_CA_FILE=str(authority.file), **shown).api
    sequences = [api.ok_publish("t", n) for n in range(50)]
    api.ok_subscribe("t", guarded.url, start="beginning", ordering="topic")

    eventually(lambda: guarded.sequences == sequences)

    assert guarded.connections == 1
