"""The embedded sample: English that holds together, and facts that a model can learn."""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
from ruamel.yaml.error import YAMLError

from bertpipe.sources.sample import english
from bertpipe.sources.sample.english import gerund, past, plural, third_person, with_articles
from bertpipe.sources.sample.reviews import Review, generate_reviews
from bertpipe.sources.sample.template import Template
from bertpipe.sources.sample.texts import Genre, Tone, texts
from bertpipe.sources.sample.world import Film, Person, generate_films

TEXTS = Path(english.__file__).parent
COUNTRIES = texts().facts.countries
GENRES = texts().genres
TONES = texts().voices.tones
OPENING = texts().patterns.opening
GENERIC_PATTERNS = tuple(itertools.chain.from_iterable(asdict(texts().patterns).values()))
REMARKS = tuple(remark for genre in GENRES for remark in genre.remarks)
SHARED_LABEL_WORDS = {
    "film",
    "story",
    "drama",
    "tale",
    "adventure",
    "comedy",
    "thriller",
    "saga",
    "opera",
    "epic",
    "farce",
}
"""The words of a label that any genre may use."""


def topic_words(genre: Genre) -> set[str]:
    """Return the words that mark this genre and occur in no review of another."""
    marking = {word for label in genre.labels for word in label.split()} - SHARED_LABEL_WORDS
    for scene in genre.scenes:  # any genre may use the verb and the preposition
        nouns = (scene.person, scene.object, scene.event)
        marking |= {*nouns, *map(plural, nouns), scene.place, scene.quality}
    return marking.union(genre.flavours)


def tone_words(tone: Tone) -> set[str]:
    """Return the single words of this tone, which no other tone uses."""
    verbs = (form(verb) for verb in tone.shine for form in (third_person, past))
    return {*tone.good, *tone.well, *tone.marvel, *verbs}


OWNER = {word: genre.name for genre in GENRES for word in topic_words(genre)}
PRONOUNS = {
    **dict.fromkeys(("she", "her", "herself"), True),
    **dict.fromkeys(("he", "his", "him", "himself"), False),
}
SILENT_H = ("hour", "heir", "honest")


@pytest.fixture(scope="module")
def reviews() -> list[Review]:
    return list(generate_reviews(seed=7, films=300, reviews=3_000))


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def sentences(reviews: list[Review]) -> list[str]:
    return [sentence for review in reviews for sentence in review.sentences]


def film(**changes: object) -> Film:
    genre = next(genre for genre in GENRES if genre.name == "western")
    (original,) = generate_films(seed=7, films=1)
    facts = {name: getattr(original, name) for name in Film.__dataclass_fields__}
    people = {
        "director": Person(first="Eva", last="Stone", she=True),
        "lead": Person(first="Ada", last="Reed", she=True),
        "second": Person(first="Max", last="Hill", she=False),
    }
    return Film(**facts | people | {"genre": genre, "roles": genre.scenes[:2]} | changes)


def template(*, positive: bool = True, **changes: object) -> Template:
    return Template(film=film(**changes), positive=positive, rng=random.Random(5))


def pattern_regex(pattern: str) -> re.Pattern[str]:
    # Articles may have become "an", slots stand for anything, choices and tenses for any of their options.
    text = re.sub(r"[.?!]$", lambda end: re.escape(end[0]), pattern)
    text = re.sub(r"\{[^}]*\}", ".+", text)
    text = re.sub(r"([a-z]+)/([a-z]+)", r"(?:\1|\2)", text)
    text = re.sub(r"\ba\b", "an?", text)
    text = text.replace("[", "(?:").replace("]", ")").replace("<", "(?:").replace(">", ")")
    return re.compile(f"(?:(?:{'|'.join(texts().voices.joiners)}) )?{text}", re.IGNORECASE)


def test_same_arguments_give_the_same_reviews() -> None:
    first = list(generate_reviews(seed=3, films=30, reviews=40))
    assert first == list(generate_reviews(seed=3, films=30, reviews=40))
    assert first != list(generate_reviews(seed=4, films=30, reviews=40))


def test_a_review_does_not_depend_on_how_many_follow_it() -> None:
    long = list(generate_reviews(seed=3, films=30, reviews=40))
    assert long[:10] == list(generate_reviews(seed=3, films=30, reviews=10))


