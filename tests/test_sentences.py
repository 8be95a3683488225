"""Sentences: abbreviations, several languages, HTML's line breaks, and no text that brings the splitter down."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bertpipe.sources.text.sentences import split_sentences, without_line_break_tags

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


@pytest.mark.parametrize("tag", ["<br>", "<br/>", "<br />", "<BR />", "<br  />"])
def test_line_breaks_of_html_are_newlines(tag: str) -> None:
    assert without_line_break_tags(f"one{tag}{tag}two") == "one\n\ntwo"


def test_other_tags_stay() -> None:
    assert without_line_break_tags("<b>a</b> < br > <brown>") == "<b>a</b> < br > <brown>"


@given(st.text(), st.sampled_from(["en", "es", "zh", "hi", "xx"]))
@example("Fin A\u00a0.", "es")  # what brings sentencex down as it stands
@example("A\u2028.b", "en")
@example("A\u3000. B", "zh")
def test_no_text_is_lost_and_none_fails(text: str, language: str) -> None:
    joined = "".join(split_sentences(text, language))
    assert len(joined) == len(text)
    same = str.maketrans(dict.fromkeys(WHITE_SPACE, " "))
    assert joined.translate(same) == text.translate(same)


@given(st.text(st.sampled_from(f"Aab1.?!…。»\"'()[]*-{WHITE_SPACE}"), max_size=30))
def test_no_white_space_anywhere_brings_it_down(text: str) -> None:
    assert "".join("".join(split_sentences(text, "en")).split()) == "".join(text.split())
