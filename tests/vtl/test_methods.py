"""Java's methods of texts, lists, maps and numbers, and that there are no others."""

from __future__ import annotations

import pytest

from tests.vtl.rendering import render
from wsgateway.vtl import TemplateFault, compile_template, input_variable

VALUES = (
    '#set($s = "Hello World, hello")#set($e = "")#set($l = [1, "a", 2.5, true])'
    '#set($m = {"a": 1, "b": [1, 2]})#set($n = 5)#set($d = 2.75)#set($b = true)'
)


@pytest.mark.parametrize(
    ("call", "output"),
    [
        ("$s.length() $e.length()", "18 0"),
        ("$s.isEmpty() $e.isEmpty() $e.empty", "false true true"),
        ("$s.charAt(4)", "o"),
        ("$s.concat('!')", "Hello World, hello!"),
        ("$s.contains('World') $s.contains('x') $s.contains('')", "true false true"),
        ("$s.startsWith('He') $s.endsWith('lo') $s.endsWith('x')", "true true false"),
        ("$s.indexOf('l') $s.indexOf('z') $s.indexOf('') $s.lastIndexOf('l')", "2 -1 0 16"),
        ("$s.indexOf('l', 5) $s.indexOf('l', -4) $s.indexOf('l', 99)", "9 2 -1"),
        ("$s.equals('x') $s.equals($s) $s.equals($foo) $s.equals(1)", "false true false false"),
        ("$s.equalsIgnoreCase('HELLO world, HELLO') $s.equalsIgnoreCase('hello')", "true false"),
        ("$s.compareTo('Hello') $s.compareTo('Iello') $s.compareTo('A')", "13 -1 7"),
        ("$s.compareTo($s) $e.compareTo('ab') $s.compareTo('Hello World, hellp')", "0 -2 -1"),
        ("$s.hashCode() $e.hashCode()", "1473881306 0"),
        ("$s.substring(6)|$s.substring(0, 5)|$s.substring(5, 5)|$s.substring(18)", "World, hello|Hello||"),
        ("$s.toUpperCase() $s.toLowerCase()", "HELLO WORLD, HELLO hello world, hello"),
        ("#set($t = '  a b  ')[$t.trim()]", "[a b]"),
        ("$s.toString()", "Hello World, hello"),
        ("$s.replace('l', 'L') $s.replace('l', '')", "HeLLo WorLd, heLLo Heo Word, heo"),
        ("$e.replace('', 'x')|#set($t = 'ab')$t.replace('', '-')", "x|-a-b-"),
        ("$s.split(' ').size() $s.split(',')[1] $s.split('l')", "3  hello [He, , o Wor, d, he, , o]"),
        ("#set($t = 'a,b,,c,,')$t.split(',') $t.split(',').size()", "[a, b, , c] 4"),
        ("#set($t = 'a1b22c')$t.split('[0-9]+') $t.split('')", "[a, b, c] [a, 1, b, 2, 2, c]"),
        ("$e.split(',').size() $s.split('x')", "1 [Hello World, hello]"),
        ("#set($t = ',')$t.split(',').size() $t.split('[,]').size()", "0 0"),
        ("#set($t = ',a')$t.split(',') $t.split('[,;]')", "[, a] [, a]"),
        ("$s.matches('Hello.*') $s.matches('Hello') $s.matches($s)", "true false true"),
        ("$s.length().toString().length() $s.substring(0, 5).toUpperCase().concat('!')", "2 HELLO!"),
    ],
)  # fmt: skip
def test_texts(call: str, output: str) -> None:
    assert render(VALUES + call) == output


@pytest.mark.parametrize(
    ("pattern", "replacement", "output"),
    [
        ("[lo]", "<$0>", "He<l><l><o> W<o>r<l>d, he<l><l><o>"),
        (r"(\w+) (\w+)", "$2 $1", "World Hello, hello"),
        ("o", r"\$", "Hell$ W$rld, hell$"),
        ("x*", "-", "-H-e-l-l-o- -W-o-r-l-d-,- -h-e-l-l-o-"),
        ("l*", "-", "-H-e--o- -W-o-r--d-,- -h-e--o-"),
        ("", "-", "-H-e-l-l-o- -W-o-r-l-d-,- -h-e-l-l-o-"),
        ("^", "-", "-Hello World, hello"),
        ("$", "-", "Hello World, hello-"),
        (r"\b", "|", "|Hello| |World|, |hello|"),
        (r"\s+|,", "", "HelloWorldhello"),
        ("(?i)HELLO", "x", "x World, x"),
        ("(l)", "$10", "Hel0l0o Worl0d, hel0l0o"),
        ("(?<q>l)", "${q}!", "Hel!l!o Worl!d, hel!l!o"),
        ("(x)?e", "[$1]", "H[]llo World, h[]llo"),
        ("[^a-z]", "", "elloorldhello"),
        ("l{2}", "L", "HeLo World, heLo"),
        (r"\Qlo\E", "J", "HelJ World, helJ"),
        (r"[\],]", ";", "Hello World; hello"),
        (", ", ",", "Hello World,hello"),
        ("l", "$0$0", "Hellllo Worlld, hellllo"),
    ],
)
def test_replace_all_reads_patterns_as_java(pattern: str, replacement: str, output: str) -> None:
    assert render(f"{VALUES}$s.replaceAll('{pattern}', '{replacement}')") == output


