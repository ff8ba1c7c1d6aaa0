"""What are an integration's URI and credentials on a stage?

`${stageVariables.name}` stands for the stage's variable of that name, in one pass. AWS allows it in
HTTP URLs, in ARNs of functions and in ARNs of credentials:
https://docs.aws.amazon.com/apigateway/latest/developerguide/websocket-api-stages.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wsgateway.api.definition import IntegrationDefinition

_REFERENCE = re.compile(r"\$\{stageVariables\.([A-Za-z0-9_]{1,64})\}")


class MissingStageVariable(LookupError):
    """A stage does not have a variable that is referred to.

    Attributes:
        name: The variable's.
        text: What refers to it.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text)
        self.name = name
        self.text = text

    def __str__(self) -> str:
        """One sentence."""
        return f"there is no stage variable {self.name!r}, which {self.text!r} refers to"


def references(text: str) -> list[str]:
    """Return the names of the variables that a text refers to, each once."""
    return list(dict.fromkeys(_REFERENCE.findall(text)))


def resolve(text: str, variables: Mapping[str, str]) -> str:
    """Return the text with the values of the variables in place.

    Raises:
        MissingStageVariable: There is no such variable.
    """

    def value(match: re.Match[str]) -> str:
        try:
            return variables[match[1]]
        except KeyError:
            raise MissingStageVariable(match[1], text) from None

    return _REFERENCE.sub(value, text)


def resolve_integration(
    integration: IntegrationDefinition, variables: Mapping[str, str]
) -> IntegrationDefinition:
    """Return an integration as it is on a stage: its URI and credentials name no variables.

    Raises:
        MissingStageVariable: The stage does not have one of them.
    """
    uri, credentials = integration.integration_uri, integration.credentials_arn
    return integration.model_copy(
        update={
            "integration_uri": None if uri is None else resolve(uri, variables),
            "credentials_arn": None if credentials is None else resolve(credentials, variables),
        }
    )
