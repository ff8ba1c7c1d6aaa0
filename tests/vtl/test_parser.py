"""Templates that are refused: where, why, and what to write instead; and text that is text."""

from __future__ import annotations

import pickle

import pytest

from tests.vtl.rendering import render
from wsgateway.vtl import InvalidTemplate, compile_template


@pytest.mark.parametrize(
    ("template", "line", "column", "problem", "remedy"),
    [
        ("a\n  #if(true)x", 2, 3, "this #if has no end", "put #end after it"),
        ("#foreach($i in [1])", 1, 1, "this #foreach has no end", "put #end after it"),
        ("#define($d)x", 1, 1, "this #define has no end", "put #end after it"),
        ("#macro(m)x", 1, 1, "this #macro has no end", "put #end after it"),
        ("x\n\ny#end", 3, 2, "#end ends nothing", "take it out, or open an #if before it"),
        ("#else", 1, 1, "#else ends nothing", "take it out, or open an #if before it"),
        ("#if(true)#else#else#end", 1, 15, "#else follows #else", "put #else last"),
        ("#if(true)#else#elseif(true)#end", 1, 15, "#elseif follows #else", "put #else last"),
        ("#foreach($i in [1])#else#end", 1, 20, "#else has no #if", "end #foreach before it"),
        ("#if true", 1, 5, "a parenthesis is missing", "write #if($name == value)"),
        ("#if()x#end", 1, 5, "a value is missing here", "write a reference, a number"),
        ("#if(true x", 1, 10, "this is not where the directive can end", "put ) after its"),
        ("#set()", 1, 6, "#set assigns to a reference", "write #set($name = value)"),
        ("#set($a)", 1, 8, "#set has no =", "write #set($name = value)"),
        ("#set($a = )", 1, 11, "a value is missing here", "write a reference, a number"),
        ("#set($ = 1)", 1, 6, "#set assigns to a reference", "write #set($name = value)"),
        ("#foreach(x in $l)#end", 1, 10, "#foreach has no loop variable", "write #foreach("),
        ("#foreach($x.y in $l)#end", 1, 1, "the loop variable of #foreach has a", "write #fo"),
        ("#foreach($x of $l)#end", 1, 12, '#foreach has no "in"', "write #foreach($item in $l"),
        ("#define(d)#end", 1, 9, "#define has no name", "write #define($name)"),
        ("#macro(m", 1, 1, "#macro has no parenthesis", "write #define($name) instead"),
        ("${a", 1, 1, "the brace of this reference is not closed", "put } after it"),
        ("${a b}", 1, 1, "the brace of this reference is not closed", "put } after it"),
        ("$a[0", 1, 5, "neither a comma nor its end follows this value", "separate values"),
        ("$a[]", 1, 3, "an index is one value", "write [0], or ['name']"),
        ("$a.b(1 2)", 1, 8, "neither a comma nor its end follows this value", "separate val"),
        ("$a.b(1", 1, 7, "neither a comma nor its end follows this value", "separate values"),
        ("#set($a = [1 2])", 1, 14, "neither a comma nor ] follows this value", "separate v"),
        ("#set($a = [1..2, 3])", 1, 16, "this range is not closed", "write [1..3]"),
        ("#set($a = {1})", 1, 13, "a colon is missing after this key", 'write {"name": value}'),
        ("#set($a = {1:2 3})", 1, 16, "neither a comma nor } follows this member", "separate"),
        ("#set($a = (1)", 1, 14, "this is not where the directive can end", "put ) after it"),
        ("#set($a = (1]", 1, 13, "this parenthesis is not closed", "put ) after the express"),
        ("#set($a = 'x)", 1, 11, "this quote has no partner", "put ' after the text"),
        ('#set($a = "x)', 1, 11, "this quote has no partner", 'put " after the text'),
        ('#set($a = "a\\"b")', 1, 15, "this is not where the directive can end", "put ) af"),
        ('#set($a =\n "\n#end")', 3, 1, "#end ends nothing", "take it out, or open an #if"),
        ("#* x", 1, 1, "this comment has no end", "put *# after it"),
        ("#[[ x", 1, 1, "this literal text has no end", "put ]]# after it"),
        ("\n#parse('x')", 2, 1, "#parse is not available", "write what it would bring in here"),
        ("#include('x')", 1, 1, "#include is not available", "write what it would bring in here"),
        ("#evaluate('x')", 1, 1, "#evaluate is not available", "write what it would bring in"),
        ("#{evaluate}('x')", 1, 1, "#evaluate is not available", "write what it would bring"),
        ("#set($a = " + "9" * 301 + ")", 1, 11, "this number has over 300 digits", "shorten it"),
        ("(" * 9 + "#if(true)" * 33, 1, 298, "it nests deeper than 32", "use #set for parts"),
        ("x" * 307201, 1, 1, "it has more than 307200 characters", "shorten it"),
    ],
)
def test_a_refusal_says_where_why_and_what_to_write(
    template: str, line: int, column: int, problem: str, remedy: str
) -> None:
    with pytest.raises(InvalidTemplate) as caught:
        compile_template(template)

    error = caught.value
    assert (error.line, error.column) == (line, column)
    assert error.problem.startswith(problem)
    assert error.remedy.startswith(remedy)


