"""A configuration as operators of the existing system have it, in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from kowalski.config import ConfigError, load
from kowalski.config.legacy import translate

FEATURES = ("drb", "diffmaglim", "ra", "dec", "magpsf", "classtar")

LEGACY = f"""
kowalski:
  server:
    name: Kowalski
    version: "3.0.0"
    description: "A multi-survey archive"
    host: "0.0.0.0"
    port: 4000
    processes: 4
    max_requests: 100000
    timeout: 36000
    admin_username: admin
    admin_password: admin
    SECRET_KEY: abc0123
    JWT_SECRET_KEY: abc0123
    JWT_ALGORITHM: HS256
    JWT_EXP_DELTA_SECONDS: null
    fernet_key: irQf8PzHPbx1bZBTDGsMpkPQaTqIkFCKbLJ6gYVXKzI=
    client_max_size: 1048576
    contact: {{name: Somebody, email: somebody@example.edu}}
  ztf: {{mountain_ip: null, mountain_port: null, mountain_username: null, mountain_password: null,
         mountain_bind_ip: null, mountain_bind_port: null}}
  kafka:
    default.topic.config:
      auto.offset.reset: earliest
    group: kowalski
    scala_version: "2.13"
    kafka_version: "3.4.1"
    bootstrap.servers: "192.168.0.64:9092,192.168.0.65:9092,192.168.0.66:9092"
    zookeeper: "192.168.0.64:2181"
    bootstrap.test.servers: "localhost:9092"
    zookeeper.test: "localhost:2181"
    path: kafka_2.13-3.4.1
    processes_per_topic: {{ZTF: 1}}
  database:
    max_pool_size: 200
    max_wired_tiger_cache: null
    host: localhost
    port: 27017
    replica_set: null
    db: kowalski
    admin_username: mongoadmin
    admin_password: mongoadminsecret
    username: ztf
    password: ztf
    srv: False
    build_indexes: True
    collections: {{users: users, filters: filters, alerts_ztf: ZTF_alerts, alerts_ztf_aux: ZTF_alerts_aux}}
    indexes:
      ZTF_alerts:
        - name: radec_candid
          fields: [["coordinates.radec_geojson", "2dsphere"], ["candid", -1]]
          unique: false
        - name: candid
          fields: [["candid", -1]]
          unique: true
      PGIR_alerts:
        - {{name: objectId, fields: [["objectId", -1]], unique: false}}
    filters:
      ZTF_alerts:
        - $match: {{candid: null, candidate.programid: {{$in: [0]}}}}
    xmatch:
      ZTF:
        AllWISE:
          cone_search_radius: 2
          cone_search_unit: arcsec
          filter: {{}}
          projection: {{_id: 1, coordinates.radec_str: 1, w1mpro: 1}}
        CLU_20190625:
          cone_search_radius: 300
          cone_search_unit: arcsec
          use_distance: True
          distance_value: z
          distance_method: redshift
          cm_at_distance: 30
          cm_low_distance: 300
          filter: {{}}
          projection: {{_id: 1, name: 1, z: 1}}
      PGIR:
        AllWISE: {{cone_search_radius: 8, cone_search_unit: arcsec, filter: {{}}, projection: {{}}}}
  ml:
    ZTF:
      allowed_features: "{FEATURES!r}"
      models:
        braai:
          triplet: True
          feature_names: False
          version: d6_m9
          url: https://example.org/braai.h5
        acai_h:
          triplet: True
          feature_names: "{FEATURES[:3]!r}"
          version: d1_dnn_20201130
        bts:
          triplet: True
          feature_names: True
          version: v1.0.1
          format: pb
          order: ["triplet", "features"]
          feature_norms: {{drb: 1.0}}
  skyportal: {{protocol: http, host: skyportal-web-1, port: 5000, username: kowalski, token: <token>}}
  ztf_depot: {{username: null, password: null}}
  ztf_ops: {{url: null, username: null, password: null}}
  tns: {{url: "https://www.wis-tns.org", bot_id: null, bot_name: null, api_key: null}}
  dask: &cluster {{host: 127.0.0.1, n_workers: 4, threads_per_worker: 1, scheduler_port: 8786,
                   dashboard_address: ":8787", lifetime: "24 hours", lifetime_stagger: "1 hours",
                   lifetime_restart: true}}
  dask_pgir: *cluster
  dask_wntr: *cluster
  dask_turbo: *cluster
  misc:
    broker: True
    supported_penquins_versions: ["2.0.0", "2.4.2"]
    query_expiration_interval: 5
    max_time_ms: 300000
    max_retries: 100
    logging_level: DEBUG
    openapi_validate: False
  slack: {{slack_bot_token: null, slack_channel_id: null}}
  enabled: {{ztf: True, pgir: True, wntr: False, turbo: True, zuds: True}}
  path: {{app: /app, docs: /app/docs, ml_models_ztf: /app/models/, ml_models_pgir: /app/models/, logs: /data/logs/,
          data: /data, queries: /data/queries, tess: /data/tess, tmp: /_tmp, kafka: /kafka}}
  supervisord: {{api: {{supervisord: {{nodaemon: true}}}}, ingester: {{}}}}
