"""The published documents: valid, complete, and not stale."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator
from pydantic import ValidationError
from typer.testing import CliRunner

from bursar.cli import contracts as command
from bursar.cli.main import build
from bursar.contracts.base import Message
from bursar.contracts.catalog import Operation, ServiceCatalog, Word, catalogues
from bursar.contracts.limiter import Reserve
from bursar.contracts.publish import documents, schemas_of
from bursar.contracts.publish.samples import sample
from bursar.contracts.publish.schema import UnexplainedField, schema_of
from bursar.contracts.publish.yaml import to_yaml

ROOT = Path(__file__).resolve().parents[2]
OFFICIAL = json.loads((Path(__file__).parent / "schemas/asyncapi-3.0.0.json").read_text(encoding="utf-8"))
DOCUMENTS = documents()
ASYNCAPI: dict[str, Any] = yaml.load(DOCUMENTS["asyncapi.yaml"], yaml.CSafeLoader)
SCHEMAS = {path: json.loads(text) for path, text in DOCUMENTS.items() if path.endswith(".json")}
REQUESTS = [(catalog, operation) for catalog in catalogues() for operation in catalog.operations]


def name_of(value: object) -> str:
    return value.name if isinstance(value, ServiceCatalog) else f"{value.kind}-{value.verb}"  # type: ignore[attr-defined]


def invalid(document: Any) -> list[str]:
    return [error.message for error in Draft7Validator(OFFICIAL).iter_errors(document)]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def resolve(document: Any, reference: str) -> Any:
    """What a local reference points at; KeyError when there is nothing."""
    for part in reference.removeprefix("#/").split("/"):
        document = document[part]
    return document


def test_documents_in_the_repository_are_not_stale() -> None:
    """`make docs` writes nothing that is not there: whoever changes a contract writes the documents again."""
    assert command.stale(ROOT / "docs") == []


def test_staleness_is_noticed(tmp_path: Path) -> None:
    """A changed document, a missing one, and one that no contract has any more are named; writing repairs all."""
    command.write(tmp_path)
    assert command.stale(tmp_path) == []
    (tmp_path / "asyncapi.yaml").write_text("asyncapi: 3.0.0\n")
    (tmp_path / "schemas/limiter.Reserve.json").unlink()
    (tmp_path / "schemas/limiter.Old.json").write_text('{"$id": "urn:bursar:v1:limiter.Old"}')
    (tmp_path / "schemas/yours.json").write_text("{}")
    assert command.stale(tmp_path) == ["asyncapi.yaml", "schemas/limiter.Reserve.json", "schemas/limiter.Old.json"]
    command.write(tmp_path)
    assert command.stale(tmp_path) == []
    assert (tmp_path / "schemas/yours.json").exists()


def test_command_writes_and_checks(tmp_path: Path) -> None:
    """`bursar contracts DIR` writes, `--check` has status 1 and names what differs."""
    run = partial(CliRunner().invoke, build(["bursar.cli.contracts"]))
    missing = run(["contracts", str(tmp_path), "--check"])
    assert (missing.exit_code, "asyncapi.yaml" in missing.stderr) == (1, True)
    assert run(["contracts", str(tmp_path)]).exit_code == 0
    assert run(["contracts", str(tmp_path), "--check"]).exit_code == 0


def test_asyncapi_document_is_valid() -> None:
    """Valid against the official JSON Schema of AsyncAPI 3.0.0."""
    assert invalid(ASYNCAPI) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.update(asyncapi="2.6.0"),
        lambda d: d["operations"]["limiter.req.reserve"].update(action="ask"),
        lambda d: d["channels"]["limiter.req.reserve"].update(subject="x"),
        lambda d: d["components"]["schemas"]["limiter.Reserve"].update(type="map"),
    ],
)
def test_official_schema_finds_mistakes(spoil: Any) -> None:
    """The copy in the tests is able to refuse: a version, an action, a keyword and a type that do not exist."""
    document = copy.deepcopy(ASYNCAPI)
    spoil(document)
    assert not Draft7Validator(OFFICIAL).is_valid(document)


def test_every_reference_leads_somewhere() -> None:
    """In the AsyncAPI document and in each schema by itself."""
    for document in (ASYNCAPI, *SCHEMAS.values()):
        for reference in set(references(document)):
            assert resolve(document, reference) is not None


def test_messages_of_an_operation_belong_to_its_channel() -> None:
    """AsyncAPI wants the messages of an operation, and of its reply, among those of the channel."""
    for operation in ASYNCAPI["operations"].values():
        for part in (operation, operation.get("reply")):
            if part:
                assert all(m["$ref"].startswith(part["channel"]["$ref"] + "/messages/") for m in part["messages"])


@pytest.mark.parametrize("path", SCHEMAS)
def test_schema_is_valid_json_schema(path: str) -> None:
    """JSON Schema 2020-12, with an id of its own."""
    Draft202012Validator.check_schema(SCHEMAS[path])
    assert SCHEMAS[path]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMAS[path]["$id"] == f"urn:bursar:v1:{Path(path).stem}"


@pytest.mark.parametrize(("catalog", "operation"), REQUESTS, ids=name_of)
def test_example_is_what_schema_and_model_take(catalog: ServiceCatalog, operation: Operation) -> None:
    """The example of each request is valid under its schema and accepted by the service's model, and neither takes
    it with an unknown field, nor without what is required."""
    schema = SCHEMAS[f"schemas/{catalog.name}.{operation.request.__name__}.json"]
    check = Draft202012Validator(schema)
    example = sample(operation)
    assert [error.message for error in check.iter_errors(example)] == []
    operation.request.model_validate_json(json.dumps(example), strict=True)
    wrong = [{**example, "no_such_field": 1}]
    wrong += [{key: value for key, value in example.items() if key != name} for name in schema.get("required", [])]
    for broken in wrong:
        assert not check.is_valid(broken)
        with pytest.raises(ValidationError):
            operation.request.model_validate_json(json.dumps(broken), strict=True)


@pytest.mark.parametrize("catalog", catalogues(), ids=name_of)
def test_every_field_is_explained_and_every_number_has_a_unit(catalog: ServiceCatalog) -> None:
    """`schema_of` raises for a field without words; here are the messages inside the messages too."""
    for schema in schemas_of(catalog).values():
        for shape in (schema, *schema.get("$defs", {}).values()):
            assert shape.get("description") or "properties" not in shape
            assert all(field["description"] for field in shape.get("properties", {}).values())
    assert "unit" in str(schemas_of(catalog))


@pytest.mark.parametrize("catalog", catalogues(), ids=name_of)
def test_catalogue_explains_nothing_that_is_not_there(catalog: ServiceCatalog) -> None:
    """Words for a field that was renamed or removed go with it."""
    shapes: dict[str, Any] = {}
    for name, schema in schemas_of(catalog).items():
        shapes.update({name: schema, **schema.get("$defs", {})})
    fields = {(title, field) for title, shape in shapes.items() for field in shape.get("properties", {})}
    for word in catalog.words:
        title, _, field = word.rpartition(".")
        known = (title, field) in fields if title else field in {f for _, f in fields} | set(shapes)
        assert known, f"{catalog.name} explains {word}, which no message has"


class Unexplained(Message):
    """A message for the tests below."""

    mystery: str
    number: int | None


def test_a_field_without_words_is_refused() -> None:
    """Publishing fails and names the field; a number needs its unit as well."""
    with pytest.raises(UnexplainedField, match=r"Unexplained\.mystery"):
        schema_of(Unexplained, {"v": Word("Version.")})
    with pytest.raises(UnexplainedField, match=r"no unit for the number Unexplained\.number"):
        schema_of(Unexplained, {name: Word("Something.") for name in ("v", "mystery", "number")})


def test_a_model_without_a_field_of_the_contract_is_noticed() -> None:
    """The schema follows the model: bounds, patterns and defaults are those that the service enforces."""
    schema = SCHEMAS["schemas/limiter.Reserve.json"]["properties"]
    assert schema["wait_ms"]["maximum"] == 600_000
    assert schema["wait_ms"]["x-unit"] == "ms"
    assert schema["ttl_ms"]["default"] == Reserve.model_fields["ttl_ms"].default


@pytest.mark.parametrize(
    "value",
    [
        {"plain": "text", "with space": "two words", "colon": "a: b", "hash": "a #b", "empty": "", "dash": "- a"},
        {"yes": "no", "null": "null", "n": "~", "true": "TRUE", "number": "1.5", "date": "2026-01-01", "e": "1e3"},
        {"list": [1, 2.5, None, True, [], {}, [[1], {"a": [{"b": 1}]}], {"a": 1, "b": {"c": "d"}}], "none": {}},
        {"quotes": 'say "x"', "lines": "a\nb", "unicode": "µs ✓", "dollar": "$ref", "star": "*a", "trail": "a "},
    ],
)
def test_yaml_reads_back_as_what_was_written(value: dict[str, Any]) -> None:
    """Another reader sees the same values and types, whatever YAML might take a word for."""
    assert yaml.safe_load(to_yaml(value)) == value
