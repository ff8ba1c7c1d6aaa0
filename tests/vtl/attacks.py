"""Templates and messages that ask for too much: each is refused, or stays within its bounds.

Run as a program it prints what each costs: processor time of its compilation and of its render, and
the most memory that Python's values had meanwhile.
"""

from __future__ import annotations

import json
import time
import tracemalloc
from contextlib import suppress
from dataclasses import dataclass

from wsgateway.vtl import (
    UTIL,
    InvalidTemplate,
    TemplateFault,
    compile_template,
    input_variable,
    mapping_variable,
)

MESSAGE_SIZE_MAX = 128 * 1024
MEMORY_MAX = 48 * 1024 * 1024

STEPS = "more than 200000 steps"
TOO_LONG = "a text of more than 1048576 characters"
MADE = "have more than 33554432 bytes"
BOUNDED = "bounded"


@dataclass(frozen=True, slots=True)
class Attack:
    """What is tried, and how it ends: part of the refusal, or `BOUNDED`."""

    name: str
    template: str
    outcome: str
    body: str = "{}"


def doubling(start: str, times: int) -> str:
    return f"#set($x = {start})" + '#set($x = "$x$x")' * times


def loops(inside: str, depth: int = 2) -> str:
    head = "".join(f"#foreach($i{level} in [1..1000])" for level in range(depth))
    return head + inside + "#end" * depth


