"""Templates as people deploy them, and what a backend gets of them."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

import pytest

from tests.vtl.rendering import render

CONNECTION_ID = "L0SM9cOFvHcCIhw="


def test_a_connection_is_put_into_a_table() -> None:
    template = """{
  "TableName": "${stageVariables.table}",
  "Item": {
    "connectionId": {"S": "$context.connectionId"},
    "sourceIp": {"S": "$context.identity.sourceIp"},
    "room": {"S": "$input.params('room')"},
    #if($input.params().header.get('User-Agent'))
    "agent": {"S": "$util.escapeJavaScript($input.params('User-Agent'))"},
    #end
    "at": {"N": "$context.requestTimeEpoch"}
  }
}"""

    rendered = render(
        template,
        "",
        querystring={"room": "lobby"},
        header={"User-Agent": 'a "browser"'},
        stage_variables={"table": "connections"},
    )

    assert (
        rendered
        == """{
  "TableName": "connections",
  "Item": {
    "connectionId": {"S": "L0SM9cOFvHcCIhw="},
    "sourceIp": {"S": "192.0.2.10"},
    "room": {"S": "lobby"},
        "agent": {"S": "a \\"browser\\""},
        "at": {"N": "1708326702790"}
  }
}"""
    )


def test_a_connection_is_deleted_from_a_table() -> None:
    template = (
        '{"TableName": "connections", "Key": {"connectionId": {"S": "$context.connectionId"}}}'
    )

    assert json.loads(render(template, "")) == {
        "TableName": "connections",
        "Key": {"connectionId": {"S": CONNECTION_ID}},
    }


def test_a_message_is_sent_to_a_queue() -> None:
    body = '{"text": "a&b=c d é \\"q\\" 100%"}'
    template = (
        "Action=SendMessage&MessageBody=$util.urlEncode($input.body)"
        "&MessageAttribute.1.Name=connectionId&MessageAttribute.1.Value.DataType=String"
        "&MessageAttribute.1.Value.StringValue=$util.urlEncode($context.connectionId)"
    )

    form = parse_qs(render(template, body), strict_parsing=True)

    assert form["MessageBody"] == [body]
    assert form["MessageAttribute.1.Value.StringValue"] == [CONNECTION_ID]


@pytest.mark.parametrize("escape", [r'''"\\'", "'"''', r"""'\\''', ''''"""])
def test_a_message_starts_an_execution(escape: str) -> None:
    body = {"text": 'it\'s "quoted" \\ a/b \n é 😀', "list": [1, 2.5, None, True]}
    template = (
        '#set($data = $util.escapeJavaScript($input.json("$")).replaceAll(' + escape + "))"
        '{"input": "$data", "stateMachineArn": "arn:aws:states:eu-west-1:123456789012:stateMachine:m"}'
    )

    request = json.loads(render(template, json.dumps(body)))

    assert json.loads(request["input"]) == body


def test_records_are_made_of_a_list() -> None:
    template = """{
  "StreamName": "stream",
  "Records": [
    #set($records = $input.path('$.records'))
    #foreach($record in $records)
    {"Data": "$util.base64Encode($record.data)", "PartitionKey": "$record.key"}#if($foreach.hasNext),#end

    #end
  ]
}"""
    body = '{"records": [{"data": "one", "key": "a"}, {"data": "two", "key": "b"}]}'

    assert json.loads(render(template, body)) == {
        "StreamName": "stream",
        "Records": [
            {"Data": "b25l", "PartitionKey": "a"},
            {"Data": "dHdv", "PartitionKey": "b"},
        ],
    }


def test_records_are_made_of_a_list_by_their_indexes() -> None:
    template = """[
#set($count = $input.path('$.records').size())
#if($count > 0)
#set($last = $count - 1)
#foreach($i in [0..$last])
#set($data = $util.base64Encode($input.json("$.records[${i}].data")))
{"Data": "$data"}#if($foreach.hasNext),#end
#end
#end
]"""

    assert json.loads(render(template, '{"records": [{"data": "one"}, {"data": {"n": 2}}]}')) == [
        {"Data": "Im9uZSI="},
        {"Data": "eyJuIjoyfQ=="},
    ]
    assert json.loads(render(template, '{"records": []}')) == []


def test_an_event_is_put_on_a_bus() -> None:
    template = """#set($detail = $util.escapeJavaScript($input.json('$.detail')).replaceAll("\\\\'", "'"))
#set($kind = $input.path('$.kind'))
{"Entries": [{"Source": "chat", "DetailType": "#if($kind && $kind != "")$kind#{else}unknown#end", "Detail": "$detail"}]}"""

    with_kind = json.loads(render(template, '{"kind": "joined", "detail": {"who": "o\'neill"}}'))
    without = json.loads(render(template, '{"detail": {}}'))

    assert with_kind["Entries"][0]["DetailType"] == "joined"
    assert json.loads(with_kind["Entries"][0]["Detail"]) == {"who": "o'neill"}
    assert without["Entries"][0]["DetailType"] == "unknown"


PASSTHROUGH = """#set($allParams = $input.params())
{
"body-json" : $input.json('$'),
"params" : {
#foreach($type in $allParams.keySet())
    #set($params = $allParams.get($type))
"$type" : {
    #foreach($paramName in $params.keySet())
    "$paramName" : "$util.escapeJavaScript($params.get($paramName))"
        #if($foreach.hasNext),#end
    #end
}
    #if($foreach.hasNext),#end
#end
},
"stage-variables" : {
#foreach($key in $stageVariables.keySet())
"$key" : "$util.escapeJavaScript($stageVariables.get($key))"
    #if($foreach.hasNext),#end
#end
},
"context" : {
    "stage" : "$context.stage",
    "source-ip" : "$context.identity.sourceIp",
    "user" : "$context.identity.user",
    "authorizer-principal-id" : "$context.authorizer.principalId",
    "cognito-authentication-type" : "$context.identity.cognitoAuthenticationType"
    }
}
"""


def test_everything_is_passed_through() -> None:
    rendered = render(
        PASSTHROUGH,
        '{"a": [1]}',
        querystring={"q": "1", "r": "2"},
        header={"Host": "x"},
        stage_variables={"v": "w"},
    )

    assert json.loads(rendered) == {
        "body-json": {"a": [1]},
        "params": {
            "path": {},
            "querystring": {"q": "1", "r": "2"},
            "header": {"Host": "x"},
        },
        "stage-variables": {"v": "w"},
        "context": {
            "stage": "",
            "source-ip": "192.0.2.10",
            "user": "",
            "authorizer-principal-id": "ann",
            "cognito-authentication-type": "",
        },
    }


def test_a_definition_is_used_for_several_maps() -> None:
    template = """#define($loop)
{#foreach($key in $map.keySet())"$key": "$map.get($key)"#if($foreach.hasNext), #end#end}#end
#set($map = $context.identity)
{"identity": $loop,
#set($map = $context.authorizer)
"authorizer": $loop}"""

    assert json.loads(render(template)) == {
        "identity": {"sourceIp": "192.0.2.10", "userAgent": ""},
        "authorizer": {"principalId": "ann", "count": "1"},
    }


def test_a_mock_selects_its_status() -> None:
    template = '#set($ok = $input.path("$.n") == 1){"statusCode": #if($ok)200#{else}400#end}'

    assert render(template, '{"n": 1}') == '{"statusCode": 200}'
    assert render(template, '{"n": 2}') == '{"statusCode": 400}'


def test_a_map_is_filled_and_printed() -> None:
    template = """#set($seen = {})
#foreach($user in $input.path('$.users'))
#if(!$seen.containsKey($user.name))
#set($ignored = $seen.put($user.name, $user.age))
#end
#end
$seen"""
    body = '{"users": [{"name": "ann", "age": 5}, {"name": "bob"}, {"name": "ann", "age": 6}]}'

    assert render(template, body) == "{ann=5, bob=null}"
