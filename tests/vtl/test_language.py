"""The language: what references, directives and expressions make, as Velocity 1.7 makes it."""

from __future__ import annotations

import pickle
import sys
from contextlib import suppress

import pytest

from tests.vtl.rendering import render, variables
from wsgateway.vtl import TemplateFault, compile_template


@pytest.mark.parametrize(
    ("template", "output"),
    [
        (
            "$foo ${foo} $foo.bar ${foo.bar} $foo.bar(1) $foo[0]",
            "$foo ${foo} $foo.bar ${foo.bar} $foo.bar(1) $foo[0]",
        ),
        ("$!foo|$!{foo}|$!foo.bar|$!{foo.bar()}|$!foo[0]", "||||"),
        ("#set($foo = 'x')$foo ${foo}y $!foo $!{foo}y $foo.bar $!foo.bar|", "x xy x xy $foo.bar |"),
        (
            '#set($m = {"a": {"b": [1, 2]}})$m.a.b[1] ${m.a.b[1]}0 $m["a"].b.get(0) $m.get("a").get("b").size()',
            "2 20 1 2",
        ),
        ("#set($l = [1, 2])$l[-1]", "2"),
        ("#set($m = {'a b': 1})$m['a b'] $m[\"a b\"] $m['c']", "1 1 $m['c']"),
        ("#set($k = 'a')#set($m = {'a': 1})$m[$k] $m[\"$k\"] $m.get($k)", "1 1 1"),
    ],
)
def test_references(template: str, output: str) -> None:
    assert render(template) == output


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("Hello $name", "Hello "),
        ("$foo.bar ${foo.bar()} $!foo|", "  |"),
        ("#if($foo)yes#end", "yes"),
        ("#if(!$foo)yes#end", ""),
        ('#if($foo == "")yes#end', "yes"),
        ("#if($input.path('$.a'))yes#end", "yes"),
        ("#if($input.path('$.a') != '')yes#end", ""),
        ("#set($m = {})$m.put('k', 1)$m.put('k', 2)", "1"),
        ("#set($x = 1)#set($x = $foo)[$x]", "[]"),
        ('#set($m = {})#set($m["$key"] = "foo")$m', "{=foo}"),
        ('#set($x = "a$foo")$x', "a"),
        ("#foreach($x in $foo)x#end", ""),
        ("#if(true && $foo.a.b)yes#end", "yes"),
    ],
)
def test_leniently_what_has_no_value_is_the_empty_text(template: str, output: str) -> None:
    assert render(template, is_lenient=True) == output


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("#set($x = 1)$x", "1"),
        ("#set ( $x  =  'a' )$x", "a"),
        ("#{set}($x = 1)$x", "1"),
        ("#set($x\n=\n1\n)$x", "1"),
        ("#set($x = true)$x #set($x = !$x)$x", "truefalse"),
        ("#set($x = 'a')#set($x = $foo)#set($x = null)$x", "a"),
        (
            "#set($m = {})#set($m.a = 1)#set($m['b'] = 2)#set($m.c = {})#set($m.c.d = 3)$m",
            "{a=1, b=2, c={d=3}}",
        ),
        ("#set($l = [1, 2])#set($l[0] = 'x')#set($l[-1] = 'y')$l", "[x, y]"),
        ("#set($foo.bar = 1)#set($s = 'a')#set($s.x = 1)#set($s.length() = 1)$foo $s", "$foo a"),
    ],
)
def test_set(template: str, output: str) -> None:
    assert render(template) == output


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("#if(true)a#end#if(false)b#end", "a"),
        ("#if($foo)a#{else}b#end", "b"),
        ("#if($foo == 1)a#elseif(2 > 1)b#{else}c#end", "b"),
        ("#if(false)a#elseif(false)b#elseif(true)c#end", "c"),
        ("#if (true)a#{end}b", "ab"),
        # A reference holds unless it is false or has no value.
        ("#set($x = '')#if($x)a#end#set($x = 0)#if($x)b#end#set($x = [])#if($x)c#end", "abc"),
        ("#set($x = false)#if($x)a#end#if(!$x)b#end#if($foo.bar)c#end#if(!$foo)d#end", "bd"),
        # No other value but a boolean does.
        ("#if('a')a#end#if(1)b#end#if([1])c#end#if(1 + 1)d#end#if(!'a')e#end#if({})f#end", "e"),
        ("#if((true))a#end#if(($foo))b#end#if(!!true)c#end#if(not false)d#end", "acd"),
        ("#set($x = 1)#if($x && !$foo)a#end#if($foo || $x)b#end#if($foo or $foo)c#end", "ab"),
        ("#if(false || true && false)a#end#if(!false && !false)b#end#if(true and true)c#end", "bc"),
    ],
)
def test_if(template: str, output: str) -> None:
    assert render(template) == output


