"""Run in a client's environment, without bertpipe: its answers about exported models, as JSON.

`python python_client.py PART JOB OUT`, with PART one of the functions of `PARTS`.
"""

import json
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

Answers = dict[str, Any]
Model = dict[str, Any]

PACKAGES = ("transformers", "tokenizers", "torch", "numpy", "sentence-transformers", "optimum-onnx", "onnxruntime")
"""Those whose versions are shown."""
CLASSES = ("AutoTokenizer", "PreTrainedTokenizerFast")
BERT_CLASSES = ("BertTokenizer", "BertTokenizerFast")
FAMILIES = {"bert": "Bert", "megatron-bert": "MegatronBert", "modernbert": "ModernBert"}
"""What the names of the classes begin with, by the model type."""
NSP_FOLDER = "nsp"
"""Where the model with the NSP head is, if its class is another one."""


def rows_of(encoded: Any) -> list[Any]:
    """Return ids, and token types if the tokenizer gives them, of each row, without padding."""
    lengths = [sum(mask) for mask in encoded["attention_mask"]]
    columns = [encoded[name] for name in ("input_ids", "token_type_ids") if name in encoded]
    return [[column[row][:length] for column in columns] for row, length in enumerate(lengths)]


def both(tokenizer: Any, texts: list[str], pairs: list[list[str]], **options: Any) -> list[Any]:
    """Return the rows of texts one at a time, and of pairs as one padded batch."""
    single = [rows_of(tokenizer([text], **options))[0] for text in texts]
    return single + rows_of(tokenizer([list(pair) for pair in pairs], padding=True, **options))


def tokenizers(model: Model) -> Answers:
    """Return what each tokenizer class makes of texts and pairs."""
    import transformers

    is_old = transformers.__version__.startswith("4.")
    answers = {}
    for name in CLASSES + (BERT_CLASSES if model["wordpiece"] else ()):
        tokenizer = getattr(transformers, name).from_pretrained(model["directory"])
        key, texts = "encoded", model["texts"]
        if name == "BertTokenizer" and is_old:  # the card says that it composes accents
            key, texts = "encoded, composed", texts[: model["composed"]]
        answers[f"{name}: {key}"] = both(tokenizer, texts, model["pairs"])
    auto = transformers.AutoTokenizer.from_pretrained(model["directory"])
    answers["AutoTokenizer: cut"] = both(auto, model["texts"], model["pairs"], truncation=True)
    return answers


