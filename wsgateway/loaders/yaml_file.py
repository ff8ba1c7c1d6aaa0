"""Definition files: YAML or JSON with the line of every value, so that a fault can name its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from json import JSONDecodeError
from operator import itemgetter
from reprlib import repr as in_short
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from wsgateway.errors import Fault, OperatorFaults
from wsgateway.loaders.json_nodes import compose_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]
Lines = dict[Location, int]
Model = TypeVar("Model", bound=BaseModel)

_PREDICATE = re.compile(r"(?:is|are|has|means|belongs|refers) ")
# An alias may stand for much, and again for much of that.
_VALUES_MAX = 100_000
_TAG = "tag:yaml.org,2002:"
_SCALARS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp"))
_PROBLEMS = {
    "model_type": "is not a mapping",
    "dict_type": "is not a mapping",
    "string_type": "is not text",
    "string_unicode": "is not UTF-8",
}


@dataclass(frozen=True, slots=True)
class Read(Generic[Model]):
    """What a file says.

    Attributes:
        definition: What it declares, but for what is at fault.
        at_fault: Where something is at fault, and was left out.
        faults: What is wrong, with the line of each.
    """

    path: Path
    definition: Model
    at_fault: frozenset[Location]
    faults: list[tuple[int, Fault]]
    lines: Lines

    def line(self, location: Location) -> int:
        """Return the line of a place, or of what it would be in."""
        while location not in self.lines:
            location = location[:-1]
        return self.lines[location]

    def fault(self, location: Location, problem: str, remedy: str) -> tuple[int, Fault]:
        """Return a fault of a place, with its line."""
        line = self.line(location)
        return line, _fault(self.path, line, f"{_told(location)}{_joined(problem)}", remedy)


def load_definition(path: Path, model: type[Model]) -> tuple[Model, Lines]:
    """Read a file into a pydantic model.

    Returns:
        What it declares, and the line of everything in it.

    Raises:
        OperatorFaults: It cannot be read, is no YAML, or does not fit the model; with all faults.
    """
    read = read_definition(path, model)
    if read.faults:
        raise OperatorFaults(by_line(read.faults))
    return read.definition, read.lines


def read_definition(path: Path, model: type[Model]) -> Read[Model]:
    """Read a file into a pydantic model, so far as it fits.

    What does not fit is left out with the entry that it is in: a route, an integration.

    Raises:
        OperatorFaults: It cannot be read, or is no YAML.
    """
    reader = _Reader(path)
    value = reader.read()
    refused = [location[:2] for location in reader.refused]
    try:
        definition = model.model_validate(value)
    except ValidationError as error:
        reader.add_faults(error, model)
        refused += [_entry(detail["loc"]) for detail in error.errors()]
        definition = _rest(value, refused, model)
    return Read(path, definition, frozenset(refused), reader.faults, reader.lines)


def by_line(faults: Iterable[tuple[int, Fault]]) -> list[Fault]:
    """Return faults in the order of their lines."""
    return [fault for _, fault in sorted(faults, key=itemgetter(0))]


def _entry(location: Location) -> Location:
    return location[:2] if location[1:2] != ("[key]",) else location[:1]


def _rest(value: object, refused: Iterable[Location], model: type[Model]) -> Model:
    """Return what is left when what does not fit is taken out."""
    if not isinstance(value, dict):
        return model()
    rest = {
        name: dict(section) if isinstance(section, dict) else section
        for name, section in value.items()
    }
    for name, *entry in refused:
        section = rest.get(str(name))
        if entry and isinstance(section, dict):
            section.pop(entry[0], None)
        else:
            rest.pop(str(name), None)
    try:
        return model.model_validate(rest)
    # A rule of a whole section, such as how many entries it may have.
    except ValidationError:
        return model()


def _told(location: Location) -> str:
    return ".".join(str(part) or "''" for part in location) or "the file"


def _fault(path: Path, line: int, problem: str, remedy: str) -> Fault:
    """Return a fault that stays on its line and cannot steer a terminal, whatever it quotes."""
    return Fault(f"{path}:{line}", printable(problem), printable(remedy))


def printable(text: str) -> str:
    """Return a text with escapes for what is no visible character."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _joined(problem: str) -> str:
    """Return what follows a property's name: the rest of a sentence, or a sentence of its own."""
    return f" {problem}" if _PREDICATE.match(problem) else f": {problem}"