def test_what_follows_a_decided_condition_is_not_evaluated() -> None:
    once = "#set($m = {})#if({0} $m.put('a', 1))#end$m"

    assert render(once.replace("{0}", "false &&")) == "{}"
    assert render(once.replace("{0}", "true ||")) == "{}"
    assert render(once.replace("{0}", "true &&")) == "{a=1}"


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("1 == 1", "true"),
        ("1 == 1.0", "true"),
        ('1 == "1"', "true"),
        ('true == "true"', "true"),
        ('"a" == "a"', "true"),
        ("[1] == [1]", "true"),
        ("[1, 2] == [2, 1]", "false"),
        ("{'a': [1]} == {'a': [1]}", "true"),
        ("[1] == '[1]'", "true"),
        ("$foo == $bar", "true"),
        ("$foo == 1", "false"),
        ("$foo != 1", "true"),
        ("1 != 2", "true"),
        ("1 < 2", "true"),
        ("2 <= 2", "true"),
        ("2.5 > 2", "true"),
        ("1 >= 2", "false"),
        ('"a" < "b"', "false"),
        ('"b" > "a"', "false"),
        ("$foo < 1", "false"),
        ("true > false", "false"),
        ("1 eq 1", "true"),
        ("1 ne 1", "false"),
        ("1 lt 2", "true"),
        ("1 le 1", "true"),
        ("1 gt 2", "false"),
        ("1 ge 2", "false"),
        ("1 + 1 == 2", "true"),
        ("1 == 1 == true", "true"),
        ("1 < 2 == true", "true"),
    ],
)
def test_comparisons(template: str, output: str) -> None:
    assert render(f"#set($x = {template})$x") == output


@pytest.mark.parametrize(
    ("expression", "output"),
    [
        ("1 + 2 * 3 - 4", "3"),
        ("(1 + 2) * 3", "9"),
        ("10 - 3 - 2", "5"),
        ("2 * 3 % 4", "2"),
        ("5 / 2", "2"),
        ("-5 / 2", "-2"),
        ("5 % 3", "2"),
        ("-5 % 3", "-2"),
        ("7 % -3", "1"),
        ("-7.5 % 2", "-1.5"),
        ("5.0 / 2", "2.5"),
        ("7 / 2.0", "3.5"),
        ("1.0 * 3", "3.0"),
        (".5 * .1", "0.05"),
        ("0.1 + 0.2", "0.30000000000000004"),
        ("5 -1", "4"),
        ("2147483647 + 1", "2147483648"),
        ("9223372036854775807 + 1", "9223372036854775808"),
        ("1e2", "100.0"),
        ("10000000.0", "1.0E7"),
        ("9999999.5", "9999999.5"),
        ("123456789.125", "1.23456789125E8"),
        ("0.001", "0.001"),
        ("0.00099", "9.9E-4"),
        ("-0.00001", "-1.0E-5"),
        ("1.0e300 * 1.0e300", "Infinity"),
        ("-1.0e300 * 1.0e300", "-Infinity"),
        ("1.0e300 * 1.0e300 * 0", "NaN"),
        ('"a" + 1 + 2', "a12"),
        ('1 + 2 + "a"', "3a"),
        ('"a" + [1, "b"] + true + 1.0', "a[1, b]true1.0"),
        ('"a" + $foo.bar', "a$foo.bar"),
        ('$foo + "a"', "$fooa"),
        ("1 / 0", "$x"),
        ("1 % 0", "$x"),
        ("1.0 / 0", "$x"),
        ("1.0 % 0", "$x"),
        ("$foo + 1", "$x"),
        ("true + true", "$x"),
        ("[1] + 1", "$x"),
    ],
)
def test_arithmetic(expression: str, output: str) -> None:
    assert render(f"#set($x = {expression})$x") == output


