"""Which JSON Schema do editors check and complete a definition with?

It is made of the classes that read definitions, and says of them what a schema can: names, types,
patterns, and what a type of integration cannot be without. What remains is told by
`wsgateway validate`. It is of draft 7, which more editors know than later ones.
"""

from __future__ import annotations

from typing import TypeAlias

from wsgateway.api.definition import ApiDefinition, IntegrationType

_Json: TypeAlias = "dict[str, _Json] | list[_Json] | str | int | float | bool | None"

# What `checks` demands of types of integrations.
_REQUIRED = {
    (IntegrationType.HTTP, IntegrationType.HTTP_PROXY): ["integrationUri", "integrationMethod"],
    (IntegrationType.AWS, IntegrationType.AWS_PROXY): ["integrationUri"],
    (IntegrationType.AWS, IntegrationType.HTTP): ["integrationResponses"],
    (IntegrationType.MOCK,): ["requestTemplates"],
}
# What it does not let them have.
_FORBIDDEN = {
    (IntegrationType.AWS_PROXY, IntegrationType.HTTP_PROXY): [
        "templateSelectionExpression",
        "requestTemplates",
        "integrationResponses",
    ],
    (IntegrationType.HTTP, IntegrationType.HTTP_PROXY): ["credentialsArn"],
    (IntegrationType.MOCK,): [
        "integrationUri",
        "integrationMethod",
        "credentialsArn",
        "requestParameters",
    ],
}


def json_schema() -> dict[str, object]:
    """Return the schema of a definition file."""
    generated: dict[str, _Json] = ApiDefinition.model_json_schema(by_alias=True)
    schema = _plain(generated)
    assert isinstance(schema, dict), "a schema is a mapping"
    definitions = schema["definitions"]
    assert isinstance(definitions, dict), "every class has one"
    integration = definitions["IntegrationDefinition"]
    assert isinstance(integration, dict), "a schema is a mapping"
    integration["allOf"] = [
        *(_rule(types, {"required": list(names)}) for types, names in _REQUIRED.items()),
        *(
            _rule(types, {"properties": dict.fromkeys(names, False)})
            for types, names in _FORBIDDEN.items()
        ),
    ]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "An API that wsgateway serves",
        **schema,
    }


def _rule(types: tuple[IntegrationType, ...], then: _Json) -> _Json:
    return {
        "if": {
            "properties": {"integrationType": {"enum": [str(name) for name in types]}},
            "required": ["integrationType"],
        },
        "then": then,
    }


def _plain(value: _Json) -> _Json:
    """Return a part of what pydantic makes, with less in it and in the words of draft 7."""
    if isinstance(value, list):
        return [_plain(element) for element in value]
    if isinstance(value, str):
        # Not all editors know Markdown.
        return value.replace("#/$defs/", "#/definitions/").replace("`", "")
    if not isinstance(value, dict):
        return value
    plain: dict[str, _Json] = {}
    for name, member in value.items():
        # Titles repeat the names, in another spelling.
        if name == "title" and isinstance(member, str):
            continue
        if name == "default" and member in (None, {}):
            continue
        plain["definitions" if name == "$defs" else name] = _plain(member)
    choices = plain.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        # What may be left out need not be null.
        del plain["anyOf"]
        [choice] = [choice for choice in choices if choice != {"type": "null"}]
        assert isinstance(choice, dict), "a schema is a mapping"
        plain = choice | plain
    if "patternProperties" in plain:
        plain["additionalProperties"] = False
    if "$ref" in plain and len(plain) > 1:
        # Draft 7 looks at nothing beside a reference.
        plain["allOf"] = [{"$ref": plain.pop("$ref")}]
    return plain