@pytest.mark.parametrize(
    ("call", "output"),
    [
        ("$s.replaceFirst('l', 'L')", "HeLlo World, hello"),
        ("$s.replaceFirst('(l)(l)', '$2-$1')", "Hel-lo World, hello"),
        ("$s.replaceFirst('', '-')", "-Hello World, hello"),
        ("$s.replaceFirst('z', 'y')", "Hello World, hello"),
        ("#set($t = 'é😀é')$t.replaceAll('', '-') $t.replaceAll('[é]', 'e')", "-é-😀-é- e😀e"),
        ("#set($t = \"it\\'s\")$t.replaceAll(\"\\\\'\", \"'\")", "it's"),
    ],
)  # fmt: skip
def test_other_replacements(call: str, output: str) -> None:
    assert render(VALUES + call) == output


@pytest.mark.parametrize(
    ("call", "output"),
    [
        ("$l.size() $l.get(0) $l[1] $l.isEmpty() $l.empty", "4 1 a false false"),
        ("$l.contains('a') $l.contains(1) $l.contains('1') $l.contains(1.0)", "true true false false"),
        ("$l.indexOf('a') $l.indexOf('z') $l.lastIndexOf(true) $l.lastIndexOf('z')", "1 -1 3 -1"),
        ("$l.add('x') $l", "true [1, a, 2.5, true, x]"),
        ("$l.add(0, 'y')|$l", "|[y, 1, a, 2.5, true]"),
        ("$l.addAll([7, 8]) $l.addAll([]) $l", "true false [1, a, 2.5, true, 7, 8]"),
        ("$l.set(0, 'z') $l", "1 [z, a, 2.5, true]"),
        ("$l.remove(0) $l $l.remove('a') $l $l.remove('z')", "1 [a, 2.5, true] true [2.5, true] false"),
        ("$l.subList(1, 3) $l.clear()$l", "[a, 2.5] []"),
        ("$l.equals([1, 'a', 2.5, true]) $l.equals([1]) $l.toString()", "true false [1, a, 2.5, true]"),
        ("#foreach($x in $l.iterator())$x,#end", "1,a,2.5,true,"),
        ("#set($x = [[1, 2], [3]])$x[0][1] $x.get(1).get(0)", "2 3"),
    ],
)  # fmt: skip
def test_lists(call: str, output: str) -> None:
    assert render(VALUES + call) == output


@pytest.mark.parametrize(
    ("call", "output"),
    [
        ("$m.a $m.b $m.b[1] $m['a'] $m.get('b').size()", "1 [1, 2] 2 1 2"),
        ("$m.get('z') $!m.get('z')| $m.put('z', 1) $m.put('z', 2)", "$m.get('z') | $m.put('z', 1) 1"),
        ("$m.containsKey('a') $m.containsKey('z')", "true false"),
        ("$m.containsValue(1) $m.containsValue([1, 2]) $m.containsValue(3)", "true true false"),
        ("$m.size() $m.isEmpty()", "2 false"),
        ("$m.keySet() $m.values() $m.entrySet()", "[a, b] [1, [1, 2]] [a=1, b=[1, 2]]"),
        ("$m.keySet().size() $m.keySet().contains('a')", "2 true"),
        ("$m.remove('a') $m $!m.remove('a')|", "1 {b=[1, 2]} |"),
        ("$m.getOrDefault('a', 'd') $m.getOrDefault('z', 'd')", "1 d"),
        ("$m.putAll({'c': 3})$m $m.clear()$m", "{a=1, b=[1, 2], c=3} {}"),
        ("#foreach($x in $m.entrySet())$x.equals($x)$x.equals(1) #end", "truefalse truefalse "),
        ("$m.equals({'a': 1, 'b': [1, 2]}) $m.equals({'a': 1}) $m.toString()", "true false {a=1, b=[1, 2]}"),
        ("#set($x = $m.put($foo, 1))$m.get($foo)", "1"),
        # A member, never a method without its parentheses.
        ("$m.size $m.keySet $m.empty $m.class", "$m.size $m.keySet $m.empty $m.class"),
        ("#set($m.size = 9)$m.size $m.size()", "9 3"),
    ],
)  # fmt: skip
def test_maps(call: str, output: str) -> None:
    assert render(VALUES + call) == output


