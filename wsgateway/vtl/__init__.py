"""Mapping templates: the Velocity Template Language as API Gateway runs it.

A template is compiled once and rendered for each message. Neither a template nor a message can make
that take long, take much memory, or reach anything but the values it is given.
"""

from wsgateway.vtl.errors import InvalidTemplate, TemplateFault
from wsgateway.vtl.template import Template, compile_template
from wsgateway.vtl.variables import UTIL, input_variable, mapping_variable

__all__ = [
    "UTIL",
    "InvalidTemplate",
    "Template",
    "TemplateFault",
    "compile_template",
    "input_variable",
    "mapping_variable",
]