"""


@pytest.fixture
def legacy(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(LEGACY)
    return file


def test_what_still_means_something_is_taken(legacy: Path) -> None:
    settings = load(legacy, {}).settings
    assert settings.server.host == "0.0.0.0"
    assert settings.server.timeout == 36000
    assert settings.server.jwt_exp_delta_seconds == 30 * 24 * 3600  # null there is no wish, just the default
    assert settings.server.contact.email == "somebody@example.edu"
    assert settings.kafka.servers == "192.168.0.64:9092,192.168.0.65:9092,192.168.0.66:9092"
    assert (settings.database.host, settings.database.username, settings.database.password) == (
        "localhost",
        "ztf",
        "ztf",
    )
    assert not settings.database.is_embedded
    assert settings.database.replica_set is None
    assert settings.database.cache_gb == 1.0
    assert [index.name for index in settings.database.indexes["ZTF_alerts"]] == ["radec_candid", "candid"]
    assert settings.database.xmatch["ZTF"]["CLU_20190625"].cm_low_distance == 300
    assert settings.dask.n_workers == 4
    assert settings.dask.dashboard_port == 8787
    assert settings.dask.lifetime == "24 hours"
    assert settings.skyportal.enabled
    assert settings.skyportal.host == "skyportal-web-1"
    assert settings.queries.max_time_ms == 300000
    assert settings.logging.level == "debug"
    assert str(settings.path.data) == "/data"
    assert settings.database.xmatch["PGIR"]["AllWISE"].cone_search_radius == 8
    assert [index.name for index in settings.database.indexes["PGIR_alerts"]] == ["objectId"]
    assert {"ZTF", "PGIR", "TURBO"} <= set(settings.enabled_surveys)
    assert "WNTR" not in settings.enabled_surveys


def test_feature_lists_may_be_tuples_as_text(legacy: Path) -> None:
    ml = load(legacy, {}).settings.ml.of("ZTF")
    assert ml.allowed_features == FEATURES
    assert ml.models["acai_h"].feature_names == FEATURES[:3]
    assert ml.models["braai"].feature_names is False
    assert ml.models["bts"].feature_names is True
    assert ml.models["bts"].order == ("triplet", "features")
    assert ml.models["bts"].feature_norms == {"drb": 1.0}


def test_what_has_lost_its_meaning_is_told(legacy: Path) -> None:
    told = load(legacy, {}).warnings
    for part in (
        "server.version",
        "server.SECRET_KEY",
        "server.fernet_key",
        "kafka.default",
        "kafka.zookeeper",
        "kafka.processes_per_topic",
        "database.collections",
        "database.filters",
        "dask_turbo",
        "skyportal.username",
        "misc",
        "enabled",
        "path.logs",
        "supervisord",
    ):
        assert any(sentence.startswith(f"{part} has no effect: ") for sentence in told), part
    assert len(told) == len(set(told))
    assert not any("\n" in sentence for sentence in told)


def test_a_published_key_does_not_sign_tokens(legacy: Path) -> None:
    loaded = load(legacy, {})
    assert loaded.settings.server.jwt_secret_key != "abc0123"
    assert "published" in next(text for text in loaded.warnings if text.startswith("server.JWT_SECRET_KEY"))


def test_a_key_of_ones_own_does(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("kowalski: {server: {JWT_SECRET_KEY: a-key-of-my-own-long-enough}}")
    assert load(tmp_path / "c.yaml", {}).settings.server.jwt_secret_key == "a-key-of-my-own-long-enough"


def test_surveys_can_be_switched_off(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("kowalski: {enabled: {ztf: false, turbo: false}}")
    enabled = load(tmp_path / "c.yaml", {}).settings.enabled_surveys
    assert not {"ZTF", "TURBO"} & set(enabled)
    assert {"PGIR", "WNTR"} <= set(enabled)


@pytest.mark.parametrize(("value", "expected"), [("4", 4.0), ("2.5", 2.5), ("50%", 1.0)])
def test_cache_in_gigabytes_or_percent(value: str, expected: float, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"kowalski: {{database: {{max_wired_tiger_cache: {value}}}}}")
    loaded = load(tmp_path / "c.yaml", {})
    assert loaded.settings.database.cache_gb == expected
    assert bool(loaded.warnings) == value.endswith("%")


def test_todays_name_wins_over_the_old_one() -> None:
    settings, warnings = translate({"misc": {"broker": True}, "skyportal": {"enabled": False}})
    assert settings["skyportal"]["enabled"] is False
    assert warnings == []


def test_features_that_are_no_tuple_are_named(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("ml: {ZTF: {models: {acai_h: {feature_names: 'drb and more'}}}}")
    with pytest.raises(ConfigError, match=r"ml\.ZTF\.models\.acai_h\.feature_names"):
        load(tmp_path / "c.yaml", {})


def test_translation_leaves_its_input_alone() -> None:
    given = {"misc": {"broker": True}, "kafka": {"bootstrap.servers": "a:1"}}
    translate(given)
    assert given == {"misc": {"broker": True}, "kafka": {"bootstrap.servers": "a:1"}}


def test_watchers_of_an_existing_system_go_on(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        """
        kowalski:
          ztf_depot: {username: depot, password: secret}
          ztf_ops: {url: "https://example.org/allexp.tbl", username: ops, password: secret}
          tns: {url: "https://www.wis-tns.org", bot_id: 123, bot_name: bot, api_key: key}
          slack: {slack_bot_token: xoxb, slack_channel_id: C01}
        """
    )
    loaded = load(file, {})
    watchers = loaded.settings.watchers
    assert loaded.warnings == []
    assert list(watchers.running) == ["tns", "ztf_ops"]
    assert (watchers.tns.bot_id, watchers.tns.bot_name, watchers.tns.api_key) == (123, "bot", "key")
    assert (watchers.report.slack_token, watchers.report.slack_channel) == ("xoxb", "C01")
    assert (watchers.ztf_ops.username, watchers.ztf_matchfiles.username) == ("ops", "depot")