@pytest.mark.parametrize(
    ("call", "output"),
    [
        ("$n.intValue() $n.longValue() $n.doubleValue() $n.floatValue()", "5 5 5.0 5.0"),
        ("$d.intValue() $d.longValue() $d.doubleValue()", "2 2 2.75"),
        ("$n.toString().length() $d.toString()", "1 2.75"),
        ("$n.equals(5) $n.equals('5') $n.equals(5.0) $d.equals(2.75)", "true false false true"),
        ("$n.compareTo(6) $n.compareTo(5) $d.compareTo(1.0)", "-1 0 1"),
        ("$b.toString() $b.equals(true) $b.equals('true') $b.booleanValue()", "true true false true"),
        ("#set($x = 2147483648)$x.intValue() #set($x = 3.0e10)$x.intValue() #set($x = -1.5)$x.intValue()", "-21474836482147483647-1"),
        ("#set($x = 1.0e300 * 1.0e300 * 0)$x.intValue()", "0"),
    ],
)  # fmt: skip
def test_numbers_and_booleans(call: str, output: str) -> None:
    assert render(VALUES + call) == output


@pytest.mark.parametrize(
    "call",
    [
        "$s.nope()",
        "$s.nope",
        "$s.length",
        "$s.length(1)",
        "$s.contains(1)",
        "$s.substring('1')",
        "$s.replaceAll('a')",
        "$s.bytes.length",
        "$s.class",
        "$s.getClass()",
        "$s.format('x')",
        "$s.upper()",
        "$s.__class__",
        "$s.__len__()",
        "$s._x",
        "$l.length()",
        "$l.append(1)",
        "$l.get('x')",
        "$l['x']",
        "$l[true]",
        "$l.pop()",
        "$m.items()",
        "$m.__class__",
        "$m['__class__']",
        "$m.get([1])",
        "$m[[1]]",
        "$n.real",
        "$n.bit_length()",
        "$n[0]",
        "$b.real",
        "$foo.bar.baz()",
    ],
)
def test_what_java_does_not_have_is_no_value(call: str) -> None:
    assert render(VALUES + call) == call


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("$s.substring(-1)", "begin -1, end 18, length 18 name no substring"),
        ("$s.substring(5, 2)", "begin 5, end 2, length 18 name no substring"),
        ("$s.substring(99)", "begin 99, end 18, length 18 name no substring"),
        ("$s.charAt(18)", "index 18 is out of bounds for length 18"),
        ("$s.concat($foo)", "concat() was given no value"),
        ("$s.replaceAll('l', $foo)", "replaceAll() was given no value"),
        ("$s.replaceAll('(l)', '$2')", "there is no group 2 to put in"),
        ("$s.replaceAll('l', '$')", '"$" refers to no group'),
        ("$s.replaceAll('l', '${q}')", '"${q}" refers to no group'),
        ("$s.replaceAll('l', 'x\\')", '"\\" refers to no group'),
        ("$s.replaceAll('[', '')", 'the regular expression "[" is none, looks around, refers back to a group, or repeats possessively'),
        ("$s.replaceAll('(?=l)', '')", 'the regular expression "(?=l)" is none, looks around, refers back to a group, or repeats possessively'),
        ("$s.matches('(l)\\1')", 'the regular expression "(l)\\1" is none, looks around, refers back to a group, or repeats possessively'),
        ("$s.matches('l++')", 'the regular expression "l++" is none, looks around, refers back to a group, or repeats possessively'),
        ("$s.matches('[a-z&&[^l]]')", 'the regular expression "[a-z&&[^l]]" nests or intersects character classes'),
        ("$s.matches('[a[b]]')", 'the regular expression "[a[b]]" nests or intersects character classes'),
        ("$s.matches('(a?){900}a{900}')", 'the regular expression "(a?){900}a{900}" is too large'),
        ("$l.get(9)", "index 9 is out of bounds for length 4"),
        ("$l[9]", "index 9 is out of bounds for length 4"),
        ("$l[-5]", "index -1 is out of bounds for length 4"),
        ("$l.set(9, 1)", "index 9 is out of bounds for length 4"),
        ("$l.add(9, 1)", "index 9 is out of bounds for length 5"),
        ("$l.remove(9)", "index 9 is out of bounds for length 4"),
        ("$l.subList(3, 1)", "from 3 to 1 of length 4 is no part of a list"),
        ("#set($l[9] = 1)", "index 9 is out of bounds for length 4"),
        ("#set($x = {[1]: 2})", "a map's key is a list or a map"),
        ("$m.put([1], 2)", "a map's key is a list or a map"),
    ],
)  # fmt: skip
def test_what_throws_in_java_fails_the_render(call: str, problem: str) -> None:
    with pytest.raises(TemplateFault) as caught:
        render(VALUES + call)

    assert caught.value.problem == problem


@pytest.mark.parametrize("call", ["#set($x = $n * 1.5)", "$n.doubleValue()"])
def test_an_integer_beyond_floats_fails(call: str) -> None:
    input_ = input_variable("", path={}, querystring={}, header={}, parse=lambda _text: 10**400)
    template = compile_template("#set($n = $input.path('$'))" + call)

    with pytest.raises(TemplateFault, match="a number is too large to calculate with"):
        template.render({"input": input_})


def test_a_pattern_of_many_characters_is_refused() -> None:
    with pytest.raises(TemplateFault, match="a regular expression has more than 1000 characters"):
        render(f"{VALUES}$s.matches('{'a.' * 600}')")
