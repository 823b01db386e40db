"""Names of artists and genres: compare them as a reader does, and read them from file names."""

import itertools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

# Number of a track, with that of the disc (1-02) or the side (A1) before it.
_NUMBER = r"(?:\d{1,3}|[a-h]\d{1,2}|\d{1,2}[-.]\d\d)"
# Signs between a number and a name without which "50 Cent", "2Pac" and "10,000 Maniacs" are names.
_TRACK_NUMBER = re.compile(
    rf"""(?: (?:track|cd|dis[ck])\s* )?
         (?: [\[(]{_NUMBER}[\])]            # [04] Name, (04) Name
           | {_NUMBER}\s?[.)](?!\d)         # 01. Name, 1) Name
           | {_NUMBER}\s?[-–—]\s            # 03 - Name
           | (?:0|\#)\d{{1,2}}[\s_–—-]      # 03 Name, 03_Name, #3 Name
           | \d{{1,2}}[-.]\d\d[\s_]         # 1-02 Name
         ) [\s._–—-]* (?=\S)""",
    re.IGNORECASE | re.VERBOSE,
)
_BARE_NUMBER = re.compile(r"(\d{1,3}|[a-h]\d{1,2})[\s_]+(?=\S)", re.IGNORECASE)
_NUMBER_FIRST = re.compile(r"(?:track|cd|dis[ck])?\s*[\[(#]?[a-h]?\d", re.IGNORECASE)
_ONLY_NUMBER = re.compile(
    r"(?:track|cd|dis[ck])?\s*[\[(#]?\d+(?:[-.]\d\d)?[\])]?\.?", re.IGNORECASE
)
_ONLY_SIDE = re.compile(r"[a-d][1-9]\.?", re.IGNORECASE)
#: Name of a folder that is only the number of a disc.
ONLY_DISC = re.compile(r"(?:cd|dis[ck])[\s_-]*\d+", re.IGNORECASE)
_DASHES = "-‐‑‒–—―−－"
_DASH = re.compile(rf"\s+[{_DASHES}]\s+")

# What follows the main artist. The first part is greedy, so that "Little Feat feat. B" is right.
_FEATURED = re.compile(r"(.*[^\s(\[])[\s(\[]+(?:(?:feat|ft)\.|(?:feat|ft|featuring)\s)\s*\S.*")
_OTHERS = re.compile(r"(.*\S)\s*(?:[(\[]with\s.*|;.*)")  # FFmpeg joins several tags with ";"
_BESIDE = re.compile(r"\s(?:and|x|vs\.?|versus|with|w/|pres(?:\.|ents)|\+)\s|\s?[,/|•·\\]\s?")
_ARTICLE_LAST = re.compile(r"(.*\S)\s*[,(]\s*(the|der|die|das|le|la|les|los|las|el|os|as)\)?")
_ONE_SIGN = str.maketrans(
    dict.fromkeys("_" + _DASHES, " ") | dict.fromkeys("’‘`ʼ", "'") | {"&": " and "}
)
# Names that programs write where they know none.
_UNKNOWN = {"", "<unknown>", "n/a", "none", "unknown", "unknown album", "unknown artist"}
_UNKNOWN |= {"va", "v.a.", "v/a", "various", "various artists", "compilation", "compilations"}
_UNKNOWN |= {"unbekannt", "unbekannter interpret", "unbekannter künstler", "artiste inconnu"}
_UNKNOWN |= {"verschiedene", "verschiedene interpreten", "verschiedene künstler", "diverse"}
_UNKNOWN |= {"[unknown]", "[no artist]", "nan", "<na>", "null"}
_MIN_LETTERS = 6  # of a word; in shorter words, one changed letter usually makes another name
_MAX_LENGTH = 300  # of a key: a damaged tag may be of any length


def genre_key(name: str) -> str:
    """Return what is equal for all spellings of a genre: case, Unicode form, spaces, dashes."""
    return _settle(lambda text: _fold(text).translate(_ONE_SIGN), name)


def artist_key(name: str) -> str:
    """Return what is equal for all spellings of an artist, or an empty string for no artist.

    Beyond :func:`genre_key`, numbers of tracks, featured artists and the article do not count.
    """
    key = _settle(_simplify, name)
    return "" if key in _UNKNOWN else key


def main_artist(key: str, keys: Collection[str]) -> str:
    """Return the first of several artists, as in "A & B", if keys has it alone."""
    firsts = (key[: match.start()] for match in _BESIDE.finditer(key))
    return next((first for first in firsts if first in keys), key)


