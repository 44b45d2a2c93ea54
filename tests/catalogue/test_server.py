"""A Qdrant server that fails, vanishes or is not trusted: bounded tries, clear errors, no key in them."""

import datetime
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from catalogue import CatalogueSettings, Entry, ServerAddress, Sharding, open_catalogue, retries
from catalogue.address import KEY_VARIABLE, key_in
from specification.errors import CatalogueError, InvalidInput, NotFound, TooLarge
from tests.catalogue.fake_qdrant import KEY, Failure, FakeQdrant, hang_up, serving, status

MakeEntry = Callable[..., Entry]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, noted instead of slept."""
    noted: list[float] = []
    monkeypatch.setattr(retries, "sleep", noted.append)
    return noted


@pytest.fixture
def server() -> Iterator[FakeQdrant]:
    with serving(FakeQdrant()) as fake:
        yield fake


@pytest.mark.parametrize("failure", [hang_up, status(429), status(502), status(503), status(504)])
def test_a_passing_failure_is_bridged(
    server: FakeQdrant, settings: CatalogueSettings, pauses: list[float], failure: Failure
) -> None:
    server.failures = [failure] * 3
    with open_catalogue(ServerAddress(server.url, KEY), settings):
        assert [path.split("/")[-1] for _, path in server.requests[:5]] == [*["exists"] * 4, "learnwares-00000000"]
    assert len(pauses) == 3
    assert all(0.5 * full <= pause <= full for pause, full in zip(pauses, (0.5, 1, 2), strict=True))


def test_tries_are_bounded_and_told(server: FakeQdrant, settings: CatalogueSettings, pauses: list[float]) -> None:
    server.failures = [status(503)] * 99
    with pytest.raises(CatalogueError) as caught:
        open_catalogue(ServerAddress(server.url, KEY, retries=2), settings)
    assert str(caught.value) == (
        f"the catalogue cannot be opened: {server.url} was asked 3 times and gave no answer "
        "(last: 503 Service Unavailable); what was acknowledged is kept, run the same command again to go on"
    )
    assert len(server.requests) == 3
    assert len(pauses) == 2
    with pytest.raises(CatalogueError, match="was asked once and"):
        open_catalogue(ServerAddress(server.url, KEY, retries=0), settings)


def test_retry_after_is_kept_to(server: FakeQdrant, pauses: list[float]) -> None:
    server.failures = [status(429, Retry_After="3"), status(503, Retry_After="Fri, 31 Dec 1999 23:59:59 GMT")]
    with pytest.raises(NotFound, match="no collection"):
        open_catalogue(ServerAddress(server.url, KEY))
    assert pauses[0] == 3
    assert pauses[1] <= 1


def test_a_server_that_asks_for_a_long_pause_is_left_alone(server: FakeQdrant, pauses: list[float]) -> None:
    server.failures = [status(429, Retry_After="120")]
    with pytest.raises(CatalogueError, match=r"asked once .*429") as caught:
        open_catalogue(ServerAddress(server.url, KEY))
    assert caught.value.retry_after == 120
    assert pauses == []


def test_what_another_try_would_not_mend_is_asked_once(server: FakeQdrant, pauses: list[float]) -> None:
    with pytest.raises(CatalogueError, match=r"403 .*; set SLMDOCK_QDRANT_API_KEY to its key") as caught:
        open_catalogue(ServerAddress(server.url, f"not-{KEY}"))
    assert KEY not in str(caught.value)
    server.failures = [status(500)]
    with pytest.raises(CatalogueError, match="500"):
        open_catalogue(ServerAddress(server.url, KEY))
    assert len(server.requests) == 2
    assert pauses == []


def test_an_ingest_whose_server_vanishes_stops_and_goes_on_later(
    settings: CatalogueSettings, make_entry: MakeEntry, pauses: list[float]
) -> None:
    fake, entries = FakeQdrant(), [make_entry(seed) for seed in range(6)]
    with serving(fake):
        address = ServerAddress(fake.url, KEY, retries=3)
        catalogue = open_catalogue(address, settings)
        for entry in entries[:3]:
            catalogue.upsert([entry])
    asked = len(fake.requests)
    with pytest.raises(CatalogueError) as caught:
        catalogue.upsert([entries[3]])
    message = str(caught.value)
    assert message.startswith(f"the catalogue cannot write: {fake.url} was asked 4 times and gave no answer")
    assert "run the same command again" in message
    assert KEY not in message + repr(caught.value) + repr(address) + repr(catalogue.__dict__)
    assert len(pauses) == 3
    assert len(fake.requests) == asked
    assert len(fake.points) == 3
    with serving(fake, port=int(fake.url.rpartition(":")[2])), catalogue:
        catalogue.upsert(entries[2:])
    assert len(fake.points) == 6


def test_a_batch_whose_answer_was_lost_is_written_again(
    server: FakeQdrant, settings: CatalogueSettings, make_entry: MakeEntry, pauses: list[float]
) -> None:
    with open_catalogue(ServerAddress(server.url, KEY), settings) as catalogue:
        server.failures = [hang_up]
        catalogue.upsert([make_entry(1), make_entry(2)])
    assert len(server.points) == 2
    assert len(pauses) == 1


def test_a_collection_is_spread_and_stored_as_wished(server: FakeQdrant, settings: CatalogueSettings) -> None:
    address = ServerAddress(server.url, KEY, sharding=Sharding(6, 3, 2))
    open_catalogue(address, settings).close()
    made = server.collection
    assert made is not None
    assert (made["shard_number"], made["replication_factor"], made["write_consistency_factor"]) == (6, 3, 2)
    assert made["quantization_config"]["scalar"] == {"type": "int8", "quantile": 0.99, "always_ram": True}
    assert made["on_disk_payload"] is True
    assert all(vector["on_disk"] for vector in made["vectors"].values())
    assert "hnsw_config" not in made
    # One that is there is opened as it is.
    open_catalogue(replace(address, sharding=Sharding()), settings).close()
    assert server.collection is made


def test_two_processes_may_make_the_collection_at_once(
    server: FakeQdrant, settings: CatalogueSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = ServerAddress(server.url, KEY)
    open_catalogue(address, settings).close()
    plainly = FakeQdrant.reply

    def late(self: FakeQdrant, method: str, path: str, body: object) -> tuple[int, object]:
        return (200, {"exists": False}) if path.endswith("/exists") else plainly(self, method, path, body)

    monkeypatch.setattr(FakeQdrant, "reply", late)
    with open_catalogue(address, settings) as catalogue:
        assert catalogue.settings == settings


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """Writes a certificate for 127.0.0.1 that signs itself; returns its file and a server's context."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / f"{name}.pem", folder / f"{name}.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context


