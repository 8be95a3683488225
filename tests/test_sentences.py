"""Sentences: abbreviations, languages, brackets, lines, long texts, and no text that brings the splitter down."""

import random
import textwrap
from collections.abc import Callable

import pytest
import sentencex
from hypothesis import example, given
from hypothesis import strategies as st

from bertpipe.sources.text.sentences import split_pieces, split_sentences, without_line_break_tags

WHITE_SPACE = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        (
            "es",
            [
                "El Sr. Ruiz y la Sra. Vega viven en Sevilla. ",
                "¿Los conoces? ",
                "¡Claro que sí! ",
                "Trabajan en EE. UU. desde 2010.",
            ],
        ),
        ("es", ["Pagó 3.500,75 € el 1 de enero, p. ej., por la cena. ", "Después se fue."]),
        ("es", ["¡¿Qué dices?! ", "No lo creo... ", "Pero quizá sea verdad."]),
        ("en", ["Mr. Lee paid $3.50 in Washington, D.C. last May. ", "Why? ", "Nobody knows!"]),
        ("de", ["Am 3. Mai kam Dr. Kern zu Fuß. ", "Es war z. B. sehr kalt."]),
        ("fr", ["Mme Petit est partie à 8 h. ", "Où va-t-elle ? ", "Personne ne le sait."]),
        ("zh", ["我们走吧。", "你呢。"]),
        ("en", ["Well\u2026 ", "They went home\u2026 by bus\u2026 ", "Nobody knows why."]),
        # Stops that the splitter does not know, or spaces in place of them.
        ("km", ["គ្រូជួសជុលស្ពានចាស់។", "កសិករទិញផ្លែឈើ។ ", "ក្មេងប្រុសភ្លេចចង្កៀង។"]),
        ("bo", ["དགེ་རྒན་གྱིས་ཟམ་པ་བཅོས།། །", "ཞིང་པས་ཤིང་ཏོག་ཉོས། ", "བྱིས་པས་སྒྲོན་མེ་བརྗེད།"]),
        ("my", ["ဆရာသည် တံတားကို ပြင်သည်။ ", "လယ်သမားသည် သစ်သီးဝယ်သည်။"]),
        ("th", ["ครูใหญ่ซ่อมสะพานไม้เก่าริมแม่น้ำ ทุกวันเสาร์ตอนเช้า ", "ชาวนาซื้อผลไม้สดหลังโรงสี แล้วเดินกลับบ้าน"]),
        ("el", ["Ξέχασε το παιδί τη λάμπα; ", "Πήγε σπίτι."]),
        ("am", ["ገበሬው ፍሬ ገዛ። ", "ልጁ መብራቱን ረሳ፧"]),
        # No rules of its own: those of a related language.
        ("ast", ["La Dra. Gil llegó ayer. ", "El Dr. Paz se fue."]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(language: str, sentences: list[str]) -> None:
    assert split_sentences("".join(sentences), language) == sentences


def test_a_language_has_its_own_abbreviations() -> None:
    text = "Vive con la Sra. Vega."
    assert split_sentences(text, "es") == [text]
    assert split_sentences(text, "en") != [text]


def test_an_empty_line_ends_a_sentence_and_a_single_line_end_does_not() -> None:
    sentences = split_sentences("A title\n\nA line that\ngoes on. The end.", "en")
    assert [sentence for sentence in sentences if sentence.strip()] == [
        "A title",
        "A line that\ngoes on. ",
        "The end.",
    ]


# Signs that mislead


@pytest.mark.parametrize(
    "sentences",
    [
        ["I was sad :( ", "The plot made no sense. ", "It went on for hours. ", "The end came early :)"],
        ["I <3 this one. ", "It is short. ", "It went from 2 -> 9 for me. ", "So did x <= 3."],
        ["We laughed :-D ", "Then it rained =( ", "Nobody minded \U0001f44d\U0001f3fd ", "Good."],
        ["He came (late. ", "She left. ", "They met again."],
        ["He came [late. ", "She (my aunt) left. ", "They met 3) again."],
        ["{ He came. ", "She left. ", "They met again."],
        ['The 6" and 5" nails held. ', "They rusted. ", 'An 8" nail did not.'],
        ['Hello," he said. ', '"Come in. Or not." ', "She came. ", 'The door was 20" wide.'],
        ["Just kidding (or not :). ", "She left. ", "They met again :)"],
    ],
)
def test_a_bracket_without_its_partner_and_an_emoticon_mislead_nobody(sentences: list[str]) -> None:
    assert split_sentences("".join(sentences), "en") == sentences


def test_what_stands_in_brackets_is_one_aside_if_it_is_short() -> None:
    assert split_sentences("He came (late. Very late.) and left. So did I.", "en") == [
        "He came (late. Very late.) and left. ",
        "So did I.",
    ]
    long_one = f"He came (late. {'The night was cold and long. ' * 10}We froze) and left."
    assert len(split_sentences(long_one, "en")) == 12


# Small letters

GERMAN = ["Das war es. ", "Dann gingen wir heim! ", "Es war z. B. sehr kalt. ", "Niemand sang. ", "Warum auch?"]


@pytest.mark.parametrize("language", ["de", "fi", "sk", "cs", "da", "ca", "kk", "en", "es"])
def test_sentences_are_the_same_in_small_letters(language: str) -> None:
    sentences = ["Wagen kamen. ", "Sonne schien. ", "Vater sang! ", "Lampen brannten. ", "Tee war da."]
    for change in (str, str.lower, lambda text: text.replace("Sonne", "sonne").replace("Lampen", "lampen")):
        assert split_sentences(change("".join(sentences)), language) == list(map(change, sentences))


def test_abbreviations_stay_where_sentences_begin_with_capitals() -> None:
    assert split_sentences("".join(GERMAN), "de") == GERMAN
    unknown = "Er wohnte ehem. in Kiel. Sie wohnte gegenüber. Das Haus war alt. Der Garten war klein. Es gab Tee."
    assert len(split_sentences(unknown, "de")) == 5
    assert len(split_sentences(f"Er war gebürt. aus Kiel. {''.join(GERMAN)}", "de")) == 6
    assert split_sentences("".join(GERMAN).lower(), "de") == [sentence.lower() for sentence in GERMAN]


# Lines

LINES = [
    "the old baker carries a ladder to the station",
    "nobody saw it fall",
    "we waited for the clever sailor near the mill but he never came back to us",
    "is it late",
    "the green river hides a wooden letter under the roof of the market hall",
    "it rained",
]
PROSE = " ".join(f"{line.capitalize()}." for line in LINES)


def found(text: str, language: str = "en", found_by: str = "auto") -> list[str]:
    """Return the sentences without the white space around them."""
    pieces = split_sentences(text, language, found_by)  # type: ignore[arg-type]
    assert "".join(pieces) == text
    return [piece.strip() for piece in pieces if piece.strip()]


@pytest.mark.parametrize(
    "as_text",
    [
        "\n".join,
        "\r\n".join,
        " \n\t".join,
        "\t".join,
        " \t ".join,
        lambda lines: "\n".join(f"{a}\t{b}" for a, b in zip(lines[::2], lines[1::2], strict=True)),
        lambda lines: "\n".join(lines).upper(),
        lambda lines: "\n".join(line.capitalize() for line in lines),
        lambda lines: "\n".join(line.capitalize() + "." * (at % 2) for at, line in enumerate(lines)),
        lambda lines: "\n".join(f"{line.capitalize()}," for line in lines),
        lambda lines: "\n".join(f"- {line.capitalize()}." for line in lines),
        lambda lines: "\n".join(f"- {line}" for line in lines),
        lambda lines: "\n".join(f"{number}. {line}" for number, line in enumerate(lines)),
        lambda lines: "\n".join(f"[12:0{number}] <anna> {line}" for number, line in enumerate(lines)),
        lambda lines: "\n".join(f"{line} :)" for line in lines),
    ],
)
@pytest.mark.parametrize("language", ["en", "de"])
def test_a_line_is_a_sentence_where_sentences_have_lines_of_their_own(
    as_text: Callable[[list[str]], str], language: str
) -> None:
    assert len(found(as_text(LINES), language)) == len(LINES)
    assert all(1 < len(found(as_text(LINES[:count]), language)) <= count for count in (2, 4))


@pytest.mark.parametrize("width", [40, 50, 60, 72, 80, 100, 120])
@pytest.mark.parametrize("change", [str, str.lower, lambda text: text.replace("\n", "\r\n")])
@pytest.mark.parametrize("first", ["", "    "])
def test_a_line_end_within_a_sentence_is_none_in_wrapped_text(
    width: int, change: Callable[[str], str], first: str
) -> None:
    chance = random.Random(width)
    words = [
        chance.sample(PROSE.replace(".", "").replace(" a ", " ").lower().split(), chance.randint(4, 30))
        for _ in range(20)
    ]
    sentences = [f"{' '.join(each).capitalize()}." for each in words]
    wrapped = "\n".join(textwrap.wrap(" ".join(sentences), width, initial_indent=first))
    assert len(found(change(wrapped))) == len(sentences)
    assert [" ".join(each.split()) for each in found(change(wrapped))] == list(map(change, sentences))


def test_one_line_that_is_too_long_does_not_make_wrapped_text_lines() -> None:
    lines = textwrap.wrap(PROSE, 60)
    lines.insert(2, f"https://example.org/{'a' * 90}")
    assert len(found("\n".join(lines))) == len(LINES)


def test_wrapped_lines_of_a_text_without_any_stop_are_no_sentences() -> None:
    wrapped = "\n".join(textwrap.wrap(" ".join(LINES * 5), 72))
    assert len(found(wrapped)) == 1
    assert len(found(wrapped, found_by="lines")) == wrapped.count("\n") + 1


def test_a_heading_above_wrapped_text_does_not_make_it_lines() -> None:
    wrapped = "\n".join(textwrap.wrap(PROSE, 72))
    assert found(f"A heading\n\n{wrapped}") == ["A heading", *found(wrapped)]
    assert found(f"A heading\n{wrapped}") == ["A heading", *found(wrapped)]


def test_lines_as_long_as_each_other_are_sentences_if_their_stops_all_stand_at_line_ends() -> None:
    lines = [
        f"the {word} baker carries the ladder to the old mill" for word in ("green", "quiet", "early", "heavy", "wooly")
    ]
    assert found("\n".join(line + "." * (at in {1, 3}) for at, line in enumerate(lines)))[-1] == lines[-1]
    assert len(found("\n".join(line + "." * (at in {1, 3}) for at, line in enumerate(lines)))) >= 3


def test_in_a_text_of_lines_an_item_may_be_wrapped() -> None:
    items = [
        "- The first item is so long that it had to be wrapped\n  where the line was full, as one does.",
        "- The second item",
        "- A third item",
        "- The fourth item is too long for a line of this text\n  as well.",
    ]
    assert found("\n".join(items)) == items


def test_in_a_text_of_lines_a_paragraph_may_be_wrapped() -> None:
    title = [f"Written by author {number}" for number in range(3)]
    sentences = [
        "The book is given to Anna and to Berta and Carla as it is.",
        "It may be lost in Berlin or in Paris or elsewhere and never be seen again by Dora.",
    ]
    notice = textwrap.wrap(" ".join(sentences), 44)
    assert any(line[0].isupper() for line in notice[1:])
    pieces = found("\n".join([*title, "", *notice]))
    assert [" ".join(piece.split()) for piece in pieces] == [*title, *sentences]


@pytest.mark.parametrize(
    ("language", "lines"),
    [
        ("th", ["ครูใหญ่ซ่อมสะพาน", "ชาวนาซื้อผลไม้สดหลังโรงสีแล้วเดินกลับบ้าน", "หมอหนุ่ม"]),
        ("zh", ["老师修桥", "农民买水果然后回家睡觉了", "孩子忘了灯", "他回家了"]),
    ],
)
def test_lines_of_scripts_without_spaces_are_sentences(language: str, lines: list[str]) -> None:
    assert found("\n".join(lines), language) == lines


def test_wrapped_chinese_is_split_at_its_stops() -> None:
    sentences = [
        "老师今天早上在河边修那座旧的木桥和农民在磨坊后面买了很多新鲜的水果。",
        "孩子昨天晚上把灯忘在港口了。",
    ] * 6
    text = "".join(sentences)
    wrapped = "\n".join(text[at : at + 35] for at in range(0, len(text), 35))
    assert len(found(wrapped, "zh")) == len(sentences)


def test_the_rule_can_be_chosen() -> None:
    text = "One here. Two there\nThree is\tfour"
    assert found(text, found_by="lines") == ["One here. Two there", "Three is", "four"]
    assert found(text, found_by="rules") == ["One here.", "Two there\nThree is\tfour"]
    assert found("A line that\ngoes on. The end.", found_by="lines") == ["A line that", "goes on. The end."]


def test_pieces_for_the_notebooks_recipe_are_the_text_where_its_stops_are_enough() -> None:
    wrapped = "\n".join(textwrap.wrap(PROSE, 40))
    assert split_pieces(wrapped, "en") == [wrapped]
    assert split_pieces(f"{PROSE}\n", "en", "rules") == [f"{PROSE}\n"]
    assert split_pieces("A. B\nC d\nE f", "en") == ["A. B\n", "C d\n", "E f"]
    assert split_pieces("Sad :( So bad", "en") == ["Sad :( ", "So bad"]
    assert split_pieces("我们走吧。你呢。", "zh", "rules") == ["我们走吧。", "你呢。"]
    assert split_pieces("A. B\nC.", "en", "lines") == ["A. B\n", "C."]


# Long texts


@pytest.mark.parametrize("joint", ["\n- ", " ( ", ' "', " \u201c", " '", " ", "\n", "\n1. ", " :( "])
def test_the_splitter_never_sees_much_of_a_text_at_once(monkeypatch: pytest.MonkeyPatch, joint: str) -> None:
    longest = 0

    def watched(language: str, text: str) -> list[str]:
        nonlocal longest
        longest = max(longest, *map(len, text.split("\n\n")))
        return segment(language, text)

    segment = sentencex.segment
    monkeypatch.setattr(sentencex, "segment", watched)
    sentences = [f"The {number}th of them was long and rather dull, I thought." for number in range(2000)]
    pieces = split_sentences(joint.join(sentences), "en")
    assert len(pieces) > 0.9 * len(sentences)
    assert "".join(pieces) == joint.join(sentences)
    assert longest <= 1 << 13


def test_a_long_paragraph_has_the_sentences_of_short_ones() -> None:
    sentences = [f"Mr. {name} paid $3.50 in Washington, D.C. last May (or June. Or so). " for name in LINES * 200]
    assert split_sentences("".join(sentences), "en") == sentences


def test_a_sentence_longer_than_what_is_seen_at_once_stays_whole() -> None:
    pieces = ["Short one. ", f"{'very ' * 8000}long. ", "Short one."]
    assert split_sentences("".join(pieces), "en") == pieces


# The splitter fails


class PanicException(BaseException):
    """As the splitter's Rust code raises one."""


@pytest.mark.parametrize("text", ["One. Two there.\n\nThree? Four", "one\ntwo. three\n\nfour"])
@pytest.mark.parametrize("loses", [False, True])
def test_a_text_on_which_the_splitter_fails_is_split_at_its_stops(
    monkeypatch: pytest.MonkeyPatch, text: str, loses: bool
) -> None:
    def failing(_: str, text: str) -> list[str]:
        if loses:
            return [text[:-1]]
        raise PanicException

    monkeypatch.setattr(sentencex, "segment", failing)
    assert len(found(text)) == 4


@pytest.mark.parametrize("empty", ["\n\n", "\r\n\r\n", "\n \t\n", "\r\r", "\u2029\u2029"])
@pytest.mark.parametrize("count", [2, 900])
def test_each_kind_of_empty_line_ends_a_sentence_in_short_and_long_texts(empty: str, count: int) -> None:
    titles = [f"To Mr. Title {number}" for number in range(count)]
    pieces = split_sentences(empty.join(titles), "en", "rules")
    assert [piece.strip() for piece in pieces if piece.strip()] == titles


@pytest.mark.parametrize("tag", ["<br>", "<br/>", "<br />", "<BR />", "<br  />"])
def test_line_breaks_of_html_are_newlines(tag: str) -> None:
    assert without_line_break_tags(f"one{tag}{tag}two") == "one\n\ntwo"


def test_other_tags_stay() -> None:
    assert without_line_break_tags("<b>a</b> < br > <brown>") == "<b>a</b> < br > <brown>"


@given(st.text(), st.sampled_from(["en", "es", "zh", "hi", "xx"]))
@example("Fin A\u00a0.", "es")  # what brings sentencex down as it stands
@example("A\u2028.b", "en")
@example("A\u3000. B", "zh")
@example("1 \t2\r3\r\n4 (5\n\n6", "de")
def test_no_text_is_lost_and_none_fails(text: str, language: str) -> None:
    same = str.maketrans(dict.fromkeys(WHITE_SPACE, " "))
    for split in (split_sentences, split_pieces):
        for found_by in ("auto", "lines", "rules"):
            pieces = split(text, language, found_by)  # type: ignore[arg-type]
            assert "".join(pieces).translate(same) == text.translate(same)
            assert all(pieces) or not text


@given(st.text(st.sampled_from(f"Aab1.?!…。»\"'()[]*-:<3นន་།{WHITE_SPACE}"), max_size=30))
def test_no_white_space_anywhere_brings_it_down(text: str) -> None:
    assert "".join("".join(split_sentences(text, "en")).split()) == "".join(text.split())