def networks(model: Model) -> Answers:
    """Return the outputs of the classes that read the network, for one padded batch of pairs."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model["directory"])
    batch = tokenizer([list(pair) for pair in model["pairs"]], truncation=True, padding=True, return_tensors="pt")
    lengths = batch["attention_mask"].sum(dim=1).tolist()

    def output(name: str, **options: Any) -> Any:
        network = getattr(transformers, name).from_pretrained(model["directory"], **options)
        with torch.inference_mode():
            return network.eval()(**batch)

    def real(logits: Any) -> list[Any]:
        return [row[:length].tolist() for row, length in zip(logits, lengths, strict=True)]

    family = FAMILIES[model["model_type"]]
    answers = {f"{family}ForMaskedLM: mlm logits": real(output(f"{family}ForMaskedLM").logits)}
    classifier, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        model["directory"], num_labels=3, output_loading_info=True
    )
    missing = sorted(info["missing_keys"])
    if missing != ["classifier.bias", "classifier.weight"]:
        raise SystemExit(f"a classifier on {model['name']} lacks {missing}")
    if family == "ModernBert":
        for name in ("ModernBertForSequenceClassification", "AutoModelForSequenceClassification"):
            answers[f"{name}: nsp logits"] = output(name, subfolder=NSP_FOLDER).logits.tolist()
        return answers
    whole = output(f"{family}ForPreTraining")
    name = f"{family}ForNextSentencePrediction"
    with torch.inference_mode():
        pooled = classifier.bert.eval()(**batch).pooler_output.tolist()
    return answers | {
        f"{family}ForPreTraining: mlm logits": real(whole.prediction_logits),
        f"{family}ForPreTraining: nsp logits": whole.seq_relationship_logits.tolist(),
        f"{name}: nsp logits": output(name).logits.tolist(),
        "AutoModel: pooled": output("AutoModel").pooler_output.tolist(),
        "AutoModelForSequenceClassification: pooled": pooled,
    }


def pipelines(model: Model) -> Answers:
    """Return what the pipelines say."""
    import transformers

    fill = transformers.pipeline("fill-mask", model=model["directory"], top_k=model["top_k"])
    filled = [[answer["token"], answer["score"]] for answer in fill(model["question"])]
    features = transformers.pipeline("feature-extraction", model=model["directory"])
    rows = [features(text, tokenize_kwargs={"truncation": True})[0] for text in model["texts"]]
    vectors = [[sum(column) / len(row) for column in zip(*row, strict=True)] for row in rows]
    return {"fill-mask: filled": filled, "feature-extraction: vectors": vectors}


def transformers_answers(model: Model, _: Path) -> Answers:
    """Return all that transformers answers."""
    return tokenizers(model) | networks(model) | pipelines(model)


def sentence_transformers_answers(model: Model, _: Path) -> Answers:
    """Return the vectors of sentence-transformers, all texts in one batch."""
    from sentence_transformers import SentenceTransformer

    vectors = SentenceTransformer(model["directory"], device="cpu").encode(model["texts"], batch_size=64)
    return {"SentenceTransformer: vectors": vectors.tolist()}


def onnx_answers(model: Model, out: Path) -> Answers:
    """Return the answers of ONNX Runtime, and write the ONNX files beside copies of the export's other files."""
    from optimum.onnxruntime import (
        ORTModelForFeatureExtraction,
        ORTModelForMaskedLM,
        ORTModelForSequenceClassification,
    )
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model["directory"])
    batch = tokenizer([list(pair) for pair in model["pairs"]], truncation=True, padding=True, return_tensors="pt")
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    copy = out / model["name"]
    shutil.copytree(model["directory"], copy)

    def exported(ort_class: Any, source: Path, name: str) -> Any:
        network = ort_class.from_pretrained(source, export=True)
        network.save_pretrained(out / "exported")
        (copy / name).parent.mkdir(exist_ok=True)
        shutil.move(out / "exported" / "model.onnx", copy / name)
        return network

    directory = Path(model["directory"])
    logits = exported(ORTModelForMaskedLM, directory, "onnx/model.onnx")(**batch).logits
    features = exported(ORTModelForFeatureExtraction, directory, "onnx/features.onnx")
    single = [tokenizer(text, truncation=True, return_tensors="pt") for text in model["texts"]]
    vectors = [features(**one).last_hidden_state[0].mean(dim=0).tolist() for one in single]
    answers = {
        "ORTModelForMaskedLM: mlm logits": [row[:length].tolist() for row, length in zip(logits, lengths, strict=True)],
        "ORTModelForFeatureExtraction: vectors": vectors,
    }
    if model["model_type"] == "modernbert":
        classifier = exported(
            ORTModelForSequenceClassification, directory / NSP_FOLDER, f"{NSP_FOLDER}/onnx/model.onnx"
        )
        answers["ORTModelForSequenceClassification: nsp logits"] = classifier(**batch).logits.tolist()
    else:
        save_pretraining(model, batch, copy / "onnx" / "pretraining.onnx")
    return answers


def save_pretraining(model: Model, batch: Any, path: Path) -> None:
    """Write the network with both heads, for which optimum has no class, as an ONNX file."""
    import torch
    import transformers

    names = ["input_ids", "attention_mask", "token_type_ids"]
    torch.onnx.export(
        getattr(transformers, f"{FAMILIES[model['model_type']]}ForPreTraining")
        .from_pretrained(model["directory"])
        .eval(),
        tuple(batch[name] for name in names),
        str(path),
        input_names=names,
        output_names=["prediction_logits", "seq_relationship_logits"],
        dynamic_axes={name: {0: "batch", 1: "seq"} for name in [*names, "prediction_logits"]},
        dynamo=False,
    )


PARTS = {
    "transformers": transformers_answers,
    "sentence-transformers": sentence_transformers_answers,
    "onnx": onnx_answers,
}


def main() -> None:
    """Ask about each model of the job."""
    part, job, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    models = json.loads(job.read_text(encoding="utf-8"))
    answers: Answers = {model["name"]: PARTS[part](model, out) for model in models}
    found = {each.name.lower().replace("_", "-"): each.version for each in metadata.distributions()}
    answers["versions"] = ", ".join(f"{name} {found[name]}" for name in PACKAGES if name in found)
    (out / "answers.json").write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