def test_tls_trusts_the_authority_that_is_named_and_no_other(
    tmp_path: Path, settings: CatalogueSettings, pauses: list[float]
) -> None:
    (public, context), (other, _) = certificate(tmp_path, "one"), certificate(tmp_path, "other")
    with serving(FakeQdrant(), tls=context) as fake:
        open_catalogue(ServerAddress(fake.url, KEY, ca_certificate=public), settings).close()
        for wrong in (other, None):
            with pytest.raises(CatalogueError, match="CERTIFICATE_VERIFY_FAILED"):
                open_catalogue(ServerAddress(fake.url, KEY, ca_certificate=wrong), settings)
    assert pauses == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": "localhost:6333"}, "no Qdrant URL; write http://host:6333"),
        ({"url": "https://"}, "no Qdrant URL"),
        ({"url": "http://host:99999"}, "no Qdrant URL"),
        ({"url": "http://me:secret@host"}, "must not hold a user or password"),
        ({"api_key": "secret\n"}, "SLMDOCK_QDRANT_API_KEY is empty, or holds"),
        ({"api_key": ""}, "SLMDOCK_QDRANT_API_KEY is empty"),
        ({"timeout_seconds": 0}, "timeout 0 s"),
        ({"retries": 21}, "retries 21: 0 to 20"),
        ({"ca_certificate": Path("x.pem")}, "needs TLS: write https://"),
    ],
)
def test_an_address_is_checked_and_its_secrets_are_not_repeated(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        ServerAddress(**{"url": "http://host:6333", **fields})  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


def test_the_key_may_lie_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("secret\n")
    named = {f"{KEY_VARIABLE}_FILE": str(file)}
    assert key_in(named) == key_in({KEY_VARIABLE: "secret"}) == "secret"
    assert key_in({}) is key_in({KEY_VARIABLE: "", f"{KEY_VARIABLE}_FILE": ""}) is None
    with pytest.raises(InvalidInput, match="both set; keep one"):
        key_in(named | {KEY_VARIABLE: "other"})
    file.write_text(" \n")
    with pytest.raises(InvalidInput, match="holds no key"):
        key_in(named)
    file.write_bytes(b"k" * 5000)
    with pytest.raises(TooLarge):
        key_in(named)
    with pytest.raises(InvalidInput, match="gone: no such file"):
        key_in({f"{KEY_VARIABLE}_FILE": str(tmp_path / "gone")})


def test_sharding_is_checked() -> None:
    with pytest.raises(InvalidInput, match="shard_number is 0"):
        Sharding(shard_number=0)
    with pytest.raises(InvalidInput, match="write_consistency_factor 3 exceeds replication_factor 2"):
        Sharding(replication_factor=2, write_consistency_factor=3)


def test_a_file_of_authorities_that_is_none(tmp_path: Path) -> None:
    address = ServerAddress("https://127.0.0.1:1", ca_certificate=tmp_path / "ca.pem")
    with pytest.raises(InvalidInput, match=r"ca.pem: No such file"):
        open_catalogue(address)
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(InvalidInput, match=r"ca.pem: no certificate in PEM form"):
        open_catalogue(address)


@pytest.mark.parametrize("url", ["http://localhost:6333", "http://127.0.0.1", "http://[::1]:6333"])
def test_a_key_may_stay_on_this_machine_without_tls(url: str) -> None:
    assert ServerAddress(url).on_this_machine
    assert not ServerAddress("http://10.0.0.1:6333").on_this_machine
    assert not ServerAddress("http://localhost.example:6333").on_this_machine
