from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from kowalski.config import ConfigError, Loaded, load
from kowalski.config.secrets import FILE, Secrets


@pytest.fixture
def write(tmp_path: Path):
    def write(content: Any) -> Path:
        file = tmp_path / "config.yaml"
        file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return file

    return write


def test_file_over_defaults_and_environment_over_both(write) -> None:
    file = write({"server": {"port": 4001, "processes": 3}})
    settings = load(file, {"KOWALSKI_SERVER__PORT": "4002"}).settings
    assert (settings.server.port, settings.server.processes, settings.server.timeout) == (4002, 3, 600)


def test_the_environment_names_the_file(write) -> None:
    assert load(environ={"KOWALSKI_CONFIG": str(write({"server": {"port": 4001}}))}).settings.server.port == 4001


def test_names_of_surveys_catalogs_and_models_match_whatever_their_case() -> None:
    variables = {
        "KOWALSKI_SURVEYS__ZTF__ENABLED": "false",
        "KOWALSKI_DATABASE__XMATCH__ZTF__ALLWISE__CONE_SEARCH_RADIUS": "3.5",
        "KOWALSKI_ML__ZTF__MODELS__BRAAI__VERSION": "d7",
    }
    settings = load(environ=variables).settings
    assert "ZTF" not in settings.enabled_surveys
    assert settings.database.xmatch["ZTF"]["AllWISE"].cone_search_radius == 3.5
    assert settings.ml.of("ZTF").models["braai"].version == "d7"


@pytest.mark.parametrize(
    ("text", "servers"),
    [("[a:1, b:2]", "a:1,b:2"), ("a:1,b:2", "a:1,b:2"), ("", "127.0.0.1:9092"), ("null", "127.0.0.1:9092")],
)
def test_lists_and_nothing_in_variables(text: str, servers: str) -> None:
    assert load(environ={"KOWALSKI_KAFKA__BOOTSTRAP__SERVERS": text}).settings.kafka.servers == servers


def test_a_password_may_look_like_yaml() -> None:
    for password in ("[oh", "{x", "123", "true"):
        settings = load(environ={"KOWALSKI_SERVER__ADMIN_PASSWORD": password}).settings
        assert settings.server.admin_password == password


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"USE_TENSORFLOW": "False"}, False),
        ({"USE_TENSORFLOW": "t"}, True),
        ({"USE_TENSORFLOW": "False", "KOWALSKI_ML__USE_TENSORFLOW": "true"}, True),
    ],
)
def test_tensorflow_has_a_variable_of_its_own(variables: dict[str, str], expected: bool) -> None:
    assert load(environ=variables).settings.ml.use_tensorflow is expected


def test_null_takes_out_catalogs_models_and_indexes_only(write) -> None:
    file = write(
        """
        server:
        database: {xmatch: {ZTF: {AllWISE: null}}, indexes: {ZTF_alerts: null}, uri: null}
        ml: {ZTF: {models: {bts: null}}}
        """
    )
    settings, defaults = load(file, {}).settings, load(environ={}).settings
    assert settings.server == defaults.server.model_copy(update={"jwt_secret_key": settings.server.jwt_secret_key})
    assert set(defaults.database.xmatch["ZTF"]) - set(settings.database.xmatch["ZTF"]) == {"AllWISE"}
    assert set(defaults.ml.of("ZTF").models) - set(settings.ml.of("ZTF").models) == {"bts"}
    assert set(defaults.database.indexes) - set(settings.database.indexes) == {"ZTF_alerts"}


def test_a_new_survey_section_starts_from_nothing(write) -> None:
    own = {"version": "1", "feature_names": False}
    models = load(write({"ml": {"ZTF": {"models": {"mine": own}}}}), {}).settings.ml.of("ZTF").models
    assert models["mine"].format == "h5"


def test_folders_are_relative_to_the_project(write, tmp_path: Path) -> None:
    settings = load(write({"path": {"run": "elsewhere", "data": str(tmp_path), "models": "~"}}), {}).settings
    assert settings.path.run.is_absolute()
    assert settings.path.run.name == "elsewhere"
    assert settings.path.data == tmp_path
    assert settings.path.models == Path.home()


