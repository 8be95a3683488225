"""A tokenizer as the two files that Hugging Face's `AutoTokenizer` reads."""

from pathlib import Path

from bertpipe.core.artifacts import TOKENIZER_CONFIG_NAME, TOKENIZER_NAME, write_json
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer, parse_tokenizer

_ROLES = ("pad_token", "cls_token", "sep_token", "mask_token", "unk_token")
"""Names there of our special tokens, in the order of `SPECIAL_TOKENS`."""


def save_huggingface_tokenizer(directory: Path, tokenizer: Tokenizer, *, max_positions: int) -> None:
    """Write tokenizer.json, which now also joins one or two texts as BERT reads them, and tokenizer_config.json.

    The class named there takes tokenizer.json as it is: the one for BERT would rebuild its own normalizer and WordPiece
    around our vocabulary, and give other ids. It would leave token_type_ids out if they were not asked for.

    Args:
        directory: where they go.
        tokenizer: any that has the five special tokens.
        max_positions: longest input of the model in tokens, to which `truncation=True` cuts.
    """
    from tokenizers.processors import TemplateProcessing  # noqa: PLC0415

    joined = parse_tokenizer(tokenizer.backend.to_str(), TOKENIZER_NAME)  # a copy
    _, cls_id, sep_id, _, _ = joined.special_ids
    joined.backend.no_truncation()
    joined.backend.no_padding()
    joined.backend.post_processor = TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls_id), ("[SEP]", sep_id)],
    )
    joined.save(directory / TOKENIZER_NAME)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_positions,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **dict(zip(_ROLES, SPECIAL_TOKENS, strict=True)),
    }
    write_json(directory / TOKENIZER_CONFIG_NAME, config)
