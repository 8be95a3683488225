"""The text of the model card, with places for what differs from model to model."""

TEMPLATE = """
{% set shape = facts.shape %}
{% set training = facts.training %}
{% set settings = training.get("params", {}) %}
{% set start = training.get("init") %}
# {{ title }}

A BERT of {{ shape.layers }} layer{{ "" if shape.layers == 1 else "s" }} and width {{ shape.embedding_dim }} \
({{ "{:,}".format(facts.parameters) }} parameters), pretrained \
{{ "from the weights of `%s`" % start.name if start else "from random weights" }} on masked-language modelling (MLM) \
and next-sentence prediction (NSP) with bertpipe.

{% if facts.missing_counterpart %}
**This directory holds no weights**: {{ facts.missing_counterpart }}. `bertpipe infer --model` answers with the model \
as it is; trained with `model.architecture: bert`, it can be exported.
{% else %}
## How to use

With transformers, no custom code:

```python
from transformers import pipeline

model = "OWNER/NAME"  # the name of this repository, or the path of its directory
fill = pipeline("fill-mask", model=model)
for answer in fill({{ facts.question | string }}):
    print(answer)
```

Whether sentence B follows sentence A:

```python
import torch
from transformers import AutoModelForPreTraining, AutoTokenizer

model = "OWNER/NAME"
tokenizer = AutoTokenizer.from_pretrained(model)
network = AutoModelForPreTraining.from_pretrained(model)
first = {{ facts.pair[0] | string }}
second = {{ facts.pair[1] | string }}
inputs = tokenizer(first, second, truncation=True, return_tensors="pt")
with torch.inference_mode():
    logits = network(**inputs).seq_relationship_logits
is_next, is_not_next = logits.softmax(-1)[0].tolist()
print(f"next {is_next:.4f}, not next {is_not_next:.4f}")
```

**Which class is which**: class 0 is *B follows A*, class 1 is *it does not*, as transformers documents it for \
`BertForPreTraining`. bertpipe's own models have the two the other way round; the head was turned round for this \
directory, and bertpipe turns it back when it reads one.
{% endif %}

## Results

{% macro table(task) %}
{% set shown = columns[task] %}
| predictor |{% for name in shown %} {{ name | words }} |{% endfor %}

|---|{% for name in shown %}---:|{% endfor %}

{% for name, figures in tables[task].items() %}
{% set figures = figures or {} %}
| {{ "**this model**" if name == "model" else name | words }} |\
{% for column in shown %} {{ figures.get(column) | figure }} |{% endfor %}

{% endfor %}
{% endmacro %}
Masked-language modelling, {{ counts.mlm | figure }} masked tokens of the test split, losses in nats:

{{ table("mlm") }}
Next-sentence prediction, {{ counts.nsp | figure }} pairs of the test split:

{{ table("nsp") }}
The simple predictors saw the same rows. *Constant* ignores its input; *two neighbours* predicts the word most often \
seen between the two words beside the mask; *sentence b alone* never sees sentence A; *word overlap* goes by the rare \
words that the two sentences share.
{% for remark in remarks %}

{{ remark }}
{% endfor %}

The figures are those of the file that `bertpipe evaluate` wrote (SHA-256 `{{ facts.results_sha256 }}`). The file does \
not name the model that was measured; where the pipeline ran as a whole (`dvc repro`), it is this one.

## Data

{% if facts.is_generated %}
The text is **generated**: reviews of films that do not exist, put together by bertpipe's embedded sample from \
sentence patterns. No person wrote it.

{% endif %}
{% if facts.data %}
{{ facts.data.documents | figure }} documents, as sentence pairs:

| split | pairs | tokens | of which to predict | pairs in which B follows A |
|---|---:|---:|---:|---:|
{% for split, found in facts.data.splits.items() %}
| {{ split }} | {{ found.rows | figure }} | {{ found.tokens | figure }} | {{ found.supervised_tokens | figure }} | \
{{ found.next_rows | figure }} |
{% endfor %}

Made from:\
{% for name, value in facts.data.source.items() if name != "generated" %} {{ name }} `{{ value }}`\
{{ "" if loop.last else "," }}{% endfor %}.

{% else %}
The data were not at hand when this card was written.

{% endif %}
{% if training.get("data_sha256") %}
| file | SHA-256 |
|---|---|
{% for name, digest in training.data_sha256.items() %}
| {{ name }} | `{{ digest }}` |
{% endfor %}

{% endif %}
## Network

| | |
|---|---|
{% for name, value in asdict(shape).items() if name != "vocab_size" %}
| {{ name | words }} | {{ value | cell }} |
{% endfor %}
| vocabulary | {{ shape.vocab_size | figure }} entries, {{ facts.tokenizer }} |

## Training

{% if settings %}
| setting | value |
|---|---|
{% for section in ("train", "masking") %}
{% for name, value in settings.get(section, {}).items() if value is not none %}
| {{ section }}.{{ name }} | {{ value | cell }} |
{% endfor %}
{% endfor %}
| epochs done | {{ training.epochs_done | cell }} |

{% if start %}
The weights it started from have the SHA-256 `{{ start.sha256 }}`.

{% endif %}
{% if training.get("overrides") %}
Given on the command line, in place of the params file:\
{% for name, value in training.overrides.items() %} `{{ name }}: {{ value }}`{% endfor %}.

{% endif %}
Made with {% for name, value in training.versions.items() %}{{ name }} {{ value }}{{ "" if loop.last else ", " }}\
{% endfor %}.
{% else %}
The model's directory says nothing of its training.
{% endif %}

## Limits

{% if start %}
- What it knows beyond the text above it has from `{{ start.name }}`, whose limits are its own, too.
{% else %}
- It knows the text above and nothing else: what it says of any other text means little.
{% endif %}
- It repeats what its text says, mistaken, dated or unfair as that may be. It has not been checked for bias, and is \
not fit for decisions about people.
{% if facts.is_generated %}
- A high score on generated text shows that the model has learned the generator, not a language.
{% endif %}
- It reads at most {{ shape.max_positions }} tokens, and an unknown word as `[UNK]`.
- NSP was learned on the pairs above. It tells pairs made in that way apart, which need not be what follows for a \
reader.
"""
