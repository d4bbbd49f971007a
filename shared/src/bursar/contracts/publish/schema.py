"""From the messages to JSON Schema 2020-12, every field with its meaning and its unit.

What pydantic makes of a model is right but says little: here each field gets the words of the catalogue
(``description`` and, for numbers, ``x-unit``), generated titles go, and bytes are said to be what they are: binary in
msgpack, base64 in an answer in JSON. The same schemas serve both publications, apart in files and together in the
AsyncAPI document; the latter is written for JSON Schema draft 7, so no keyword is used that means something else there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from bursar.contracts.catalog.base import Word

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
PACKED: Final = "application/vnd.msgpack"

Words = Mapping[str, Word]


class UnexplainedField(Exception):
    """A field of a published message has no description, or a number no unit."""


class _Generator(GenerateJsonSchema):
    def bytes_schema(self, schema: Any) -> JsonSchemaValue:
        said: JsonSchemaValue = {"type": "string", "contentEncoding": "base64", "x-msgpack": "bin"}
        if "max_length" in schema:
            said["x-max-bytes"] = schema["max_length"]
        return said


def schema_of(model: type[BaseModel], words: Words, *, answers: bool = False) -> dict[str, Any]:
    """The schema of one message; inner messages are in its ``$defs``.

    ``answers``: it is a reply, so what tells one answer from another is always there. Raises `UnexplainedField`.
    """
    schema = model.model_json_schema(schema_generator=_Generator)
    inner = schema.pop("$defs", {})
    schema = _explained(schema, words)
    if answers:
        always = [name for name in ("v", "ok") if name in schema["properties"]]
        schema["required"] = list(dict.fromkeys([*always, *schema.get("required", [])]))
    if inner:
        schema["$defs"] = {name: _explained(inner[name], words) for name in sorted(inner)}
    return schema


def apart(name: str, schema: dict[str, Any], examples: list[dict[str, Any]]) -> dict[str, Any]:
    """The schema as a document of its own."""
    head = {"$schema": DIALECT, "$id": f"urn:bursar:v1:{name}"}
    return {**head, **schema, **({"examples": examples} if examples else {})}


def together(service: str, schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The schema and its inner ones, by their names in the AsyncAPI document, which have the service before them."""
    whole = dict(schema)
    inner = whole.pop("$defs", {})
    named = {whole["title"]: whole, **inner}
    return {f"{service}.{title}": _moved(found, service) for title, found in named.items()}


def _moved(value: Any, service: str) -> Any:
    if isinstance(value, dict):
        return {key: _moved(inner, service) for key, inner in value.items()}
    if isinstance(value, list):
        return [_moved(inner, service) for inner in value]
    if isinstance(value, str) and value.startswith("#/$defs/"):
        return f"#/components/schemas/{service}.{value.removeprefix('#/$defs/')}"
    return value


def _explained(schema: dict[str, Any], words: Words) -> dict[str, Any]:
    if "properties" not in schema:  # a named choice or enumeration, not a message
        return schema
    title = schema["title"]
    said = schema.get("description") or getattr(words.get(title), "text", "")
    if not said:
        raise UnexplainedField(f"the message {title} says nothing about itself: give it a docstring")
    fields = {name: _field(found, name, title, words) for name, found in schema["properties"].items()}
    return {**schema, "description": in_one_line(said), "properties": fields}


def _field(schema: dict[str, Any], name: str, title: str, words: Words) -> dict[str, Any]:
    shape = {key: value for key, value in schema.items() if key != "title"}
    word = words.get(f"{title}.{name}") or words.get(name)
    text = shape.pop("description", "") or (word.text if word else "")
    if not text:
        raise UnexplainedField(f"the catalogue has no words for {title}.{name}")
    if "$ref" in shape:  # in draft 7 nothing may stand beside it
        shape["allOf"] = [{"$ref": shape.pop("$ref")}]
    said = {"description": in_one_line(text), **shape}
    unit = shape.get("x-unit") or (word.unit if word else "")
    if unit:
        said["x-unit"] = unit
    elif _has_number(shape):
        raise UnexplainedField(f"the catalogue has no unit for the number {title}.{name}")
    return said


def _has_number(shape: Any) -> bool:
    """Whether a number can stand in this field; a constant is none."""
    if isinstance(shape, list):
        return any(map(_has_number, shape))
    if not isinstance(shape, dict) or "const" in shape:
        return False
    kinds = [shape.get("items"), shape.get("additionalProperties"), shape.get("anyOf"), shape.get("prefixItems")]
    return shape.get("type") in ("integer", "number") or any(map(_has_number, kinds))


def in_one_line(text: str) -> str:
    """A docstring as one paragraph, without its marks for code."""
    return re.sub(r"\s+", " ", text.replace("``", "`")).strip()
