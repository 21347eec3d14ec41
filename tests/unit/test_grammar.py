"""Scripts are read as a second, naive reader reads them, or refused with line and column."""

import random
import time

import pytest
from unit import naive_script

from relax_memory.direction.grammar import parse
from relax_memory.direction.scenes import scenes_of
from relax_memory.direction.script import ScriptError

WORDS = (
    *("a red fox", "ein süßer Käfer", "走る猫", "кот,", "a [closed] shop", "(red:1.2)", "😀 #1"),
    *("12:30 at noon", "she says: run", "5s", "a\tb", r"\[5s\]", r"\|", r"\#", r"\\", r"\(x\)"),
    *("@home", "[[x]", "é", "\u2028", "Scene", "a \\", "GLOBAL warming", "x]", "{a}", "-"),
    "\u00a0",
)  # fmt: skip
FIRST = (r"\Scene one: x", r"\GLOBAL: x", r"\[0s] x", r"\scene: x", "scenery: x", r"\# x")
LAST = (r"\@0:02", "[x] .", r"\[5s]", "a @ b", "50%")
NAMES = ("kitchen", "Küche am Abend", "2", "B_2-x", "house", "街")
ENDS = ("\n", "\r\n", "\n\n", "\r\n  \t\r\n", "\r")
OPTIONS = ("", "keep", "recache", "blend", "blend 2s", "BLEND 1.25s", "blend 0:02", "cut", "#")