class _Reader:
    """Reads one file.

    Attributes:
        lines: Where everything is; a key's line for what has one.
        refused: Where no value could be made, which is a fault already.
        faults: What keeps the file from being used, with its line.
    """

    def __init__(self, path: Path) -> None:
        self.lines: Lines = {(): 1}
        self.refused: set[Location] = set()
        self.faults: list[tuple[int, Fault]] = []
        self._path = path
        self._texts: dict[Location, str] = {}
        self._inside: list[yaml.Node] = []
        self._values = 0
        self._constructor = yaml.constructor.SafeConstructor()

    def read(self) -> object:
        """Return the file's plain value.

        Raises:
            OperatorFaults: It cannot be read, or is no YAML.
        """
        try:
            node = self._node(self._path.read_text(encoding="utf-8"))
            value = None if node is None else self._value(node, ())
        except OSError as error:
            self._add(1, f"cannot be read: {error.strerror}", "check the path")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            self._add(line, f"is not UTF-8: {error.reason}", "save it as UTF-8")
        except JSONDecodeError as error:
            problem = error.msg[0].lower() + error.msg[1:]
            self._add(error.lineno, f"is not JSON: {problem}", "see https://json.org")
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
        except _TooManyValuesError:
            self._add(1, f"has more than {_VALUES_MAX} values", "use fewer aliases")
        else:
            return {} if value is None else value
        raise OperatorFaults(by_line(self.faults))

    def _node(self, text: str) -> yaml.Node | None:
        if self._path.suffix == ".json":
            return compose_json(text)
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        return node

    def _value(self, node: yaml.Node, location: Location) -> object:
        """Return the plain value of a node and note the line of everything in it."""
        self._values += 1
        if self._values > _VALUES_MAX:
            raise _TooManyValuesError
        line = node.start_mark.line + 1
        self.lines.setdefault(location, line)
        if node in self._inside:
            self._add(line, "an alias stands for what it is in", "write it out")
            self.refused.add(location)
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
        self.refused.add(location)
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
        except (ValueError, OverflowError):
            # It looks like a date or number and is none.
            return text
        return value

    def add_faults(self, error: ValidationError, model: type[BaseModel]) -> None:
        """Add what the model did not like."""
        for detail in error.errors():
            location = detail["loc"]
            if location in self.refused:
                continue
            if location[-1:] == ("[key]",):
                location = location[:-1]
            place = location
            while place not in self.lines:
                place = place[:-1]
            problem, remedy = self._explained(detail, location, model)
            self._add(self.lines[place], f"{_told(location)}{problem}", remedy)

    def _explained(
        self, detail: ErrorDetails, location: Location, model: type[BaseModel]
    ) -> tuple[str, str]:
        kind, value = detail["type"], detail["input"]
        if kind == "extra_forbidden":
            return _unknown(_declaring(model, location[:-1]), str(location[-1]))
        if kind == "missing":
            return " is missing", _example(_declaring(model, location[:-1]), str(location[-1]))
        if kind == "value_error":
            error = detail["ctx"]["error"]
            remedy = getattr(error, "remedy", None)
            return _joined(
                str(getattr(error, "problem", error))
            ), remedy or f"got {in_short(value)}"
        if value is None:
            empty = "give it a value" if kind == "string_type" else "write {}"
            return " is empty", f"{empty}, or remove it"
        text = self._texts.get(location)
        if text is not None and not isinstance(value, str) and self._wants(detail, text):
            return " is not text", f'put it in quotes: "{text}"'
        problem = _PROBLEMS.get(kind) or re.sub(r"^\w+ should ", "must ", detail["msg"])
        return f" {problem}", f"got {in_short(value)}"

    @staticmethod
    def _wants(detail: ErrorDetails, text: str) -> bool:
        """Whether a value that YAML took for something else would be right as text."""
        if detail["type"] == "string_type":
            return True
        # `loggingLevel: OFF` is a boolean to YAML, `payloadFormatVersion: 1.0` a number.
        return detail["type"] in {"literal_error", "enum"} and repr(text) in detail["msg"]

    def _add(self, line: int, problem: str, remedy: str) -> None:
        self.faults.append((line, _fault(self._path, line, problem, remedy)))


class _TooManyValuesError(Exception):
    """Aliases make more of a file than is read."""


def _unknown(declaring: type[BaseModel], name: str) -> tuple[str, str]:
    why: tuple[str, str] | None = getattr(declaring, "not_declared", {}).get(name)
    if why is not None:
        return _joined(why[0]), why[1]
    known = [field.alias or key for key, field in declaring.model_fields.items()]
    if not known:
        return " is not known here", "there is nothing to declare here yet"
    close = get_close_matches(name, known, n=1)
    return (
        " is not known here",
        f"did you mean {close[0]}?" if close else f"known are: {', '.join(known)}",
    )


def _example(declaring: type[BaseModel], name: str) -> str:
    fields = {field.alias or key: field for key, field in declaring.model_fields.items()}
    examples = fields[name].examples if name in fields else None
    return f"write one such as {name}: {_flow(examples[0])}" if examples else f"write {name}"


def _flow(value: object) -> str:
    """Return a value as one line of YAML."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.removesuffix("...\n").strip()


def _declaring(model: type[BaseModel], location: Location) -> type[BaseModel]:
    """Return the model at a location, walking through maps of models."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            fields = {field.alias or key: field for key, field in current.model_fields.items()}
            current = fields[str(part)].annotation
        else:
            current = current.__args__[-1]
    assert isinstance(current, type)
    assert issubclass(current, BaseModel)
    return current