def test_no_hash_of_a_string_decides_anything() -> None:
    code = (
        "from bertpipe.sources.sample.reviews import generate_reviews\n"
        "for review in generate_reviews(seed=3, films=30, reviews=20): print(review.text)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert runs[0].splitlines() == [r.text for r in generate_reviews(seed=3, films=30, reviews=20)]


def test_films_keep_their_facts_and_share_no_title(reviews: list[Review]) -> None:
    films = list(generate_films(seed=7, films=300))
    assert len({film.title for film in films}) == 300
    assert {review.film.title: review.film for review in reviews} == {film.title: film for film in films}
    assert set(Counter(film.genre.name for film in films).values()) == {21, 22}  # 300 = 14 * 21 + 6


def test_most_critics_agree_about_a_film(reviews: list[Review]) -> None:
    agreeing = sum(review.positive == review.film.acclaimed for review in reviews) / len(reviews)
    assert 0.82 < agreeing < 0.88


def test_a_surname_names_one_person_and_a_city_one_country() -> None:
    surnames = [surname for country in COUNTRIES for surname in country.surnames]
    cities = [city for country in COUNTRIES for city in country.cities]
    assert len(set(surnames)) == len(surnames) == 120
    assert len(set(cities)) == len(cities) == 36


def test_there_are_many_patterns_and_words(reviews: list[Review]) -> None:
    patterns = GENERIC_PATTERNS + REMARKS
    assert len(set(patterns)) == len(patterns) >= 250
    assert len({word for review in reviews for word in words(review.text)}) >= 2_000


def test_every_pattern_is_used(reviews: list[Review]) -> None:
    said = sentences(reviews)
    unused = [pattern for pattern in GENERIC_PATTERNS + REMARKS if not any(map(pattern_regex(pattern).fullmatch, said))]
    assert unused == []


def test_reviews_have_four_to_twelve_sentences(reviews: list[Review]) -> None:
    assert {len(review.sentences) for review in reviews} == set(range(4, 13))


def test_reviews_open_with_an_opening(reviews: list[Review]) -> None:
    openings = [pattern_regex(pattern) for pattern in OPENING]
    assert all(any(o.fullmatch(review.sentences[0]) for o in openings) for review in reviews[:300])
    assert all(review.film.title in review.sentences[0] for review in reviews)


def test_sentences_are_clean(reviews: list[Review]) -> None:
    # Letters, digits and commas, then one terminator; so `basic_english` splits them as we count here.
    for sentence in sentences(reviews):
        assert re.fullmatch(r"[A-Z][A-Za-z0-9, ]*[a-z0-9][.?!]", sentence), sentence
        assert not re.search(r"  | ,|,(?! )", sentence), sentence


def test_sentences_have_six_to_twenty_two_tokens(reviews: list[Review]) -> None:
    lengths = [len(re.findall(r"\w+|[.,?!]", sentence)) for sentence in sentences(reviews)]
    assert min(lengths) >= 6
    assert max(lengths) <= 22
    assert 12 < sum(lengths) / len(lengths) < 14


def test_articles_agree(reviews: list[Review]) -> None:
    for sentence in sentences(reviews):
        said = words(sentence)
        for article, word in itertools.pairwise(said):
            vowel = word.startswith((*"aeiou", *SILENT_H)) and not word.startswith(("uni", "one"))
            if article in ("a", "an"):
                assert (article == "an") == vowel, sentence


def test_topic_words_belong_to_one_genre() -> None:
    assert len(GENRES) == 14
    for one, other in itertools.combinations(GENRES, 2):
        assert not topic_words(one) & topic_words(other)
    for genre in GENRES:
        singular = {word for s in genre.scenes for word in (s.person, s.object, s.place, s.event, s.quality)}
        assert len(singular) == 50  # ten scenes of five words, none of them twice


def test_every_sentence_tells_its_genre_and_no_other(reviews: list[Review]) -> None:
    for review in reviews:
        for sentence in review.sentences:
            owners = {OWNER[word] for word in words(sentence) if word in OWNER}
            assert owners == {review.film.genre.name}, sentence


def test_no_fixed_word_of_a_generic_pattern_tells_a_genre_or_a_tone() -> None:
    telling = OWNER.keys() | {word for tone in TONES for word in tone_words(tone)}
    for pattern in GENERIC_PATTERNS:
        assert not telling & set(words(re.sub(r"\{[^}]*\}", " ", pattern))), pattern


def test_judging_words_belong_to_one_tone() -> None:
    for one, other in itertools.combinations(TONES, 2):
        assert not tone_words(one) & tone_words(other)


def test_a_review_keeps_one_tone_and_it_is_that_of_the_verdict(reviews: list[Review]) -> None:
    judged = 0
    for review in reviews:
        heard = [tone for tone in TONES if tone_words(tone) & set(words(review.text))]
        assert len(heard) <= 1
        assert all(tone.positive == review.positive for tone in heard)
        judged += len(heard)
    assert judged > 0.98 * len(reviews)


def test_a_pronoun_refers_to_somebody_named_before(reviews: list[Review]) -> None:
    # Role pronouns ("the sheriff has her harp") may come before the name: they agree with the film's people.
    for review in reviews:
        everybody = {person.she for person in review.film.people}
        assert {PRONOUNS[word] for word in words(review.text) if word in PRONOUNS} <= everybody
        named: set[str] = set()
        for sentence in review.sentences:
            named |= set(re.findall(r"\w+", sentence))
            gender = {person.she for person in review.film.people if person.last in named}
            start = words(sentence.removesuffix("."))[0]
            if start in ("he", "she"):
                assert PRONOUNS[start] in gender, review.text


@pytest.mark.parametrize("patterns", [GENERIC_PATTERNS, REMARKS])
def test_patterns_hold_no_pronoun_of_their_own(patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        assert not PRONOUNS.keys() & set(words(re.sub(r"\{[^}]*\}", " ", pattern))), pattern


def test_people_are_named_in_full_then_by_surname() -> None:
    made = template()
    assert made.sentence("{lead} meets {second:whom}.") == "Ada Reed meets Max Hill."
    assert made.sentence("{lead:name} runs.") == "Reed runs."


def test_a_pronoun_stands_only_where_it_is_clear() -> None:
    clear, unclear = Counter[str](), Counter[str]()
    for seed in range(200):
        made = Template(film=film(), positive=True, rng=random.Random(seed))
        made.sentence("{lead} meets {second:whom}.")
        clear[made.sentence("{second} runs from {lead:whom}.")] += 1
        made = Template(film=film(), positive=True, rng=random.Random(seed))
        made.sentence("{lead} meets {director:whom}.")  # two women
        unclear[made.sentence("{lead} runs.")] += 1
    assert clear.keys() == {
        "Hill runs from Reed.", "He runs from Reed.", "Hill runs from her.", "He runs from her."
    }  # fmt: skip
    assert unclear.keys() == {"Reed runs."}


@pytest.mark.parametrize(
    ("she", "expected"),
    [
        (True, "Ada Reed, an actress, trusts herself, her horse follows her, she is a woman."),
        (False, "Ada Reed, an actor, trusts himself, his horse follows him, he is a man."),
    ],
)
def test_forms_agree_with_the_person(she: bool, expected: str) -> None:
    made = template(lead=Person(first="Ada", last="Reed", she=she))
    subject = "{lead}, a {lead:actor}, trusts {lead:self}, "
    rest = "{lead:his} horse follows {lead:him}, {lead:he} is a {lead:man}."
    assert made.sentence(subject + rest) == expected


def test_choices_follow_the_verdict() -> None:
    assert template(positive=True).sentence("it [wins|fails].") == "It wins."
    assert template(positive=False).sentence("it [wins|fails].") == "It fails."


def test_linked_choices_and_tenses_agree() -> None:
    linked, tenses = set(), set()
    for seed in range(40):
        made = Template(film=film(), positive=True, rng=random.Random(seed))
        linked.add(made.sentence("<neither|both> one <nor|and> two."))
        tenses.add(made.sentence("it is/was, the {person0} {does0}, it has/had."))
    assert linked == {"Neither one nor two.", "Both one and two."}
    assert tenses == {
        told
        for flavour in film().genre.flavours
        for told in (
            f"It is, the {flavour} sheriff polishes, it has.",
            f"It was, the {flavour} sheriff polished, it had.",
        )
    }


def test_a_scene_stays_whole_within_a_sentence() -> None:
    by_person = {scene.person: scene for scene in film().genre.scenes}
    made = template()
    for _ in range(8):
        flavour, person, thing, place, other = made.sentence("{person} {object} {place} {person2}").lower().split()
        assert flavour in film().genre.flavours
        assert (by_person[person].object, by_person[person].place) == (thing, place)
        assert other != person


def test_the_first_noun_that_can_take_one_takes_an_adjective_of_the_genre(reviews: list[Review]) -> None:
    flavoured = [
        len([word for word in words(sentence) if word in review.film.genre.flavours])
        for review in reviews
        for sentence in review.sentences
    ]
    assert max(flavoured) == 1
    assert sum(flavoured) > 0.85 * len(flavoured)


def test_inflections() -> None:
    assert [plural(noun) for noun in ("thief", "watchman", "witness", "cowboy", "lady", "banjo")] == [
        "thieves", "watchmen", "witnesses", "cowboys", "ladies", "banjos",
    ]  # fmt: skip
    assert [third_person(verb) for verb in ("polish", "carry", "play")] == ["polishes", "carries", "plays"]
    assert [past(verb) for verb in ("carry", "drop", "glaze", "open", "draw")] == [
        "carried", "dropped", "glazed", "opened", "drew",
    ]  # fmt: skip
    assert [gerund(verb) for verb in ("cut", "glaze", "open")] == ["cutting", "glazing", "opening"]


def test_articles_follow_the_sound() -> None:
    text = "A owl, a heiress, a uniformed one, a one."
    assert with_articles(text) == "An owl, an heiress, a uniformed one, a one."


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        ("genres.yaml", "  idioms:\n    - a long", "  idiom:\n    - a long", r"genres\.0\.idioms\s+Field required"),
        ("genres.yaml", "- name: western\n", "- name: western\n  mood: grim\n", r"genres\.0\.mood\s+Unexpected"),
        ("genres.yaml", "badge, in, jail", "badge, jail", r"genres\.0\.scenes\.0\b"),
        ("genres.yaml", "badge, in, jail", "badge, in, the, jail", r"genres\.0\.scenes\.0\b"),
        ("facts.yaml", "river: Seine", "river: 7", r"facts\.countries\.0\.river\s+Input should be a valid string"),
        ("facts.yaml", "[1923, 1926, 1928]", "[early]", r"facts\.eras\.0\.years\.0\s+Input should be a valid integer"),
        ("patterns.yaml", "plot:", "story:", r"patterns\.plot\s+Field required"),
        ("voices.yaml", "marvel: [joy", "marvel: []\n    gift: [joy", r"voices\.tones\.0\.marvel\s.*at least 1"),
        ("voices.yaml", "[and, then,", '["", then,', r"voices\.joiners\.0\s+.*at least 1 char"),
        ("voices.yaml", "positive: true", "positive: yes", r"voices\.tones\.0\.positive\s+Input should be a .* bool"),
        ("english.yaml", "  blow: blew", "  blow: blew\n  blow: blowed", "duplicate key"),
    ],
)  # fmt: skip
def test_a_fault_in_the_texts_is_named(tmp_path: Path, file: str, old: str, new: str, fault: str) -> None:
    folder = Path(shutil.copytree(TEXTS, tmp_path / "texts", ignore=shutil.ignore_patterns("*.py")))
    content = (folder / file).read_text("utf-8")
    assert old in content
    (folder / file).write_text(content.replace(old, new, 1), encoding="utf-8")
    with pytest.raises((ValueError, YAMLError), match=fault):
        texts(folder)


def test_each_file_of_texts_is_needed_and_no_other_is(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(TEXTS, tmp_path / "texts", ignore=shutil.ignore_patterns("*.py")))
    (folder / "voices.yaml").rename(folder / "tones.yaml")
    with pytest.raises(ValueError, match=r"(?s)voices\s+Field required.*tones\s+Unexpected keyword"):
        texts(folder)


def test_the_texts_are_read_when_a_film_is_made_and_not_before() -> None:
    code = (
        "import sys\n"
        "from bertpipe.sources.sample import dataset, reviews, texts\n"
        "assert texts.texts.cache_info().misses == 0\n"
        "assert not {'ruamel.yaml', 'pydantic'} & sys.modules.keys()\n"
        "list(reviews.generate_reviews(seed=1, films=1, reviews=1))\n"
        "assert texts.texts.cache_info().misses == 1"
    )
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=True
    )
