"""What does a JSONPath find in a value, as Jayway's Java library finds it for API Gateway?

A path is definite when it can name one value only; it then finds that value, or `MISSING`. Any
other finds a list, in the document's order. Several names at the very end find an object of those
members that exist.

This is not RFC 9535, nor what Python's libraries for it do: Jayway takes almost any character in
a name without quotes, returns values instead of lists, and merges names into an object. Nor can
those libraries be bounded from outside: what they visit in vain they do not tell. Functions but
for `length()` and `size()`, and the regular expressions of filters, are refused.
https://github.com/json-path/JsonPath
"""

from wsgateway.json_path.parser import PATH_SIZE_MAX, InvalidPath, compile_path
from wsgateway.json_path.steps import MISSING, VISITS_MAX, CostlyPath, JsonPath, Visits

__all__ = [
    "MISSING",
    "PATH_SIZE_MAX",
    "VISITS_MAX",
    "CostlyPath",
    "InvalidPath",
    "JsonPath",
    "Visits",
    "compile_path",
]
