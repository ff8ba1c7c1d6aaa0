"""`$input`, `$util`, `$context` and `$stageVariables`: the tables of the developer guide, and more."""

from __future__ import annotations

import json

import pytest

from tests.vtl.rendering import CONTEXT, render
from wsgateway.vtl import TemplateFault, compile_template, input_variable

BODY = '{"action": "join", "n": 1, "room": {"name": "r/1", "users": ["ann", "bob"]}, "nil": null}'


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("$input.body", BODY),
        ("$input.getBody()", BODY),
        ("$input.json('$.action')", '"join"'),
        ("$input.json('$.n')", "1"),
        ("$input.json('$.nil')", "null"),
        ("$input.json('$.room')", '{"name":"r/1","users":["ann","bob"]}'),
        ("$input.json('$')", '{"action":"join","n":1,"room":{"name":"r/1","users":["ann","bob"]},"nil":null}'),
        ("$input.json('$.room.users[*]')", '["ann","bob"]'),
        ("$input.json('$..name')", '["r/1"]'),
        ("$input.json('$..nope')", "[]"),
        ("$input.json('$.nope')", '""'),
        ("$input.path('$.action')", "join"),
        ("$input.path('$.room').name", "r/1"),
        ("$input.path('$.room.users').size()", "2"),
        ("$input.path('$.room.users')[0]", "ann"),
        ("$input.path('$.room.users').get(1)", "bob"),
        ("$input.path('$').room.users[1]", "bob"),
        ("#foreach($u in $input.path('$.room.users'))$u#if($foreach.hasNext),#end#end", "ann,bob"),
        ("#set($r = $input.path('$'))$r.keySet() $r.room.size() $r.n", "[action, n, room, nil] 2 1"),
        # An object prints as Java's, a list of the message as JSON, as json-smart writes it.
        ("$input.path('$.room')", r'{name=r/1, users=["ann","bob"]}'),
        ("$input.path('$.room.users')", '["ann","bob"]'),
        ("$input.path('$.nope')|$input.path('$.nope').x|$input.path('$.nil')|", "|||"),
        ("#if($input.path('$.nope'))a#{else}b#end", "b"),
        ("$input.params('nope')|$input.nope|$input.nope()|", "|||"),
    ],
)  # fmt: skip
def test_input(template: str, output: str) -> None:
    assert render(template, BODY) == output


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("$input.params()", "{path={p=1}, querystring={q=2, both=3}, header={Host=x, both=4}}"),
        ("$input.params().path.p $input.params().get('querystring').q", "1 2"),
        ("$input.params().get('header')", "{Host=x, both=4}"),
        ("$input.params().get('header').get('Host') $input.params().header.Host", "x x"),
        ("$input.params('p') $input.params('q') $input.params('Host')", "1 2 x"),
        ("$input.params('both')", "3"),
        ("[$input.params('nope')]", "[]"),
        ("$input.params().keySet() $input.params().size()", "[path, querystring, header] 3"),
        ("#foreach($k in $input.params().querystring.keySet())$k#end", "qboth"),
        ("#foreach($e in $input.params().header.entrySet())$e.key=$e.value #end", "Host=x both=4 "),
        ("#foreach($v in $input.params().header)$v#end", "x4"),
        ("$input.params().header.containsKey('Host') $input.params().header.isEmpty()", "true false"),
        ("$input.params().header.values() $input.params().header.toString()", "[x, 4] {Host=x, both=4}"),
        ("$input.params().header.nope|$input.params().nope.nope|", "||"),
    ],
)  # fmt: skip
def test_parameters(template: str, output: str) -> None:
    rendered = render(
        template,
        path={"p": "1"},
        querystring={"q": "2", "both": "3"},
        header={"Host": "x", "both": "4"},
    )

    assert rendered == output


