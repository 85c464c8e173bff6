"""TLS and SASL to real servers, and new secrets for one: every client of ours gets what the configuration says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, KafkaError, KafkaException
from pymongo.errors import OperationFailure, ServerSelectionTimeoutError
from typer.testing import CliRunner

from kowalski.archive.client import Role, connect, connect_async
from kowalski.broker import lag, stream
from kowalski.broker.kafka import client_config
from kowalski.cli import main
from kowalski.config import ConfigError, Settings, load
from kowalski.config.encryption import Tls
from kowalski.config.secrets import FILE, NEXT_FILE, Secrets
from kowalski.runtime import health, hygiene, kafka, mongod, rotation
from kowalski.runtime.errors import ServiceError
from kowalski.surveys import get
from kowalski.testing import certificates, services
from kowalski.testing.certificates import Certificates


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.make(tmp_path_factory.mktemp("pem"))


# MongoDB


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory, pem: Certificates) -> Iterator[Settings]:
    """A MongoDB of its own that speaks TLS only, as a server elsewhere."""
    own = services.new_settings(tmp_path_factory.mktemp("encrypted"))
    command = mongod.command(own)
    file = Path(command[-1])
    written = yaml.safe_load(file.read_text())
    tls = {"mode": "preferTLS", "certificateKeyFile": str(pem.server), "CAFile": str(pem.authority)}
    written["net"]["tls"] = tls | {"allowConnectionsWithoutCertificates": False}
    file.write_text(yaml.safe_dump(written))
    process = services.Process("mongod", command, {}, own.path.run / "logs" / "mongod.log")
    process.start()
    try:
        mongod.prepare(own)
        with connect(own, Role.ADMIN) as admin:
            admin.admin.command("setParameter", 1, tlsMode="requireTLS")
        own.database.host = "127.0.0.1"
        own.database.tls = Tls(enabled=True, ca_file=pem.authority, certificate_file=pem.server)
        yield own
    finally:
        process.stop()


async def test_every_connection_to_mongodb_is_encrypted(encrypted: Settings) -> None:
    for role in Role:
        with connect(encrypted, role) as client:
            client.admin.command("ping")
    async with connect_async(encrypted, Role.READER) as client:
        await client.admin.command("ping")
    mongod.prepare(encrypted)  # as `up` does
    assert health.mongodb(encrypted).ok
    for wrong in (Tls(), Tls(enabled=True)):  # in the clear, and with an authority that did not sign
        other = encrypted.model_copy(deep=True)
        other.database.tls = wrong
        with connect(other, serverSelectionTimeoutMS=700) as client, pytest.raises(ServerSelectionTimeoutError):
            client.admin.command("ping")


def test_new_secrets_are_in_force_and_the_old_ones_no_longer(
    encrypted: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = encrypted.path.run
    old = Secrets.read(run)
    settings = encrypted.model_copy(deep=True)
    with connect(settings) as before:
        before[settings.database.db]["things"].insert_one({"_id": 1})
        assert rotation.rotate(settings) == [
            "database.password", "database.query_password", "database.admin_password", "server.jwt_secret_key",
        ]  # fmt: skip
        before[settings.database.db]["things"].insert_one({"_id": 2})  # who is in stays in
    new = Secrets.read(run)
    assert not {old.password, old.query_password, old.admin_password} & {
        new.password, new.query_password, new.admin_password,
    }  # fmt: skip
    assert (run / FILE).stat().st_mode & 0o077 == 0
    assert new.replica_key == old.replica_key
    for role in Role:
        with connect(settings, role) as client, pytest.raises(OperationFailure, match=r"[Aa]uthentication failed"):
            client.admin.command("ping")
    new.fill(_without_secrets(settings))
    _works(settings)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:  # passwords are changed, and then the machine goes down
        patched.setattr(Path, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            rotation.rotate(settings)
    assert "a change of secrets was interrupted; secrets rotate finishes it" in list(hygiene.problems(settings, None))
    assert "database.admin_password" in rotation.rotate(settings)
    assert not (run / NEXT_FILE).exists()
    Secrets.read(run).fill(_without_secrets(settings))
    _works(settings)
    assert rotation.rotate(settings, passwords=False) == ["server.jwt_secret_key"]
    _works(settings)
    settings.database.password = settings.database.query_password = "set by the operator"
    settings.database.admin_password = Secrets.read(run).admin_password
    assert rotation.rotate(settings, tokens=False) == ["database.admin_password"]


def _without_secrets(settings: Settings) -> Settings:
    for name in rotation.PASSWORDS:
        setattr(settings.database, name, None)
    settings.server.jwt_secret_key = None
    return settings


def _works(settings: Settings) -> None:
    for role in Role:
        with connect(settings, role) as client:
            client.admin.command("ping")


def test_secrets_need_to_be_there_and_mongodb_to_answer(tmp_path: Path) -> None:
    settings = services.new_settings(tmp_path / "run")
    with pytest.raises(ServiceError, match="MongoDB does not answer"):
        rotation.rotate(settings)
    (tmp_path / "run" / FILE).unlink()
    with pytest.raises(ServiceError, match="no secrets in"):
        rotation.rotate(settings)


def test_what_is_wrong_with_secrets_is_told(mongo: Any, settings: Settings, tmp_path: Path) -> None:
    Secrets.ensure(settings.path.run)
    config = tmp_path / "config.yaml"
    config.write_text("server: {}\n")
    assert list(hygiene.problems(settings, config)) == [
        "the API's admin has the default password; set server.admin_password"
    ]
    settings.server.admin_password = "short"
    settings.server.jwt_secret_key = "x" * 20
    (settings.path.run / FILE).chmod(0o644)
    config.chmod(0o644)
    settings.database.query_username, settings.database.query_password = (
        settings.database.username, settings.database.password,
    )  # fmt: skip
    told = "\n".join(hygiene.problems(settings, config))
    for words in ("fewer than 12", "fewer than 32", "read .*secrets.json", "read .*config.yaml", "can read .*_system"):
        assert re.search(words, told), told


def test_the_command_makes_and_checks_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"path": {"run": str(tmp_path / "run")}, "database": {"port": 1}}))
    monkeypatch.setenv("KOWALSKI_CONFIG", str(config))
    app = main.build()
    for told in ("is written", "was there already"):
        assert told in CliRunner().invoke(app, ["secrets", "make"]).stdout.replace("\n", "")
    checked = CliRunner().invoke(app, ["secrets", "check"])
    assert checked.exit_code == 1
    assert "default password" in checked.stdout


def test_tls_is_for_servers_elsewhere(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("database: {tls: {enabled: true}}\n")
    with pytest.raises(ConfigError, match="tls is for a server of your own"):
        load(config, environ={})
    config.write_text("database: {host: h, tls: {ca_file: /etc/ca.pem}}\n")
    with pytest.raises(ConfigError, match="enabled is false"):
        load(config, environ={})


# Kafka

JAAS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'username="inner" password="inner" user_inner="inner" user_kowalski="a secret";'
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, pem: Certificates) -> Iterator[Settings]:
    """A Kafka of its own that lets in who speaks TLS and gives a password."""
    own = services.new_settings(tmp_path_factory.mktemp("guarded"))
    argv, env = kafka.command(own)
    file = Path(argv[-1])
    address = f"SASL_SSL://127.0.0.1:{own.kafka.port}"
    further = {
        "listeners": f"{address},CONTROLLER://127.0.0.1:{own.kafka.controller_port}",
        "advertised.listeners": address,
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "SASL_SSL",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": JAAS,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": pem.server,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": pem.authority,
    }
    kept = [line for line in file.read_text().splitlines() if line.partition("=")[0] not in further]
    file.write_text("\n".join([*kept, *(f"{key}={value}" for key, value in further.items())]))
    process = services.Process("kafka", argv, env, own.path.run / "logs" / "kafka.log")
    own.kafka.bootstrap.servers = f"127.0.0.1:{own.kafka.port}"
    own.kafka.client = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "kowalski",
        "sasl.password": "a secret",
        "ssl.ca.location": str(pem.authority),
    }
    process.start()
    try:
        kafka.wait_until_up(own)
        yield own
    finally:
        process.stop()


def test_every_client_of_kafka_gives_its_password(guarded: Settings, tmp_path: Path) -> None:
    assert health.kafka(guarded).ok
    file = tmp_path / "one.avro"
    file.write_bytes(b"a packet")
    topic = "ztf_20231012_programid1"
    stream.ensure_topic(guarded, topic)
    assert stream.send(guarded, topic, [file]).sent == 1
    consumer = Consumer(client_config(guarded, **{"group.id": "g", "auto.offset.reset": "earliest"}))
    consumer.subscribe([topic])
    (message,) = consumer.consume(1, timeout=60)
    assert message.value() == b"a packet"
    consumer.close()
    assert lag.consumer_lag(guarded, get("ZTF"))


def test_a_wrong_password_or_authority_is_refused(guarded: Settings) -> None:
    for name, value in (("sasl.password", "another"), ("ssl.ca.location", "/etc/ssl/certs/ca-certificates.crt")):
        other = guarded.model_copy(deep=True)
        other.kafka.client = {**guarded.kafka.client, name: value}
        consumer = Consumer(client_config(other, **{"group.id": "h"}))
        with pytest.raises(KafkaException) as caught:
            consumer.list_topics(timeout=2)
        assert caught.value.args[0].code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)
        consumer.close()
