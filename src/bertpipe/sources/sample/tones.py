"""How a reviewer sounds: six tones, three that praise and three that blame, and no word in two of them."""

from __future__ import annotations

from dataclasses import dataclass

from bertpipe.sources.sample.lexicon import past, third_person


@dataclass(frozen=True, slots=True, kw_only=True)
class Tone:
    """The judging words of one tone: adjectives, adverbs, nouns, verbs after "it", and set phrases."""

    positive: bool
    good: tuple[str, ...]
    well: tuple[str, ...]
    marvel: tuple[str, ...]
    shine: tuple[str, ...]
    verdict: tuple[str, ...]

    @property
    def words(self) -> frozenset[str]:
        """The single words of this tone, which no other tone uses."""
        verbs = (form(verb) for verb in self.shine for form in (third_person, past))
        return frozenset((*self.good, *self.well, *self.marvel, *verbs))


def _tone(*, positive: bool, good: str, well: str, marvel: str, shine: str, verdict: tuple[str, ...]) -> Tone:
    return Tone(
        positive=positive,
        good=tuple(good.split()),
        well=tuple(well.split()),
        marvel=tuple(marvel.split()),
        shine=tuple(shine.split()),
        verdict=verdict,
    )


TONES: tuple[Tone, ...] = (
    _tone(
        positive=True,
        good="charming tender gentle lovable graceful heartfelt sunny endearing lovely humane generous "
        "delightful",
        well="charmingly tenderly gently gracefully warmly sweetly kindly generously",
        marvel="joy treat gift pleasure blessing comfort",
        shine="charm glow soothe comfort enchant beguile",
        verdict=("worth every minute of your evening", "good company from first to last",
                 "made with a full heart", "as welcome as an old friend"),
    ),
    _tone(
        positive=True,
        good="thrilling dazzling electric breathtaking spectacular explosive fearless exhilarating stunning "
        "gripping bold sensational",
        well="thrillingly brilliantly boldly fearlessly stunningly fiercely vividly spectacularly",
        marvel="triumph marvel sensation knockout wonder thunderbolt",
        shine="soar dazzle thrill astonish explode race",
        verdict=("impossible to look away from", "quick from start to end",
                 "alive in every single frame", "faster and braver than its rivals"),
    ),
    _tone(
        positive=True,
        good="masterly precise elegant intelligent subtle wise flawless rigorous exquisite profound assured "
        "lucid",
        well="elegantly precisely wisely subtly flawlessly intelligently exquisitely masterfully",
        marvel="masterpiece achievement landmark classic milestone revelation",
        shine="persuade convince impresse endure resonate illuminate",
        verdict=("among the best of its kind", "sure to outlive us all",
                 "worthy of a second look", "close to perfect"),
    ),
    _tone(
        positive=False,
        good="dull tedious sluggish lifeless flat sleepy plodding drab monotonous lukewarm stale listless",
        well="tediously sluggishly flatly drearily lifelessly wearily limply monotonously",
        marvel="bore slog chore yawn snooze trudge",
        shine="drag plod stall sag dawdle droop",
        verdict=("longer than a rainy sunday", "a cure for sleepless nights",
                 "about as lively as wet cement", "two hours that feel like ten"),
    ),
    _tone(
        positive=False,
        good="dreadful awful cynical insulting vulgar obnoxious shameless hateful appalling offensive "
        "ugly idiotic",
        well="dreadfully awfully cynically shamelessly crudely appallingly offensively stupidly",
        marvel="disaster insult travesty outrage disgrace catastrophe",
        shine="offend irritate annoy grate infuriate repel",
        verdict=("an affront to eyes and ears", "beneath everyone who touched it",
                 "proof that money cannot buy taste", "enough to demand a refund"),
    ),
    _tone(
        positive=False,
        good="clumsy muddled hollow shallow uneven awkward feeble wasted forgettable unfinished "
        "misguided strained",
        well="clumsily awkwardly feebly unevenly hopelessly needlessly sadly vaguely",
        marvel="letdown muddle misfire failure mistake disappointment",
        shine="stumble fizzle disappoint collapse wobble flounder",
        verdict=("less than the sum of its parts", "a good idea that got lost",
                 "nowhere near what was promised", "one draft short of a real film"),
    ),
)  # fmt: skip