@pytest.mark.parametrize(
    ("expression", "output"),
    [
        ("[1, 'a', 2.5, true, null, [2]]", "[1, a, 2.5, true, null, [2]]"),
        ("[]", "[]"),
        ("[1..3]", "[1, 2, 3]"),
        ("[3 .. 1]", "[3, 2, 1]"),
        ("[0..0]", "[0]"),
        ("['a'..'b']", "$x"),
        ("{}", "{}"),
        ("{'a': 1, \"b\" : {'c': [2]}}", "{a=1, b={c=[2]}}"),
        ("{1: 2, 'k': $foo}", "{1=2, k=null}"),
    ],
)
def test_lists_and_maps(expression: str, output: str) -> None:
    assert render(f"#set($x = {expression})$x") == output


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("#set($a = 'A')#set($x = \"x${a}z$a.length() $foo$!foo\")$x", "xAz1 $foo"),
        ("#set($a = 'A')#set($x = 'x${a}')$x", "x${a}"),
        ('#set($x = "#if(true)y#end")$x', "y"),
        ('#set($x = "#foreach($i in [1..3])$i,#end")$x', "1,2,3,"),
        ('#set($x = "a ## b")$x|', "a |"),
        ('#set($x = "a""b")$x', 'a"b'),
        ("#set($x = 'a''b')$x", "a'b"),
        ('#set($x = "")[$x]', "[]"),
        ('#set($x = "$")$x', "$"),
        ('#set($x = "\\u0041\\n")$x', "A\\n"),
        ("#set($x = '\\u0041')$x", "\\u0041"),
        ('#set($x = "say ""$foo""")$x', 'say "$foo"'),
    ],
)
def test_texts(template: str, output: str) -> None:
    assert render(template) == output


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("#foreach($i in [1..3])$i#if($foreach.hasNext),#end#end", "1,2,3"),
        ("#foreach( $i in ['a', 'b'] )$foreach.count$foreach.index$foreach.first$foreach.last$i #end", "10truefalsea 21falsetrueb "),
        ("#foreach($i in ['a', 'b'])$velocityCount$velocityHasNext#end$velocityCount", "1true2false$velocityCount"),
        ("#foreach($v in {'a': 1, 'b': 2})$v#end", "12"),
        ("#set($m = {'a': 1, 'b': 2})#foreach($k in $m.keySet())$k=$m.get($k);#end", "a=1;b=2;"),
        ("#set($m = {'a': 1})#foreach($e in $m.entrySet())$e.key $e.value $e.getKey() $e.getValue() $e#end", "a 1 a 1 a=1"),
        ("#foreach($i in [1, 2])#foreach($j in [3, 4])$i$j$foreach.parent.count$foreach.count #end#end", "1311 1412 2321 2422 "),
        ("#foreach($i in $foo)x#end#foreach($i in 'abc')y#end#foreach($i in 5)z#end", ""),
        ("#set($i = 'o')#foreach($i in [1, 2])$i#end$i", "12o"),
        ("#foreach($i in ['a'])#set($i = 'b')$i#end$i", "b$i"),
        ("#foreach($i in [1..3])#set($x = \"$!x$i,\")#end$x", "1,2,3,"),
        ("#foreach($i in [1..3])#if($i == 2)#break#end$i#end!", "1!"),
        ("#foreach($i in [1..2])#foreach($j in [1..3])#if($j == 2)#break#end$i$j #end#end", "11 21 "),
        ("a#break b", "a"),
        ("#foreach($i in [1..3])$i#if($i == 2)#stop#end#end!", "12"),
        ('a#set($x = "b#stop")c', "a"),
        ("#foreach($i in [1])$foreach.nope$!foreach.parent#end", "$foreach.nope"),
        ("#foreach($x in $context)$x #end", "L0SM9cOFvHcCIhw= MESSAGE 1708326702790 {sourceIp=192.0.2.10, userAgent=} {principalId=ann, count=1} "),
    ],
)  # fmt: skip
def test_foreach(template: str, output: str) -> None:
    assert render(template) == output


def test_a_loop_ends_after_a_thousand_iterations() -> None:
    template = "#foreach($i in [1..1500])#if($foreach.count > 998)$i $foreach.hasNext,#end#end!"

    assert render(template) == "999 true,1000 true,!"


def test_a_loop_goes_through_a_list_as_it_was() -> None:
    assert render("#set($l = [1])#foreach($i in $l)$l.add(2)#end $l") == "true [1, 2]"


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("#define($d)hello $foo#end$d #set($foo = 3)$d", "hello $foohello 3"),
        ('#define($d)[$n]#end#set($n = 6)"$d" #set($y = "$d")#set($n = 7)$y $d', '"[6]" [6] [7]'),
        ("#define($d)a#if(true)b#end#{end}$d$d", "abab"),
        ("#define($d)x#end#set($l = [$d])$l", "[x]"),
        (
            "#define($d)$i#break#end#foreach($i in [1..30])#foreach($j in [1])$d#end#end",
            "".join(map(str, range(1, 31))),
        ),
        # API Gateway takes macros, and prints their calls.
        ("#macro(m $x)[$x]#end#m(1)", "#m(1)"),
        ("a\n#macro(m)\nx#end\n#m()", "a\n#m()"),
    ],
)
def test_define_and_macro(template: str, output: str) -> None:
    assert render(template) == output


def test_the_variables_of_a_render_are_its_own() -> None:
    template = compile_template("$!x#set($x = 1)$x")
    values = variables()

    assert template.render(values) == "1"
    assert template.render(values) == "1"
    assert "x" not in values


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("\n\n#set($l = [1])$l.get(5)", "line 3: index 5 is out of bounds for length 1"),
        ("$input.path('$.')", 'line 1: the JSONPath "$." goes wrong at column 3: a name is missing'),
        ("a\n#foreach($i in [1])\n$i.foo\n$util.parseJson('x')#end", "line 4: $util.parseJson was given what is not JSON"),
    ],
)  # fmt: skip
def test_a_fault_names_its_line(template: str, sentence: str) -> None:
    with pytest.raises(TemplateFault) as caught:
        render(template)

    assert str(caught.value) == f"the mapping template fails at {sentence}"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_render_near_the_end_of_the_stack_is_a_fault() -> None:
    template = compile_template("#set($x = " + "(1 + " * 30 + "1" + ")" * 30 + ")$x")

    def render_below(frames: int) -> str:
        if frames:
            return render_below(frames - 1)
        try:
            return template.render({})
        except TemplateFault as fault:
            return fault.problem

    endings = set()
    with suppress(RecursionError):
        for frames in range(0, sys.getrecursionlimit(), 10):
            endings.add(render_below(frames))
    assert endings == {"31", "it nests too deep"}
