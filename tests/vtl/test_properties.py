"""What holds for every template and every message."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings, strategies as st

from tests.vtl.rendering import variables
from wsgateway.vtl import InvalidTemplate, TemplateFault, compile_template

any_text = st.text(st.characters(exclude_categories=()))
FRAGMENTS = r"""# $ \ ! { } [ ] ( ) " ' , . : = == != < > <= >= && || + - * / % .. ## #* *# #[[ ]]# 0 1
-1 2.5 1e5 .5 9999999999 true false null and or not eq a b i x _ __class__ é 😀
#set( #set($x= #set($l=[ #set($m={ ) #if( #if($x) #if($x==1) #elseif( #else #end #{end} #{else}
#foreach(   #break #stop #define($d) $d
#macro(m) #m() #evaluate( $x $!x ${x} ${ $i $l $m $foreach.hasNext $foreach.parent.index
$l[0] $l[-9] $m["a"] .a .b() .size() .get(0) .get("a") .put("a",$x) .add($l) .addAll($l)
.remove(0) .keySet() .entrySet() .values() .toString() .length() .substring(1) .substring(0,2)
.replaceAll("[a-z]*","$0") .replaceAll("(","") .split("") .matches(".*") .equals($l)
.indexOf("a") .charAt(0) .hashCode() .intValue() .compareTo(1)
$input.body $input.json('$') $input.path('$') $input.path('$..*') $input.path("$x")
$input.params() $input.params('a') $util.escapeJavaScript($x) $util.parseJson($x)
$util.urlEncode($x) $util.urlDecode($x) $util.base64Encode($x) $util.base64Decode($x)
$context $context.identity $context.nope $stageVariables.a "$x" '$x' "a""b" [1,2] {"a":1}
"""
WITH_BLANKS = ("#foreach($i in $l)", "#foreach($i in [1..9])", " ", "\n", "\t", "\ud83d")
fragments = st.sampled_from([*FRAGMENTS.split(), *WITH_BLANKS])
templates = st.lists(fragments | any_text, max_size=30).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abx") | any_text, inner),
    max_leaves=10,
)
# What the default parser reads exactly.
simple_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
bodies = any_text | values.map(json.dumps)


@pytest.mark.slow
@settings(deadline=None, max_examples=400)
@given(templates, bodies, st.booleans())
@example("#set($l=[1])$l.add($l)$l", "", False)
@example('#set($x="' * 40, "", False)
@example("$input.json('$')$input.path('$')", "[" * 100000, False)
@example("$input.json('$')$input.path('$')", "[" * 900 + "]" * 900, True)
def test_a_template_compiles_or_is_refused_and_renders_or_fails(
    template: str, body: str, is_lenient: bool
) -> None:
    try:
        compiled = compile_template(template, is_lenient=is_lenient)
    except InvalidTemplate:
        return
    try:
        rendered = compiled.render(variables(body, stage_variables={"a": "b"}))
    except TemplateFault:
        return
    assert rendered == compiled.render(variables(body, stage_variables={"a": "b"}))


@given(st.text(st.characters(exclude_characters="$#\\")))
def test_text_without_references_stays_as_it_is(text: str) -> None:
    assert compile_template(text).render({}) == text


@pytest.mark.slow
@given(simple_values)
def test_the_json_of_the_body_says_the_same(value: object) -> None:
    rendered = compile_template("$input.json('$')").render(variables(json.dumps(value)))

    assert json.loads(rendered) == value


@pytest.mark.slow
@given(values)
def test_an_escaped_body_is_what_it_was(value: object) -> None:
    body = json.dumps(value)
    template = '{"b": "$util.escapeJavaScript($input.body).replaceAll("\\\\\'", "\'")"}'

    assert json.loads(compile_template(template).render(variables(body)))["b"] == body


@given(st.text())
def test_encodings_can_be_read_back(text: str) -> None:
    template = compile_template(
        "$util.urlDecode($util.urlEncode($x))|$util.base64Decode($util.base64Encode($x))"
    )

    assert template.render({**variables(), "x": text}) == f"{text}|{text}"