WRONG = [
    ("server: {prot: 1}", ("server.prot", "did you mean server.port?")),
    ("servr: {port: 1}", ("servr", "did you mean server?")),
    ("zzz: 1", ("zzz", "known here: broker, dask")),
    ("server: {port: many}", ("server.port", "'many'", "integer")),
    ("server: {port: true}", ("server.port", "True", "number")),
    ("server: {port: 70000}", ("server.port", "70000", "65535")),
    ("server: {port: 0}", ("server.port", "0", "1")),
    ("server: {host: ''}", ("server.host",)),
    ("server: {admin_password: 1234}", ("server.admin_password", "1234", "string")),
    ("server: {jwt_algorithm: none}", ("server.jwt_algorithm", "'none'", "HS256")),
    ("server: 5", ("server", "5")),
    ("server: [1]", ("server", "[1]")),
    ("kafka: {port: 4000}", ("server.port", "kafka.port", "4000")),
    ("kafka: {heap: lots}", ("kafka.heap", "'lots'")),
    ("database: {uri: localhost}", ("database.uri", "'localhost'", "mongodb")),
    ("database: {db: 'a b'}", ("database.db", "'a b'")),
    ("database: {xmatch: {ZTF: {Foo: {}}}}", ("database.xmatch.ZTF.Foo.cone_search_radius", "required")),
    (
        "database: {xmatch: {ZTF: {Foo: {cone_search_radius: 2, use_distance: true}}}}",
        ("database.xmatch.ZTF.Foo", "distance_value"),
    ),
    ("database: {indexes: {ZTF_alerts: [{name: a, fields: [[b, 2]]}]}}", ("database.indexes.ZTF_alerts", "2")),
    ("dask: {memory_limit: much}", ("dask.memory_limit", "'much'")),
    ("dask: {lifetime: 3 moons}", ("dask.lifetime", "'3 moons'")),
    ("broker: {batch_size: 0}", ("broker.batch_size", "0", "1")),
    ("broker: {batch_age_seconds: .nan}", ("broker.batch_age_seconds", "nan")),
    ("surveys: {ZTF: {topics: '('}}", ("surveys.ZTF.topics", "'('", "regular expression")),
    ("surveys: {ZTF: {topics: 'ztf_.*'}}", ("surveys.ZTF.topics", "(?P<date>")),
    ("surveys: {ztf: {enabled: true}}", ("surveys.ztf", "did you mean surveys.ZTF?")),
    ("ml: {devise: cuda}", ("ml.devise", "'cuda'")),
    ("ml: {devise: {models: {}}}", ("ml.devise", "did you mean ml.device?")),
    ("ml: {ZTF: {models: {a: {}}}}", ("ml.ZTF.models.a.version", "required")),
    ("ml: {ZTF: {models: {a: {version: '1', sha256: abc}}}}", ("ml.ZTF.models.a.sha256", "'abc'")),
    ("path: {run: ~nobody-of-this-name/run}", ("path.run", "home")),
    ('path: {run: "a\\nb"}', ("path.run", "one line")),
    ("path: {run: '50%'}", ("path.run", "'50%'", "must not hold")),
    ("server: [", ("not valid YAML",)),
    ("- server", ("sections", "list")),
    ("just text", ("sections", "str")),
    ("&a {server: *a}", ("refers to itself",)),
    ("server: {port: !!timestamp soon}", ("not valid YAML",)),
    ("server: {port: 2024-13-45}", ("not valid YAML",)),
]


@pytest.mark.parametrize(("text", "parts"), WRONG, ids=[text for text, _ in WRONG])
def test_wrong_settings_are_told_in_one_sentence(write, text: str, parts: tuple[str, ...]) -> None:
    file = write(text)
    with pytest.raises(ConfigError) as raised:
        load(file, {})
    said = str(raised.value)
    assert said.startswith(str(file)) or "are both" in said
    assert "\n" not in said
    for part in parts:
        assert part in said


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^variable KOWALSKI_SERVER__PORT: server\.port = 'x'"):
        load(environ={"KOWALSKI_SERVER__PORT": "x"})


def test_variables_that_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="KOWALSKI_SERVER__PORT__X goes deeper"):
        load(environ={"KOWALSKI_SERVER__PORT": "1", "KOWALSKI_SERVER__PORT__X": "1"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml does not exist"):
        load(tmp_path / "nowhere.yaml", {})


def test_external_servers_need_no_ports_of_ours(write) -> None:
    settings = load(
        write(
            {
                "database": {"uri": "mongodb://m/"},
                "kafka": {"bootstrap": {"servers": "k:1"}},
                "dask": {"scheduler_address": "tcp://d:1"},
            }
        ),
        {},
    ).settings
    assert settings.local_ports == {"server.port": 4000}


def test_secrets_are_random_private_and_stay(tmp_path: Path, write) -> None:
    file = write({"path": {"run": str(tmp_path / "run")}})
    first, second = load(file, {}).settings, load(file, {}).settings
    assert first.database.password != second.database.password  # none is kept yet
    assert not (tmp_path / "run").exists()
    Secrets.ensure(tmp_path / "run")
    mode = stat.S_IMODE((tmp_path / "run" / FILE).stat().st_mode)
    assert mode == 0o600
    first, second = load(file, {}).settings, load(file, {}).settings
    assert first == second
    values = [first.database.admin_password, first.database.password, first.database.query_password]
    values.append(first.server.jwt_secret_key)
    assert len(set(values)) == 4
    assert all(value and len(value) >= 32 for value in values)
    assert Secrets.ensure(tmp_path / "run") == Secrets.read(tmp_path / "run")


def test_an_operators_secret_wins(tmp_path: Path, write) -> None:
    Secrets.ensure(tmp_path / "run")
    file = write({"path": {"run": str(tmp_path / "run")}, "database": {"password": "mine"}})
    assert load(file, {}).settings.database.password == "mine"


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOWALSKI_SERVER__PORT", "4321")
    assert os.environ["KOWALSKI_SERVER__PORT"] == "4321"
    loaded: Loaded = load()
    assert loaded.settings.server.port == 4321


def test_a_survey_may_have_a_cluster_of_its_own(write) -> None:
    settings = load(write("surveys: {WNTR: {scheduler_address: 'tcp://far.example.net:8786'}}"), {}).settings
    assert settings.scheduler_of("WNTR") == "tcp://far.example.net:8786"
    assert settings.scheduler_of("PGIR") == settings.dask.address