@pytest.mark.parametrize(
    ("body", "template", "output"),
    [
        ("", "$input.body $input.json('$') $input.path('$').size() $input.json('$.a')", '{} {} 0 ""'),
        ("ping", "$input.body $input.json('$') $input.path('$') $input.json('$.a')", 'ping "ping" ping ""'),
        ("{'a': 1}", "$input.json('$')", "\"{'a': 1}\""),
        ("[1, 2]", "$input.json('$') $input.path('$[1]') $input.path('$').size()", "[1,2] 2 2"),
        ('"x"', "$input.json('$') $input.path('$')", '"x" x'),
        ("5", "$input.json('$') $input.path('$')", "5 5"),
        ("null", "$input.json('$') [$input.path('$')]", "null []"),
        ("[12345678901234567890]", "$input.path('$[0]')", "12345678901234567890"),
        ('{"t": "é\\n"}', "$input.json('$.t')$input.path('$.t')", '"é\\n"é\n'),
        ('["\\u0001/\\"\\\\\\n\\u0085é"]', "$input.path('$')", r'["\u0001\/\"\\\n\u0085é"]'),
        ('[{"a": [1.0, true, null]}]', "$input.path('$')", '[{"a":[1.0,true,null]}]'),
    ],
)  # fmt: skip
def test_bodies_that_are_no_objects(body: str, template: str, output: str) -> None:
    assert render(template, body) == output


def test_the_parser_of_the_body_can_be_chosen_and_runs_only_for_paths() -> None:
    parsed: list[str] = []

    def parse(text: str) -> object:
        parsed.append(text)
        return {"digits": 12345678901234567890, "half": "\ud83d"}

    def rendered(template: str) -> str:
        input_ = input_variable("x", path={}, querystring={}, header={}, parse=parse)
        return compile_template(template).render({"input": input_})

    assert rendered("$input.body") == "x"
    assert parsed == []
    assert rendered("$input.path('$.digits')$input.path('$.digits')") == "12345678901234567890" * 2
    assert parsed == ["x"]
    assert rendered("$input.json('$')") == '{"digits":12345678901234567890,"half":"\ud83d"}'


def test_what_a_template_does_to_the_body_does_not_show_in_its_json() -> None:
    template = "#set($r = $input.path('$'))#set($r.a = 2)$r $input.path('$.a') $input.json('$')"

    assert render(template, '{"a": 1}') == '{a=2} 2 {"a":1}'


def test_an_integer_keeps_its_digits_however_many() -> None:
    input_ = input_variable("x", path={}, querystring={}, header={}, parse=lambda _text: 10**4000)
    template = compile_template("$input.path('$')|$input.json('$')")

    assert template.render({"input": input_}) == f"{10**4000}|{10**4000}"


def test_what_has_no_json_fails() -> None:
    input_ = input_variable("x", path={}, querystring={}, header={}, parse=lambda _text: {1})

    with pytest.raises(TemplateFault, match="this value has no JSON"):
        compile_template("$input.json('$')").render({"input": input_})


