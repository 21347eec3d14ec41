"""A second reader of scripts, written from the help page alone: character by character, and slow.

It knows scripts without mistakes; everything is lists of characters, of which those behind a
backslash are marked as words.
"""

from fractions import Fraction


def read(text):
    """Cues as plain tuples: words, start, end, duration, transition, blend, scene, moment."""
    shared, lines = [], []
    for line in split_lines(marked(text)):
        if is_global(plain(line).strip().lower()):
            shared = line[plain(line).index(":") + 1 :]
        else:
            lines.append(line)
    shots = [{"words": []}]
    for line in lines:
        for number, part in enumerate(split_bars(line)):
            found, part = front(part, stamps=number == 0)
            if number or (found and (words(shots[-1]["words"]) or found.keys() & shots[-1].keys())):
                shots.append({"words": []})
            shots[-1].update(found)
            shots[-1]["words"] += part
        shots[-1]["words"] += [("\n", False)]
    stamped = any("time" in shot for shot in shots)
    if len(shots) > 1 or stamped or "scene" in shots[0]:
        for shot in shots:
            back(shot, brackets=not stamped and len(shots) > 1)
    return [cue(shot, words(shared), stamped) for shot in shots]


def marked(text):
    """(character, whether a backslash makes it a word), line ends as one character."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    found, position = [], 0
    while position < len(text):
        two = text[position : position + 2]
        if len(two) == 2 and two[0] == "\\" and two[1] in "[]|@#\\":
            found.append((two[1], True))
            position += 2
        else:
            found.append((text[position], False))
            position += 1
    return found


def is_global(text):
    return text.startswith("global") and text[6:].lstrip(" \t").startswith(":")


def is_head(text):
    name, colon, _ = text.partition(":")
    good = not set(name) & set("[]|,.;!?\n")
    return bool(colon) and name.startswith("scene") and good and name[5:6] in ("", " ", "\t")


def plain(line):
    """The text in which words that a backslash made stand as nothing that could be a mark."""
    return "".join("\0" if word else letter for letter, word in line)


def words(line):
    return "".join(letter for letter, _ in line).strip()


def split_lines(line):
    lines = [[]]
    for pair in line:
        if pair == ("\n", False):
            lines.append([])
        else:
            lines[-1].append(pair)
    return lines


def split_bars(line):
    parts = [[]]
    for pair in line:
        if pair == ("|", False):
            parts.append([])
        else:
            parts[-1].append(pair)
    return parts


def front(part, *, stamps):
    """A stamp and a head before the words, in either order."""
    found, whole = {}, part
    while True:
        while part and plain(part[:1]).isspace():
            part = part[1:]
        text = plain(part)
        if stamps and text.startswith("[") and "time" not in found:
            close = text.index("]")
            inside = text[1:close]
            behind = text[close + 1 :].split()[:1] or [""]
            glued = behind[0] if text[close + 1 : close + 2] in ("#", "@") else ""
            if glued.startswith("#") and "@" not in glued:
                glued = "#"
            found |= options(f"{inside} {glued}")
            part = part[close + 1 + len(glued) :]
        elif is_head(text.lower()) and "scene" not in found:
            name, _, _ = text.partition(":")
            found["scene"] = " ".join(name.split()[1:])
            part = part[len(name) + 1 :]
        else:
            start = len(whole) - len(part)
            if text.startswith("\\") and (is_head(text[1:].lower()) or is_global(text[1:].lower())):
                part = [(part[1][0], True), *part[2:]]
            return found, part if found else whole[:start] + part


def back(shot, *, brackets):
    """A bracket and a moment behind the words, in either order."""
    for _ in range(2):
        line = shot["words"]
        while line and plain(line[-1:]).isspace():
            line.pop()
        text = plain(line)
        last = text.split()[-1] if text.split() else ""
        if last.startswith("@") and last[1:2].isdigit() and "]" not in last:
            shot["moment"] = seconds(last[1:])
            shot["words"] = line[: len(line) - len(last)]
        elif brackets and "time" not in shot and "[" in text:
            opening = text.rindex("[")
            inside, _, behind = text[opening + 1 :].partition("]")
            if "]" in text[opening:] and behind in ("", "#"):
                shot.update(options(f"{inside} {behind}"))
                shot.setdefault("time", None)
                shot["words"] = line[:opening]


def options(text):
    """What a bracket says."""
    for sign in "#@":
        text = text.replace(sign, f" {sign}")
    for dash in "-–":
        text = text.replace(dash, " - ")
    found, last = {}, None
    for word in text.lower().split():
        if word.startswith("@"):
            found["moment"] = seconds(word[1:])
        elif word in ("keep", "recache", "blend", "cut", "#"):
            found["transition"] = "cut" if word == "#" else word
        elif last == "-":
            found["end"] = seconds(word)
        elif last == "blend":
            found["blend"] = seconds(word)
        elif word != "-":
            found["time"] = seconds(word)
        last = word
    return found


def seconds(word):
    """(number, unit)."""
    if word.endswith("f"):
        return Fraction(word[:-1]), "f"
    if ":" in word:
        minutes, rest = word.split(":")
        return int(minutes) * 60 + Fraction(rest), "s"
    return Fraction(word.removesuffix("s")), "s"


def cue(shot, shared, stamped):
    time = shot.get("time")
    text = words(shot["words"])
    return (
        f"{shared} {text}" if shared else text,
        (time or (Fraction(0), "s")) if stamped else None,
        shot.get("end"),
        None if stamped else time,
        shot.get("transition"),
        shot.get("blend"),
        shot.get("scene"),
        shot.get("moment"),
    )
