"""Definition files: YAML with the line of every value, so that a fault can name its place."""

from __future__ import annotations

import re
from difflib import get_close_matches
from operator import itemgetter
from reprlib import repr as in_short
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from wsgateway.errors import Fault, OperatorFaults

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]
Lines = dict[Location, int]
Model = TypeVar("Model", bound=BaseModel)

_TAG = "tag:yaml.org,2002:"
_SCALARS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp"))
_PROBLEMS = {
    "model_type": "is not a mapping",
    "dict_type": "is not a mapping",
    "string_type": "is not text",
}


def load_definition(path: Path, model: type[Model]) -> tuple[Model, Lines]:
    """Read a file into a pydantic model.

    Returns:
        What it declares, and the line of everything in it.

    Raises:
        OperatorFaults: It cannot be read, is no YAML, or does not fit the model; with all faults.
    """
    reader = _Reader(path)
    value = reader.read()
    try:
        definition = model.model_validate(value)
    except ValidationError as error:
        reader.add_faults(error, model)
        raise OperatorFaults(reader.faults) from error
    if reader.faults:
        raise OperatorFaults(reader.faults)
    return definition, reader.lines


class _Reader:
    """Reads one file.

    Attributes:
        lines: Where everything is; a key's line for what has one.
    """

    def __init__(self, path: Path) -> None:
        self.lines: Lines = {(): 1}
        self._path = path
        self._faults: list[tuple[int, Fault]] = []
        # Where no value could be made, which is a fault already.
        self._refused: set[Location] = set()
        self._texts: dict[Location, str] = {}
        self._inside: list[yaml.Node] = []
        self._constructor = yaml.constructor.SafeConstructor()

    @property
    def faults(self) -> list[Fault]:
        """What keeps the file from being used, by line."""
        return [fault for _, fault in sorted(self._faults, key=itemgetter(0))]

    def read(self) -> object:
        """Return the file's plain value.

        Raises:
            OperatorFaults: It cannot be read, or is no YAML.
        """
        try:
            node = yaml.compose(self._path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
            value = None if node is None else self._value(node, ())
        except OSError as error:
            self._add(1, f"cannot be read: {error.strerror}", "check the path")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            self._add(line, f"is not UTF-8: {error.reason}", "save it as UTF-8")
        except yaml.reader.ReaderError as error:
            line = self._path.read_text(encoding="utf-8").count("\n", 0, error.position) + 1
            problem = f"a character that YAML does not allow: #x{error.character:04x}"
            self._add(line, f"is not YAML: {problem}", "remove it")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = error.problem or error.context or ""
            remedy = "indent with spaces, not tabs" if "\\t" in problem else "see https://yaml.org"
            self._add(mark.line + 1 if mark else 1, f"is not YAML: {problem}", remedy)
        except RecursionError:
            self._add(1, "is nested too deep", "nest less")
        else:
            return {} if value is None else value
        raise OperatorFaults(self.faults)

    def _value(self, node: yaml.Node, location: Location) -> object:
        """Return the plain value of a node and note the line of everything in it."""
        line = node.start_mark.line + 1
        self.lines.setdefault(location, line)
        if node in self._inside:
            self._add(line, "an alias stands for what it is in", "write it out")
            self._refused.add(location)
            return None
        self._inside.append(node)
        try:
            match node:
                case yaml.MappingNode(tag="tag:yaml.org,2002:map"):
                    return self._mapping(node, location)
                case yaml.SequenceNode(tag="tag:yaml.org,2002:seq"):
                    return [self._value(item, (*location, i)) for i, item in enumerate(node.value)]
                case yaml.ScalarNode(tag=tag, value=text) if tag in _SCALARS:
                    return self._scalar(node, location, text)
        finally:
            self._inside.pop()
        tag = node.tag.replace(_TAG, "!!")
        self._add(line, f"the tag {tag} is not known here", "write the value without it")
        self._refused.add(location)
        return None

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, object]:
        mapping: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._add(line, "a key is not text", "write a name")
                continue
            # As it is written: `on` and `1` are names too.
            key = key_node.value
            place = (*location, key)
            if key in mapping:
                earlier = f"on line {self.lines[place]}"
                self._add(
                    line, f"the key {key!r} is there already, {earlier}", "remove one of them"
                )
                continue
            self.lines[place] = line
            mapping[key] = self._value(value_node, place)
        return mapping

    def _scalar(self, node: yaml.ScalarNode, location: Location, text: str) -> object:
        self._texts[location] = text
        try:
            value: object = self._constructor.construct_object(node)
        except ValueError:
            # It looks like a date or number and is none.
            return text
        return value

    def add_faults(self, error: ValidationError, model: type[BaseModel]) -> None:
        """Add what the model did not like."""
        for detail in error.errors():
            location = detail["loc"]
            if location in self._refused:
                continue
            if location[-1:] == ("[key]",):
                location = location[:-1]
            place = location
            while place not in self.lines:
                place = place[:-1]
            name = ".".join(map(str, location)) or "the file"
            problem, remedy = self._explained(detail, location, model)
            self._add(self.lines[place], f"{name}{problem}", remedy)

    def _explained(
        self, detail: ErrorDetails, location: Location, model: type[BaseModel]
    ) -> tuple[str, str]:
        kind, value = detail["type"], detail["input"]
        if kind == "extra_forbidden":
            known = _known_names(model, location[:-1])
            close = get_close_matches(str(location[-1]), known, n=1)
            remedy = f"did you mean {close[0]}?" if close else f"known are: {', '.join(known)}"
            return " is not known here", remedy
        if kind == "value_error":
            return f": {detail['ctx']['error']}", f"got {in_short(value)}"
        if value is None:
            empty = "give it a value" if kind == "string_type" else "write {}"
            return " is empty", f"{empty}, or remove it"
        if kind == "string_type" and location in self._texts:
            return " is not text", f'put it in quotes: "{self._texts[location]}"'
        problem = _PROBLEMS.get(kind) or re.sub(r"^\w+ should ", "must ", detail["msg"])
        return f" {problem}", f"got {in_short(value)}"

    def _add(self, line: int, problem: str, remedy: str) -> None:
        self._faults.append((line, Fault(f"{self._path}:{line}", problem, remedy)))


def _known_names(model: type[BaseModel], location: Location) -> list[str]:
    """Return the property names at a location of a model, walking through maps of models."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            fields = {field.alias or key: field for key, field in current.model_fields.items()}
            current = fields[str(part)].annotation
        else:
            current = current.__args__[-1]
    assert isinstance(current, type)
    assert issubclass(current, BaseModel)
    return [field.alias or key for key, field in current.model_fields.items()]