@pytest.mark.parametrize(
    ("call", "output"),
    [
        ("$util.escapeJavaScript('it''s')", r"it\'s"),
        ("$util.escapeJavaScript('say \"hi\"')", r"say \"hi\""),
        ("$util.escapeJavaScript('a/b\\c')", r"a\/b\\c"),
        ("$util.escapeJavaScript($lines)", r"\n\r\t\b\f\u0001\u001F"),
        ("$util.escapeJavaScript('é €😀 ~')", r"\u00E9 \u20AC\uD83D\uDE00 ~"),
        ("$util.escapeJavaScript('\\u00e9')", r"\\u00e9"),
        ("$util.escapeJavaScript(5) $util.escapeJavaScript(true)", "5 true"),
        ("[$util.escapeJavaScript('')] [$util.escapeJavaScript($foo)]", "[] []"),
        ("$util.parseJson('{\"a\":[1,{\"b\":null}],\"c\":1.0}')", '{a=[1,{"b":null}], c=1.0}'),
        ("$util.parseJson('{\"a\":{\"b\":3}}').a.b $util.parseJson('[1,\"x\"]')[1]", "3 x"),
        ("$util.parseJson('\"s\"') $util.parseJson('5') $util.parseJson('true')", "s 5 true"),
        ("$util.urlEncode('a b&c=d/é*~-_.+%')", "a+b%26c%3Dd%2F%C3%A9*%7E-_.%2B%25"),
        ("$util.urlEncode(5) [$util.urlEncode($foo)]", "5 []"),
        ("$util.urlDecode('a+b%26%C3%A9%2B')", "a b&é+"),
        ("$util.urlDecode('%FF')", "\N{REPLACEMENT CHARACTER}"),
        ("$util.base64Encode('é?>')", "w6k/Pg=="),
        ("$util.base64Encode(5) [$util.base64Encode($foo)]", "NQ== []"),
        ("$util.base64Decode('w6k/Pg==') $util.base64Decode('aGk')", "é?> hi"),
        ("$util.base64Decode('/w==')", "\N{REPLACEMENT CHARACTER}"),
        ("[$util.nope] [$util.nope('x')] [$util]", "[] [] []"),
    ],
)  # fmt: skip
def test_util(call: str, output: str) -> None:
    prefix = "#set($lines = $input.path('$'))"

    assert render(prefix + call, json.dumps("\n\r\t\b\f\x01\x1f")) == output


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("$util.parseJson('{a}')", "$util.parseJson was given what is not JSON"),
        ("$util.urlDecode('100%')", "$util.urlDecode was given a % that begins no escape"),
        ("$util.urlDecode('%zz')", "$util.urlDecode was given a % that begins no escape"),
        ("$util.base64Decode('a*b')", "$util.base64Decode was given what is not base64"),
        ("$util.base64Decode('a')", "$util.base64Decode was given what is not base64"),
        ("$util.base64Decode('é')", "$util.base64Decode was given what is not base64"),
    ],
)
def test_what_util_cannot_read_fails(call: str, problem: str) -> None:
    with pytest.raises(TemplateFault) as caught:
        render(call)

    assert caught.value.problem == problem


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("$context.connectionId ${context.eventType}", "L0SM9cOFvHcCIhw= MESSAGE"),
        ("$context.requestTimeEpoch", "1708326702790"),
        ("$context.identity.sourceIp $context.get('identity').sourceIp", "192.0.2.10 192.0.2.10"),
        ("$context.authorizer.principalId $context['authorizer']['count']", "ann 1"),
        ("[$context.identity.userAgent]", "[]"),
        # What it does not name prints as nothing, however it is written.
        ("[$context.nope] [${context.nope}] [$!context.nope] [$context.nope.nope]", "[] [] [] []"),
        ("[$context.identity.nope] [$context.authorizer.nope]", "[] []"),
        ("[$context.nope()] [$context['nope']] [$context.get('nope')]", "[] [] []"),
        ('"x$context.nope"', '"x"'),
        ("#if($context.nope)a#{else}b#end", "b"),
        ("#if($context.eventType == 'MESSAGE')a#end", "a"),
        ("$context.identity", "{sourceIp=192.0.2.10, userAgent=}"),
        ("#set($a = $context.authorizer)#foreach($k in $a.keySet())$k=$a.get($k);#end", "principalId=ann;count=1;"),
        ("#set($x = $context)$x.connectionId [$x.nope]", "L0SM9cOFvHcCIhw= []"),
        ("#set($x = $context.connectionId)$x.length()", "16"),
        ("$context.identity.values() $context.authorizer.containsKey('count')", "[192.0.2.10, ] true"),
    ],
)  # fmt: skip
def test_context(template: str, output: str) -> None:
    assert render(template) == output


def test_context_cannot_be_changed() -> None:
    before = json.dumps(CONTEXT)

    with pytest.raises(TemplateFault, match="line 1: this variable of the gateway cannot be"):
        render("#set($context.identity.sourceIp = 'x')")
    assert render("$context.put('a', 1)$context.identity.put('sourceIp', 'x')") == ""
    assert json.dumps(CONTEXT) == before


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("$stageVariables.table", "rooms"),
        ("${stageVariables.table}-x", "rooms-x"),
        ("$stageVariables['table']", "rooms"),
        ("${stageVariables['table']}", "rooms"),
        ("$stageVariables.get('table')", "rooms"),
        ("[$stageVariables.nope] [$stageVariables['nope']]", "[] []"),
        ("$stageVariables", "{table=rooms}"),
        ("#foreach($k in $stageVariables.keySet())$k#end", "table"),
    ],
)
def test_stage_variables(template: str, output: str) -> None:
    assert render(template, stage_variables={"table": "rooms"}) == output