def test_a_refusal_reads_as_a_sentence() -> None:
    with pytest.raises(InvalidTemplate) as caught:
        compile_template("{\n  ${a b}")

    sentence = (
        "the mapping template goes wrong at line 2, column 3: "
        "the brace of this reference is not closed; put } after it"
    )
    assert str(caught.value) == sentence
    assert str(pickle.loads(pickle.dumps(caught.value))) == sentence


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "$",
        "$$",
        "$5",
        "$ a",
        "$!",
        "$!{",
        "${}",
        "$-x",
        "#",
        "# if(true)",
        "#1",
        "#1f2937",
        "#unknown",
        "#unknown(1, 2)",
        "#{unknown}",
        "#{if",
        "#IF(true)",
        "#set",
        "#set $x",
        "#endless",
        "#elsewhere",
        "\\",
        "\\n",
        "\\\\",
        "a\\b#c",
        '{"a": [1, 2], "b": "c"}',
        "é 😀",
    ],
)
def test_what_is_neither_reference_nor_directive_is_text(text: str) -> None:
    assert render(text) == text


@pytest.mark.parametrize(
    ("template", "output"),
    [
        # After a name, what opens like an argument list is one only if an argument follows.
        ("$a.b(foo)", "$a.b(foo)"),
        ("$a.b (1)", "$a.b (1)"),
        ("$a.", "$a."),
        ("$a..b", "$a..b"),
        ("$a.1", "$a.1"),
        ("$a1b $1a $a_b-c", "$a1b $1a $a_b-c"),
        ("#set($a-b = 1)$a-b $a-", "1 $a-"),
        ("#set($_x = 1)$_x", "1"),
        ("$foo$bar", "$foo$bar"),
        ("#set($x = 1)$$x #$x", "$1 #1"),
    ],
)
def test_where_a_reference_ends(template: str, output: str) -> None:
    assert render(template) == output


@pytest.mark.parametrize(
    ("template", "output"),
    [
        # The rest of a directive's line is its own if it is blank, its indentation is not.
        ("#if(true)  \n a #else  \n b #end  \n c", " a  c"),
        ("  #if(true)\n  x\n  #end\n  y", "    x\n    y"),
        ("#if(true)\r\nx\r\n#else\r\ny#end\r\nz", "x\r\nz"),
        ("#foreach($i in [1..2])\n  $i\n  #end\n  z", "  1\n    2\n    z"),
        ("#if($foo)\n\n  a\n#end\n", ""),
        ("#define($d)\n x\n#end\ny $d", "y  x\n"),
        ("#stop\nx", ""),
        # So are the blanks before #set, unless they end a text.
        ("#set($x = 1)  z", "  z"),
        ("#set($x = 1)  \n\n  z", "\n  z"),
        ("  #set($x = 1)z", "z"),
        ("#set($x = 1)\n  #set($y = 2)\nz", "z"),
        ("#if(true)x#end  #set($y = 1)z", "xz"),
        ("$a  #set($y = 1)z", "$az"),
        ("a #set($x = 1) b\n  #set($x = 1)  \nb", "a  b\n  b"),
        ("x\n\n  #set($y = 1)\nz", "x\n\n  z"),
        ("## c\n  #set($y = 2)z", "z"),
    ],
)
def test_directives_eat_white_space_as_in_velocity(template: str, output: str) -> None:
    assert render(template) == output


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("a ## b\nc", "a c"),
        ("a ## b", "a "),
        ("a #* b\n *# c", "a  c"),
        ("a #** b *# c", "a  c"),
        ("#[[ $foo #if ]]# x", " $foo #if  x"),
        ("#set($x = 1)## c\n$x", "1"),
    ],
)
def test_comments_and_literal_text(template: str, output: str) -> None:
    assert render(template) == output


@pytest.mark.parametrize(
    ("template", "output"),
    [
        (r"\$foo \\$foo", r"\$foo \\$foo"),
        (r"#set($foo = 1)\$foo \\$foo \\\$foo \\\\$foo", r"$foo \1 \$foo \\1"),
        (r"#set($foo = 1)\${foo} \$!foo \\$!foo", r"${foo} $!foo \1"),
        (r"\$!foo \$!{foo}", r"\$!foo \$!{foo}"),
        (
            r"\#if(true) \#set($x = 1) \#end \#else \#{if}",
            "#if(true) #set($x = 1) #end #else #{if}",
        ),
        (r"\\#if(true)x\\#end", "\\x\\"),
        (r"\#include('x')", "#include('x')"),
        (r"\#foo \#", r"\#foo \#"),
    ],
)
def test_backslashes_escape_what_would_be_replaced(template: str, output: str) -> None:
    assert render(template) == output
