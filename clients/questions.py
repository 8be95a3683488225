"""The texts that every client is asked about."""

TEXTS = (
    "The cat sat on the mat.",
    "It's the DOG's mat, isn't it?",
    "Café CAFÉ naïve niño pidió árbol Straße",
    "猫坐在垫子上 the猫cat 日本語 한국어",
    "the😀cat 👩\u200d👧 🇩🇪 and a dog",
    "  the\tcat \n sat\u00a0on\u2003the\u00admat\u200b ",
    "[MASK] sat on the[MASK] mat [UNK] [mask]",
    "İSTANBUL ΣΑΣ ﬁn ½ x² €5 «so» … — \u2019s",
    'a<br />b <br/> "quoted" (in brackets); one: two',
    "xyzzy plugh",
    "t" * 101,
    "the cat sat on the mat and the dog ran to the park . " * 5,
)
DECOMPOSED = "Cafe\u0301 nin\u0303o nai\u0308ve a\u0302ge"
"""Accents that are characters of their own: `BertTokenizer` of transformers 4 composes them."""
PAIRS = (
    ("The cat sat on the mat.", "The dog ran to the park."),
    ("The dog ran.", "猫坐在 the😀mat"),
    ("Café niño", "It's [MASK] there?"),
    ("the", "a b c d e f g h"),
    ("the cat sat on the mat " * 5, "the dog"),
    ("the dog", "the cat sat on the mat " * 5),
    ("the cat sat on the mat " * 5, "the dog ran to the park " * 4),
)
"""Where both have to be cut, the first is the longer: else fast tokenizers keep one token fewer of it than bertpipe."""
QUESTION = "the cat sat on the [MASK] ."
CORPUS = (
    "the cat sat on the mat and the dog ran to the park",
    "Café niño pidió un árbol en la Straße naïve",
    "It's the dog's mat, isn't it? A man ran to a fine park.",
    "猫 坐 在 垫 子 上 cats dogs mats sitting running parks",
)
"""What the vocabularies are made of."""