def _settle(simplify: Callable[[str], str], text: str) -> str:
    """Simplify a text until it stays the same: some Unicode forms need two rounds."""
    while (simpler := " ".join(simplify(text).split())) != text:
        text = simpler
    return text


def _fold(text: str) -> str:
    # NFKC makes a space and an accent of the ´ that some write as an apostrophe.
    folded = unicodedata.normalize("NFKC", text).replace(" \u0301", "'").casefold()
    # Characters that control the layout, such as a zero-width space, cannot be seen.
    visible = "".join(c for c in folded[:_MAX_LENGTH] if unicodedata.category(c) != "Cf")
    return " ".join(visible.split())


def _simplify(text: str) -> str:
    text = drop_number(_fold(text))
    for pattern in (_OTHERS, _FEATURED):
        if match := pattern.fullmatch(text):
            text = match[1]
    if match := _ARTICLE_LAST.fullmatch(text):
        text = f"{match[2]} {match[1]}"
    return text.removeprefix("the ").translate(_ONE_SIGN)


def drop_number(name: str) -> str:
    """Return a name without the number of a track before it."""
    return name[match.end() :] if (match := _TRACK_NUMBER.match(name)) else name


def begins_with_number(name: str) -> bool:
    """Check whether a name may begin with the number of a track; "50 Cent" does, too."""
    return bool(_NUMBER_FIRST.match(name))


def parse_file_name(stem: str) -> tuple[str, str]:
    """Return artist and title from ``Artist - Title``, the artist without a track number."""
    text = unicodedata.normalize("NFC", stem)
    first, *others = _DASH.split(text if " " in text else text.replace("_", " "))
    if not others:
        return "", stem
    if len(others) > 1 and _ONLY_SIDE.fullmatch(first):
        first, *others = others
    while others and _ONLY_NUMBER.fullmatch(first):
        first, *others = others
    return (drop_number(first), " - ".join(others)) if others else ("", first)


def parse_folder(name: str) -> tuple[str, str]:
    """Return artist and album from the name of a folder, ``Artist`` or ``Artist - Album``."""
    name = drop_number(name)
    artist, album = parse_file_name(name)
    return (name, "") if album == name else (artist, album)


def drop_track_numbers(artists: Sequence[str]) -> list[str]:
    """Drop leading numbers that are track numbers, judged from all artists.

    "12 Metallica" is an artist, unless "Metallica" or "11 Metallica" is there as well.
    """
    numbers = defaultdict(set)
    matches = [_BARE_NUMBER.match(artist) for artist in artists]
    for artist, match in zip(artists, matches, strict=True):
        numbers[artist_key(artist)].add("")
        if match:
            numbers[artist_key(artist[match.end() :])].add(match[1])
    names = []
    for artist, match in zip(artists, matches, strict=True):
        name = artist[match.end() :] if match else artist
        names.append(name if len(numbers[artist_key(name)]) > 1 else artist)
    return names


def unify_genres(names: Sequence[str]) -> list[str]:
    """Return the genres in one spelling each, the most frequent one or else the first."""
    shown = [" ".join(unicodedata.normalize("NFC", name).split()) for name in names]
    spellings: dict[str, Counter] = defaultdict(Counter)
    for name in shown:
        spellings[genre_key(name)][name] += 1
    return [spellings[genre_key(name)].most_common(1)[0][0] for name in shown]


def find_similar(keys: Iterable[str]) -> list[tuple[str, str]]:
    """Find pairs of keys that differ only by a letter, accents, punctuation or the word order.

    The time is proportional to the number of letters: keys that are equal without one letter of
    a word, or equal as they are, share a dictionary entry.
    """
    met: dict[str, list[str]] = defaultdict(list)
    for key in sorted(set(keys)):
        for form in _similar_forms(key):
            met[form].append(key)
    pairs = {pair for same in met.values() for pair in itertools.pairwise(same)}
    # Names with different numbers are different.
    return sorted((a, b) for a, b in pairs if re.findall(r"\d+", a) == re.findall(r"\d+", b))


def _similar_forms(key: str) -> set[str]:
    letters = "".join(c for c in unicodedata.normalize("NFKD", key) if not unicodedata.combining(c))
    words = ["".join(filter(str.isalnum, word)) for word in letters.split()]
    forms = {"".join(words), "".join(sorted(words))} - {""}
    for i, word in enumerate(words):
        if len(word) >= _MIN_LETTERS:
            for k in range(len(word)):
                forms.add("".join([*words[:i], word[:k], word[k + 1 :], *words[i + 1 :]]))
    return forms