NESTED = "[" * 1000 + "]" * 1000
OBJECTS = json.dumps([{"a": {"a": {"a": 1}}}] * 5000)
LETTERS = json.dumps({"t": "a" * (MESSAGE_SIZE_MAX - 10)})
EMOJI = json.dumps({"t": "\N{GRINNING FACE}" * (MESSAGE_SIZE_MAX // 4 - 10)}, ensure_ascii=False)
EMPTY_LISTS = "[" + "[]," * 43000 + "[]]"
SELF = "#set($l = [1])#set($n = $l.add($l))"
WIDE = "#set($l = [1])" + "#set($l = [$l, $l])" * 40
TEXT = "#set($t = $input.path('$.t'))"

ATTACKS = (
    Attack("a doubled text", doubling('"0123456789abcdef"', 40), TOO_LONG),
    Attack(
        "a doubled text, kept small",
        doubling('"0123456789abcdef"', 15) + loops('#set($y = "$x")'),
        MADE,
    ),
    Attack(
        "copies of a megabyte kept in a list",
        doubling('"0123456789abcdef"', 15)
        + "#set($l = [])"
        + loops('#set($n = $l.add("$x$i0$i1"))'),
        MADE,
    ),
    Attack(
        "a doubled text of emoji",
        doubling('"\N{GRINNING FACE}"', 19) + loops('#set($y = "$x$i0")'),
        MADE,
    ),
    Attack(
        "text joined with +", '#set($x = "0123456789abcdef")' + "#set($x = $x + $x)" * 40, TOO_LONG
    ),
    Attack("concat", '#set($x = "0123456789abcdef")' + "#set($x = $x.concat($x))" * 40, TOO_LONG),
    Attack("output in nested loops", doubling('"0123456789abcdef"', 8) + loops("$x"), TOO_LONG),
    Attack("three nested loops", loops("x", 3), STEPS),
    Attack("empty nested loops", loops("", 5), STEPS),
    Attack(
        "a loop over the message in a loop over the message",
        "#foreach($a in $input.path('$'))#foreach($b in $input.path('$'))$a.a.a.a#end#end",
        STEPS,
        OBJECTS,
    ),
    Attack(
        "parsing the message in a loop",
        loops("#set($x = $util.parseJson($input.body))", 1),
        MADE,
        OBJECTS,
    ),
    Attack(
        "printing the message as JSON in a loop",
        loops("#set($x = $input.json('$'))", 1),
        MADE,
        OBJECTS,
    ),
    Attack(
        "printing the message in a loop",
        "#set($o = $input.path('$'))" + loops('#set($x = "$o")', 1),
        STEPS,
        OBJECTS,
    ),
    Attack(
        "comparing the message in a loop",
        "#set($o = $input.path('$'))#set($p = $util.parseJson($input.body))"
        + loops("#set($x = $o.equals($p))", 1),
        STEPS,
        OBJECTS,
    ),
    Attack(
        "searching the message in a loop",
        "#set($o = $input.path('$'))" + loops("#set($x = $o.contains($i0))", 1),
        STEPS,
        OBJECTS,
    ),
    Attack("a deep scan", "$input.path('$..*').size()", BOUNDED, OBJECTS),
    Attack("a deep scan of a deep message", "$input.path('$..*').size()", BOUNDED, NESTED),
    Attack("a deep scan of a wide message", "$input.path('$..*').size()", BOUNDED, EMPTY_LISTS),
    Attack(
        "deep scans within each other",
        "$input.path('$..*..*..*').size()",
        "visits too many values",
        NESTED,
    ),
    Attack(
        "deep scans that find nothing",
        "$input.path('$..*..a..a..b').size()",
        "visits too many values",
        OBJECTS,
    ),
    Attack(
        "deep scans in a loop",
        loops("#set($x = $input.path('$..b'))", 1),
        "visits too many values",
        OBJECTS,
    ),
    Attack(
        "a deep scan printed as JSON",
        "$input.json('$..*')",
        TOO_LONG,
        "[" * 200 + json.dumps("a" * 100000) + "]" * 200,
    ),
    Attack("many wildcards", "$input.path('$.*.*.*.*.*.*').size()", BOUNDED, OBJECTS),
    Attack(
        "a union of one index",
        "$input.path('$[" + ",".join("0" * 400) + "]..*').size()",
        "visits too many values",
        "[" + OBJECTS + "]",
    ),
    Attack(
        "a long JSONPath", "$input.path('$" + ".a" * 100000 + "')", "longer than 1024 characters"
    ),
    Attack("a JSONPath that nests", "$input.path('$[?(" + "(" * 300 + "')", "nests deeper than 16"),
    Attack(
        "a filter with a regular expression",
        "$input.path('$[?(@.a =~ /(a+)+b/)]')",
        "goes wrong at column",
    ),
    Attack("nested repetition", TEXT + '$t.matches("(a+)+b")', BOUNDED, LETTERS),
    Attack(
        "nested repetition, replaced",
        TEXT + '$t.replaceAll("(a|aa)+b", "")',
        BOUNDED,
        LETTERS,
    ),
    Attack(
        "nested repetition in a loop",
        TEXT + loops('#set($x = $t.matches("(a+)+b"))', 1),
        STEPS,
        LETTERS,
    ),
    Attack(
        "matches that look at all the rest",
        TEXT + '#set($x = $t.replaceAll("a.*z|a", "b"))',
        STEPS,
        LETTERS,
    ),
    Attack(
        "a match of each letter", TEXT + '#set($x = $t.replaceAll("[ab]", "b"))', STEPS, LETTERS
    ),
    Attack(
        "many patterns",
        TEXT + "".join(f"#set($x = $t.matches('{'[^a]' * 90}{n}+'))" for n in range(100)),
        STEPS,
        LETTERS,
    ),
    Attack(
        "many patterns of Unicode's classes",
        "#set($s = 'a')" + "".join(f"$!s.matches('\\p{{L}}{n}')" for n in range(100)),
        STEPS,
    ),
    Attack(
        "many patterns too large to compile",
        "#set($s = 'a')" + r"$s.matches('(?i)" + r"\p{L}" * 190 + "')",
        "is none, looks",
    ),
    Attack(
        "a large program",
        TEXT + '#set($x = $t.replaceAll("(a?){900}a{900}", "b"))',
        "too large",
        LETTERS,
    ),
    Attack(
        "a program that is simulated",
        TEXT + '$t.matches("(a?b?c?d?e?f?g?h?){60}[ab]{300}z")',
        STEPS,
        LETTERS,
    ),
    Attack(
        "repetition of repetition of repetition",
        TEXT + '$t.matches("(((a{100}){100}){100}){100}")',
        "is none, looks",
        LETTERS,
    ),
    Attack("looking ahead", TEXT + '$t.replaceAll("(?=a+)b", "")', "looks around", LETTERS),
    Attack("a reference back", TEXT + '$t.matches("(a+)\\1+b")', "refers back to a group", LETTERS),
    Attack(
        "text between all letters",
        TEXT + doubling('"0123456789abcdef"', 6) + "#set($y = $t.replaceAll('', $x))",
        TOO_LONG,
        LETTERS,
    ),
    Attack(
        "text between all letters, plainly",
        TEXT + doubling('"0123456789abcdef"', 6) + "#set($y = $t.replace('', $x))",
        TOO_LONG,
        LETTERS,
    ),
    Attack(
        "a group many times",
        TEXT + "#set($y = $t.replaceAll('(.*)', '" + "$1" * 400 + "'))",
        TOO_LONG,
        LETTERS,
    ),
    Attack("split in a loop", TEXT + loops("#set($x = $t.split('a'))", 1), MADE, LETTERS),
    Attack(
        "split by a pattern in a loop",
        TEXT + loops("#set($x = $t.split('[ab]'))", 1),
        STEPS,
        LETTERS,
    ),
    Attack(
        "escaping emoji in a loop",
        TEXT + loops("#set($x = $util.escapeJavaScript($t))", 1),
        STEPS,
        EMOJI,
    ),
    Attack("encoding in a loop", TEXT + loops("#set($x = $util.urlEncode($t))", 1), STEPS, EMOJI),
    Attack("base64 in a loop", TEXT + loops("#set($x = $util.base64Encode($t))", 1), MADE, LETTERS),
    Attack("hash codes in a loop", TEXT + loops("#set($x = $t.hashCode())", 1), STEPS, LETTERS),
    Attack(
        "searching a text in a loop",
        TEXT
        + '#set($p = $t.concat("b"))'
        + loops("#set($x = $t.indexOf($p))#set($x = $p.lastIndexOf('ba'))"),
        STEPS,
        LETTERS,
    ),
    Attack(
        "comparing texts in a loop",
        TEXT + '#set($p = "$t")' + loops("#if($t == $p)#end"),
        STEPS,
        LETTERS,
    ),
    Attack("upper case in a loop", TEXT + loops("#set($x = $t.toUpperCase())", 1), MADE, LETTERS),
    Attack(
        "comparing without regard to case in a loop",
        doubling('"\N{LATIN SMALL LETTER E WITH ACUTE}"', 19) + loops("$!x.equalsIgnoreCase($x)"),
        STEPS,
    ),
    Attack(
        "a replacement of a quarter of a million groups",
        doubling("'$1'", 18) + "#set($s = 'a')$s.replaceAll('(a)', $x)",
        STEPS,
    ),
    Attack(
        "a pattern of a megabyte",
        doubling('"ab"', 19) + "$x.matches($x)",
        "more than 1000 characters",
    ),
    Attack(
        "groups beyond groups",
        "#set($s = 'a')$s.replaceAll('(a)', '$" + "0" * 100000 + "')",
        BOUNDED,
    ),
    Attack("many JSONPaths", loops('#set($z = $input.path("$.a[$i0].b$i1"))'), STEPS),
    Attack(
        "a long text among a list, printed in a loop",
        "#set($o = $input.path('$'))" + loops('#set($z = "$o")'),
        STEPS,
        json.dumps(["\N{LATIN SMALL LETTER E WITH ACUTE}" * 60000], ensure_ascii=False),
    ),
    Attack("parameters in a loop", loops("#set($z = $input.params().header.keySet())"), STEPS),
    Attack("a huge range", "#foreach($i in [1..1000000000])x#end", MADE),
    Attack("a huge range downwards", "#set($x = [1..-999999999999999999999999])", MADE),
    Attack("ranges in a loop", loops("#set($x = [1..5000])"), MADE),
    Attack(
        "a product that grows", "#set($x = 9)" + "#set($x = $x * $x)" * 40, "more than 1024 bits"
    ),
    Attack("a float that grows", "#set($x = 9.0)" + "#set($x = $x * $x)" * 40 + "$x", BOUNDED),
    Attack("a list in itself", SELF + "$l", "holds itself"),
    Attack(
        "a list in itself, compared",
        SELF + "#set($m = [1])#set($n = $m.add($m))#if($l == $m)#end",
        "holds itself",
    ),
    Attack("a list in itself, as a key", SELF + "#set($m = {$l: 1})", "key is a list"),
    Attack("a map in itself", "#set($m = {})#set($n = $m.put('m', $m))$m", "holds itself"),
    Attack(
        "a message put into itself",
        "#set($m = $input.path('$'))#set($n = $m.put('m', $m))$input.json('$')$input.path('$..*').size()",
        "visits too many values",
    ),
    Attack("a tree of a trillion leaves, printed", WIDE + "$l", STEPS),
    Attack(
        "a tree of a trillion leaves, compared",
        WIDE + WIDE.replace("$l", "$m") + "#if($l == $m)#end",
        STEPS,
    ),
    Attack(
        "a tree of a trillion leaves, searched",
        WIDE + WIDE.replace("$l", "$m") + "#set($p = [$l])$p.contains($m)",
        STEPS,
    ),
    Attack(
        "a list that grows while it is iterated",
        "#set($l = [1])#foreach($i in $l)#set($n = $l.add($i))#end$l.size()",
        BOUNDED,
    ),
    Attack("a list that doubles", "#set($l = [1])" + "#set($n = $l.addAll($l))" * 40, MADE),
    Attack("a #define of itself", "#define($d)$d#end$d", "nests deeper than 20"),
    Attack(
        "two #defines of each other",
        "#define($a)$b$b#end#define($b)$a$a#end$a",
        "nests deeper than 20",
    ),
    Attack(
        "a #define in text of itself", '#define($d)"#set($x = "$d")"#end$d', "nests deeper than 20"
    ),
    Attack(
        "#defines that multiply",
        "#define($a)x#end"
        + "".join(
            f"#define(${b})${a}${a}${a}${a}${a}${a}#end"
            for a, b in zip("abcdefghijkl", "bcdefghijklm", strict=True)
        )
        + "$m",
        STEPS,
    ),
    Attack("a macro of itself", "#macro(m)#m()#end#m()", BOUNDED),
    Attack("#parse", '#parse("/etc/passwd")', "#parse is not available"),
    Attack("#include", '#include("/etc/passwd")', "#include is not available"),
    Attack("#evaluate", "#evaluate($input.body)", "#evaluate is not available"),
    Attack(
        "#evaluate in a text", '#set($x = "#evaluate($input.body)")', "#evaluate is not available"
    ),
    Attack("parentheses", "#set($x = " + "(" * 50000, "nests deeper than 32"),
    Attack("brackets", "#set($x = " + "[" * 50000, "nests deeper than 32"),
    Attack("argument lists", "$a" + ".b($a" * 50000, "nests deeper than 32"),
    Attack("indexes", "$a[" * 50000, "nests deeper than 32"),
    Attack("blocks", "#if(true)" * 30000, "nests deeper than 32"),
    Attack("negations", "#set($x = " + "!" * 25000 + "true)$x", BOUNDED),
    Attack("a sum of many", "#set($x = " + "+".join("1" * 10000) + ")$x", BOUNDED),
    Attack("a conjunction of many", "#if(" + "&&".join(["true"] * 4000) + ")x#end", BOUNDED),
    Attack("many branches", "#if(false)" + "#elseif(false)" * 2000 + "#end", BOUNDED),
    Attack("many steps", "$a" + ".b" * 15000, BOUNDED),
    Attack("many references", "$a" * 15000, BOUNDED),
    Attack("many open quotes", "'\"" * 150000, BOUNDED),
    Attack("many backslashes", "\\" * 300000, BOUNDED),
    Attack("many hashes", "#" * 300000, BOUNDED),
    Attack("many open comments", "#*" * 15000, BOUNDED),
    Attack("blanks before nothing", (" " * 1000 + "$a.b(" + " " * 1000 + "x") * 140, BOUNDED),
    Attack("a template that is too large", " " * 400000, "more than 307200 characters"),
    Attack("a number of many digits", "#set($x = " + "9" * 100000 + ")", "over 300 digits"),
    Attack(
        "Python's attributes",
        "$input.__class__ $util.__class__.__mro__ $context.__dict__ $input._body $input._parse $foreach.__init__",
        BOUNDED,
    ),
    Attack(
        "Python's attributes as methods",
        "$input.__getattribute__('_parse') $util.__init_subclass__() $context.get('__class__') $input.member('body') $context.members()",
        BOUNDED,
    ),
    Attack(
        "Python's methods of texts",
        '#set($s = "{0.__class__}")$s.format($input) $s.join([1]) $s.encode() $s.zfill(1000000000) $s.__mul__(9)',
        BOUNDED,
    ),
    Attack(
        "Java's reflection",
        "#set($s = '')$s.class.forName('java.lang.Runtime') $s.getClass().getName()",
        BOUNDED,
    ),
    Attack(
        "assigning to the gateway's variables",
        "#set($context.connectionId = 'x')",
        "cannot be assigned to",
    ),
    Attack("replacing the gateway's variables", "#set($util = 'x')$util", BOUNDED),
    Attack(
        "a message nested too deep for its parser",
        "$input.json('$') $input.path('$')",
        BOUNDED,
        "[" * 60000 + "]" * 60000,
    ),
    Attack("a message nested too deep to print", "$input.path('$')", "nests too deep", NESTED),
    Attack(
        "half a surrogate pair",
        "#set($s = $util.parseJson('\"\\ud83d\"'))$s $util.urlEncode($s) $util.base64Encode($s) $s.replaceAll('[a]', 'b')",
        "not JSON",
    ),
    Attack(
        "half a surrogate pair, cut out",
        '#set($s = "\\ud83d")$util.urlEncode($s)$util.base64Encode($s)$util.escapeJavaScript($s)$s.replaceAll("[a]", "b")',
        "half a surrogate pair",
    ),
)


def variables(attack: Attack) -> dict[str, object]:
    return {
        "input": input_variable(attack.body, path={}, querystring={}, header={}),
        "util": UTIL,
        "context": mapping_variable({"connectionId": "L0SM9cOFvHcCIhw="}),
        "stageVariables": mapping_variable({}),
    }


def outcome(attack: Attack) -> str:
    """Return how it ends: a refusal, or what was rendered."""
    try:
        return "rendered " + compile_template(attack.template).render(variables(attack))
    except (InvalidTemplate, TemplateFault) as error:
        return f"refused: {error}"


def times(attack: Attack) -> tuple[float, float]:
    """Return the processor time of its compilation and of its render."""
    begun = time.process_time()
    try:
        template = compile_template(attack.template)
    except InvalidTemplate:
        return time.process_time() - begun, 0.0
    compiled = time.process_time()
    with suppress(TemplateFault):
        template.render(variables(attack))
    return compiled - begun, time.process_time() - compiled


def memory(attack: Attack) -> int:
    """Return the most bytes that Python's values had meanwhile."""
    tracemalloc.start()
    outcome(attack)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main() -> None:
    for attack in ATTACKS:
        print(json.dumps([attack.name, *times(attack), memory(attack)]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