class Author:
    """Writes scripts, with line ends and blanks as people and programs leave them."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.end = self.random.choice(ENDS)

    def maybe(self, *texts):
        return self.random.choice(("", *texts))

    def words(self):
        chosen = self.random.choices(WORDS, k=self.random.randint(1, 6))
        if self.random.random() < 0.2:
            chosen.insert(0, self.random.choice(FIRST))
        if self.random.random() < 0.2:
            chosen.append(self.random.choice(LAST))
        words = f"the {chosen[0]}" if chosen[0] in ("[[x]", "Scene") else chosen[0]
        for word in chosen[1:]:
            words += self.random.choice((" ", " ", " ", "  ", f" {self.end}and ")) + word
        return words + " ok"

    def time(self, frames):
        """A time of so many frames at 16 a second."""
        seconds = frames / 16
        forms = [f"{frames}f", f"{seconds:.6g}s", f"{int(seconds // 60)}:{seconds % 60:07.4f}"]
        return self.random.choice(forms)

    def head(self, name):
        blank = self.random.choice((" ", "  ", "\t"))
        return f"{self.random.choice(('Scene', 'scene'))}{blank}{name}{self.maybe(' ')}:"

    def shared(self, text):
        line = f"{self.random.choice(('GLOBAL', 'Global'))}: all of it, {self.random.choice(WORDS)}"
        return f"{line}{self.end}{text}" if self.random.random() < 0.5 else text

    def stamps(self):
        """Shots with stamps; scenes and how they begin do not contradict each other."""
        frames, lines, seen = 0, [], []
        if self.random.random() < 0.3:
            lines.append(f"{self.maybe(' ')}{self.words()}")
            frames = 160
        for number in range(self.random.randint(1, 6)):
            first = number == 0 and not lines
            end = frames + 16 * self.random.randint(1, 9)
            option = "" if first else self.random.choice(OPTIONS)
            head = ""
            if option in ("", "cut") and self.random.random() < 0.3:
                name = self.random.choice([n for n in NAMES if n not in seen[-1:]])
                seen.append(name)
                head = self.head(name)
            elif option in ("cut", "#"):
                seen.append("")
            moment = "" if first else self.maybe(f"@{frames - 16}f", "@0:00")
            range_end = self.random.choice(("", f"-{end}f", f" – {end}f"))
            start = f"{frames}f" if range_end else self.time(frames)
            glued = option == "#" and self.random.random() < 0.5
            inside = " ".join(filter(None, (start + range_end, "" if glued else option)))
            behind = self.random.random() < 0.5
            bracket = f"[{inside}{'' if behind or not moment else ' ' + moment}]{'#' * glued}"
            between = self.maybe(" ", self.end)
            marks = self.random.choice((f"{bracket}{between}{head}", f"{head}{between}{bracket}"))
            last = f" {moment}" if behind and moment else ""
            lines.append(f"{marks if head else bracket} {self.words()}{last}")
            frames = end
        return self.shared(self.end.join(lines))

    def parts(self):
        """Parts between bars and at heads, of which some say how long they take."""
        text, running = "", None
        for number in range(self.random.randint(2, 6)):
            option = self.random.choice(OPTIONS) if number else ""
            length = self.maybe("5s", "0:07.5", "80f")
            moment = self.maybe("@0:00") if number else ""
            within = self.random.random() < 0.3
            inside = " ".join(filter(None, (length, option, moment if within else "")))
            head = ""
            if option in ("", "cut") and self.random.random() < 0.4:
                running = self.random.choice([name for name in NAMES if name != running])
                head = f"{self.head(running)}{self.random.choice((' ', self.end))}"
            begin = self.random.choice(("|", " | ", f" |{self.end}")) if number else ""
            if number and head and self.random.random() < 0.5:
                begin = self.end
            bracket = f" [{inside}]" if inside else ""
            moment = f" {moment}" if moment and not within else ""
            ending = self.random.choice((bracket + moment, moment + bracket))
            text += f"{begin}{head}{self.words()}{ending}"
        return self.shared(text)

    def single(self):
        return self.shared(self.maybe(" ", "\t", "\r\n") + self.words() + self.maybe(" ", "\n"))

    def script(self):
        return self.random.choice((self.stamps, self.parts, self.stamps, self.parts, self.single))()

    def broken(self):
        """A script in which something was typed, deleted or put elsewhere."""
        text = self.script()
        for _ in range(self.random.randint(1, 3)):
            at = self.random.randrange(len(text))
            typed = self.random.choice("[]|@#\\:\n 5s0-–\x00٥")
            text = self.random.choice(
                (text[:at] + text[at + 1 :], text[:at] + typed + text[at:], text[at:] + text[:at])
            )
        return text


def read(text):
    """What `parse` says, as the naive reader says it."""

    def pair(time):
        return time and (time.value, time.unit)

    return [
        (
            cue.text.replace("\r\n", "\n").replace("\r", "\n"),
            *(pair(cue.start), pair(cue.end), pair(cue.duration), cue.transition),
            *(pair(cue.blend), cue.scene, pair(cue.moment)),
        )
        for cue in parse(text).cues
    ]


@pytest.mark.parametrize("seed", range(150))
def test_a_script_is_read_as_the_naive_reader_reads_it(seed):
    text = Author(seed).script()
    assert read(text) == naive_script.read(text)
    places = [(cue.line, cue.column) for cue in parse(text).cues]
    assert places == sorted(set(places))


@pytest.mark.parametrize("seed", range(150))
def test_a_broken_script_is_read_likewise_or_refused_where_it_is_broken(seed):
    text = Author(1000 + seed).broken()
    try:
        found = read(text)
    except ScriptError as error:
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert 1 <= error.column <= len(lines[error.line - 1]) + 1
        assert str(error).startswith(f"line {error.line}, column {error.column}: ")
        assert len(str(error)) < 300
    else:
        assert found == naive_script.read(text)


def test_what_is_broken_is_refused_often_and_read_often():
    refused = sum(is_refused(Author(1000 + seed).broken()) for seed in range(150))
    assert 40 <= refused <= 110


def is_refused(text):
    try:
        parse(text)
    except ScriptError:
        return True
    return False


LONG = 100_000
LONG_TEXTS = {
    "stamps": "\n".join(f"[{number}s] shot {number}, кот" for number in range(LONG // 20)),
    "bars": "a|" * (LONG // 2) + "b",
    "scenes": "\r\n".join(f"Scene {number % 7}:\r\na cat" for number in range(LONG // 20)),
    "one prompt": "a cat \\[x] " * (LONG // 11),
    "brackets": "a " + "[" * LONG,
    "closed brackets": "a " + "[x]" * (LONG // 3),
    "backslashes": "\\" * LONG,
    "blanks": "a" + " " * LONG + "| b" + "\n" * LONG,
    "blank lines": "a\n" + " \n" * (LONG // 2) + "b | c",
    "moments": "a | b" + " @0:01" * (LONG // 6),
    "cuts": "[0s] a\n[5s]" + "#" * LONG + " b",
    "heads": "Scene " * (LONG // 6),
    "a word": "[" + "x" * LONG + "] a",
    "digits": "[" + "1" * LONG + "s] a",
    "words": "[0s " + "cut " * (LONG // 4) + "] a",
    "a name of blanks": "Scene" + " " * LONG + ".",
    "nested brackets": "[0s] a " + "[5s" * (LONG // 3) + "]",
    "brackets of a time": "a " + "[5" * (LONG // 2) + "] | b",
    "signs": "[0s] a " + "@ # " * (LONG // 4),
}


@pytest.mark.parametrize("name", LONG_TEXTS)
def test_a_text_of_100_kilobytes_is_read_or_refused_at_once(name):
    start = time.process_time()
    try:
        parse(LONG_TEXTS[name])
    except ScriptError as error:
        assert len(str(error)) < 300
    assert time.process_time() - start < 10


@pytest.mark.parametrize("text", ["", " \r\n", "a cat", "a\r\ncat,\t[x] : 5s #1 @8pm @0:02", "кот"])
def test_a_single_prompt_stays_as_it_is(text):
    (cue,) = parse(f" {text}\n").cues
    assert cue.text == text.strip()
    assert (cue.start, cue.duration, cue.scene, cue.moment, cue.transition) == 5 * (None,)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (r"\[0s] a \| b \@0:02 \# \\", r"[0s] a | b @0:02 # \ ".strip()),
        (r"a [closed] @ # @0:02 [cut] [5s", r"a [closed] @ # @0:02 [cut] [5s"),
        (r"\Scene kitchen: a cat", "Scene kitchen: a cat"),
        ("a cat\n \\GLOBAL: x\n\\scene : y", "a cat\n GLOBAL: x\nscene : y"),
        (r"a \Scene x: \(b:1.2\) \n", r"a \Scene x: \(b:1.2\) \n"),
        ("\ufeffa cat", "a cat"),
    ],
)
def test_a_backslash_makes_words_of_marks(written, words):
    (cue,) = parse(written).cues
    assert cue.text == words
    assert cue.scene is None


@pytest.mark.parametrize(
    "text",
    [
        "GLOBAL：墨画\nScene 厨房：\n[0s] 猫\nScene 街：[5s] 狗\nScene 厨房: [8s] 猫",
        "\u200bGLOBAL: 墨画\n\u200bScene 厨房:\n\u200b[0s] 猫\nScene 街: [5s] 狗\n"
        "\u3000Scene 厨房 ：[8s] 猫",
    ],
)
def test_colons_and_blanks_may_be_those_of_any_script(text):
    cues = parse(text).cues
    assert [cue.text for cue in cues] == ["墨画 猫", "墨画 狗", "墨画 猫"]
    assert [cue.scene for cue in cues] == ["厨房", "街", "厨房"]


def test_names_of_scenes_are_the_same_however_their_letters_are_put_together():
    cues = parse("Scene caf\u00e9: a | Scene b: b | Scene cafe\u0301: c").cues
    assert [scene for scene, _ in scenes_of(cues)] == [0, 1, 0]


def test_the_words_of_all_shots_come_first():
    cues = parse("[0s] a\n  global : noir,  \n[5s] b\n").cues
    assert [cue.text for cue in cues] == ["noir, a", "noir, b"]
    assert [(cue.line, cue.column) for cue in cues] == [(1, 1), (3, 1)]
    assert parse("GLOBAL: noir\na cat").cues[0].text == "noir a cat"


MISTAKES = {
    "[5] a": (1, 2, "5 has no unit: write 5s for seconds or 5f for frames of the video"),
    "[0s] a\r\n[5s blend 2] b": (2, 11, "2 has no unit: write 2s"),
    "[0s] a\n[1:75] b": (2, 2, "'1:75' is no time: write 5s, 0:05 or, for frames"),
    "[0s] a\n[80.5f] b": (2, 2, "'80.5f' is no time"),
    "[0s] a\n[-5s] b": (2, 2, "'-' is no time, and none of keep"),
    "[0s] a\n[5s fade] b": (2, 5, "'fade' is no time, and none of keep, recache, blend, cut, #"),
    "[smiling] a": (1, 2, "'smiling' is no time, and none of keep, recache, blend, cut, # and"),
    "[0s] a\n[5s 6s] b": (2, 5, "'6s' is one time too many"),
    "[0s] a\n[5s-] b": (2, 4, "a range has an end: write [5s-10s]"),
    "[0s] a\n[5s b": (2, 1, "this bracket is not closed: write ]"),
    "[0s] a\n[cut] b": (2, 1, "a stamp begins with a time: write [5s]"),
    "[0s] a\n[] b": (2, 1, "a stamp begins with a time"),
    "[0s] a\n[5s keep cut] b": (2, 10, "a shot begins in one way, but keep and cut are two"),
    "[0s] a\n[5s blend blend] b": (2, 11, "a shot begins in one way, but blend and blend"),
    "[0s] a\n[5s blend]# b": (2, 11, "a shot begins in one way, but blend and # are two"),
    "[0s] a\n[5s blend 0s] b": (2, 11, "a blend takes time: write blend 1s, or keep"),
    "[0s] a\n[5s @0:01] b @0:02": (2, 14, "a shot remembers one moment"),
    "[0s] a\n[5s] b @8pm": (2, 8, "'8pm' is no time: write 5s, 0:05 or, for frames of the video"),
    "[0s] a\n[5s @0:06] b": (2, 1, "@6s is not yet there: this shot begins at 5s"),
    "[5s] a": (1, 1, "the first shot begins at 5s, and nothing is said of the time before"),
    "[0s] a\n[5s] b\n[3s] c": (3, 1, "times go back: this shot begins at 3s, but the one before"),
    "[0s] a\n[0s] b": (2, 1, "times go back"),
    "[0s-5s] a\n[4s] b": (2, 1, "shots overlap: this one begins at 4s, but the one before it"),
    "[0s-5s] a\n[6s] b": (2, 1, "shots leave a gap: this one begins at 6s, but the one before"),
    "[0s] a\n[6s-5s] b": (2, 1, "this shot begins at 6s and ends at 5s: write a later end"),
    "words\n[0s] a": (1, 1, "words before the first stamp begin at 0, as that stamp does"),
    "[0s] a\n[5s]\n[6s] c": (2, 1, "this shot has no words"),
    "a | | b": (1, 5, "this shot has no words"),
    "a |": (1, 4, "this shot has no words"),
    "Scene a:\nScene b: c": (1, 1, "this shot has no words"),
    "[0s] a | b": (1, 10, "bars share the video, stamps give times: use one of the two"),
    "[0s] a\nScene x: b": (2, 1, "this scene has no time, but other shots have: write [5s]"),
    "a | [5s] b": (1, 5, "between bars a bracket stands at the end of its shot"),
    "a | [cut] b": (1, 5, "between bars a bracket stands at the end of its shot"),
    "a [5s-10s] | b": (1, 3, "here a time is how long the shot takes, without an end"),
    "a [0s] | b": (1, 3, "a shot takes some time"),
    "a [smiling] | b": (1, 4, "'smiling' is no time"),
    "a cat [5s] a dog": (1, 7, "this time stands among the words"),
    "[0s] a\n[5s] b [cut]": (2, 8, "this stands among the words: how a shot begins stands behind"),
    "[0s] a\n[5s] [@0:02] b": (2, 6, "this stands among the words"),
    "[0s] a\n[5s] [blend 2s] b": (2, 6, "this stands among the words"),
    "a [keep] b | c": (1, 3, "this stands among the words"),
    "[0s] a\n[5s] # b": (2, 6, "this # stands among the words: a cut stands in the brackets"),
    "a | b #": (1, 7, "this # stands among the words"),
    "[0s] a\n[5s] @0:02 b": (2, 6, "this moment stands among the words: write it in the brackets"),
    "a | b @2s, c": (1, 7, "this moment stands among the words"),
    "a | b @ 0:02": (1, 7, "this moment stands among the words"),
    "[0s] a\n[5s @ 2s] b": (2, 6, "a moment has its time right behind the @: write @0:02"),
    "a [5s | b": (1, 3, "this bracket is not closed"),
    "a [0:05\nb | c": (1, 3, "this bracket is not closed"),
    "GLOBAL: noir [5s]\na": (1, 14, "this time stands among the words"),
    "GLOBAL: noir [cut]\na": (1, 14, "this stands among the words"),
    "GLOBAL: noir @0:02\na": (1, 14, "this moment stands among the words"),
    "[0s] GLOBAL: noir\na": (1, 6, "GLOBAL takes a line of its own"),
    "Scene x: GLOBAL: noir\na": (1, 10, "GLOBAL takes a line of its own"),
    "Scene: a": (1, 1, "a scene has a name: write Scene kitchen:"),
    "a | Scene : b": (1, 5, "a scene has a name"),
    "a [cut] | b": (1, 1, "nothing is before the first shot, so there is no cut to it"),
    "[0s blend] a": (1, 1, "nothing is before the first shot, so it has no blend"),
    "[0s] a\nScene x: [5s blend] b": (2, 1, "scene x begins with a cut, not with blend"),
    "Scene x: a | Scene y: b [recache]": (1, 14, "scene y begins with a cut, not with recache"),
    "Scene x: a | Scene X: b [#]": (1, 14, "scene X goes on here, so there is no cut"),
    "GLOBAL: x": (1, 1, "GLOBAL stands before every shot, but there is none"),
    "a\nGLOBAL:\nb": (2, 1, "GLOBAL has no words"),
    "GLOBAL: x\na\nGLOBAL: y": (3, 1, "there are two GLOBAL lines"),
    "GLOBAL: x | a | b": (1, 11, "GLOBAL takes a whole line"),
    "a | GLOBAL: x": (1, 5, "GLOBAL takes a line of its own"),
    "GLOBAL: x\n[0s] a\n[5s\tfade] b": (3, 5, "'fade' is no time"),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told_by_line_and_column(text):
    line, column, sentence = MISTAKES[text]
    with pytest.raises(ScriptError) as error:
        parse(text)
    assert str(error.value).startswith(f"line {line}, column {column}: {sentence}")
    assert (error.value.line, error.value.column) == (line, column)
