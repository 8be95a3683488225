# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] lang="en"
# # Pretraining BERT: the lesson
#
# You train a small BERT from nothing, watch it learn, ask it questions, and look at what goes wrong when its numbers
# are computed carelessly. Everything runs on two CPU cores in about three minutes, without a network: the text is
# generated here. You need bertpipe (`pip install bertpipe`) and some Python; each part says what to look at before
# its cell.

# %% [markdown] lang="es"
# # Preentrenar BERT: la lección
#
# Vas a entrenar un BERT pequeño desde cero, ver cómo aprende, hacerle preguntas y descubrir qué pasa cuando sus
# números se calculan sin cuidado. Todo funciona en dos núcleos de CPU en unos tres minutos y sin conexión: el texto
# se genera aquí mismo. Necesitas bertpipe (`pip install bertpipe`) y algo de Python; cada parte dice en qué fijarse
# antes de su celda.

# %% [markdown] lang="en"
# ## 1. What pretraining is
#
# A label costs a person's time; text costs nothing. Pretraining makes questions out of text alone, whose answers the
# text itself holds, and trains a network on them. What the network learns about words can later help with a task that
# has few labels. BERT is asked two kinds of questions:
#
# - **Masked-language modelling (MLM)**: some words are hidden, and the network has to say which ones they were. It
#   may look at both sides.
# - **Next-sentence prediction (NSP)**: given sentences A and B, does B really follow A in its text?
#
# The next cell has the only two numbers that you need to change for a shorter or longer lesson.

# %% [markdown] lang="es"
# ## 1. Qué es el preentrenamiento
#
# Una etiqueta cuesta el tiempo de una persona; el texto no cuesta nada. El preentrenamiento saca del propio texto
# preguntas cuya respuesta ya está en él, y entrena una red con ellas. Lo que la red aprende sobre las palabras puede
# servir después para una tarea que tiene pocas etiquetas. A BERT se le hacen dos tipos de preguntas:
#
# - **Modelado de lenguaje enmascarado (MLM)**: se ocultan algunas palabras y la red tiene que decir cuáles eran.
#   Puede mirar a los dos lados.
# - **Predicción de la siguiente oración (NSP)**: dadas dos oraciones A y B, ¿de verdad B va después de A en su texto?
#
# La celda siguiente contiene los dos únicos números que hay que cambiar para una lección más corta o más larga.

# %% tags=["parameters"]
reviews = 3300
epochs = 5

# %%
import dataclasses
import json
import math
import os
import shutil
import time
import warnings
import zipfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore", message="IProgress not found")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Image, display
from torch import nn

import bertpipe
from bertpipe.core.errors import BertpipeError
from bertpipe.data.tokenization.tokenizer import load_tokenizer
from bertpipe.model.bert import Bert
from bertpipe.model.embeddings import sinusoidal_positions
from bertpipe.stages.convert import run_convert
from bertpipe.stages.download import run_download
from bertpipe.stages.export import run_export

params = bertpipe.load_params(changes={"sample.reviews": reviews, "train.epochs": epochs})
work = Path("bertpipe-lesson")
print("bertpipe", bertpipe.__version__, "| torch", torch.__version__, "|", work.resolve().name)

# %% [markdown] lang="en"
# ## 2. The data
#
# `run_download` puts reviews of films that do not exist into a zip, in the format of the course's data: CSV files
# with ids. `run_convert` checks every row and writes Parquet, once. The network reads that from then on. Look at how
# many pairs of sentences there are.

# %% [markdown] lang="es"
# ## 2. Los datos
#
# `run_download` guarda en un zip reseñas de películas que no existen, con el formato de los datos del curso: archivos
# CSV con identificadores. `run_convert` comprueba todas las filas y escribe Parquet una sola vez. A partir de ahí, la
# red lee ese Parquet. Fíjate en cuántos pares de oraciones hay.

# %%
run_download(params.download, params.sample, params.masking, out=work / "sample.zip")
summary = run_convert(
    params.convert, zip_file=work / "sample.zip", out=work / "data", rejects_report=work / "rejects.parquet"
)
tokenizer = load_tokenizer(work / "data" / "tokenizer.json")
train_rows, test_rows = (bertpipe.read_data(work / "data", split) for split in ("train", "test"))
print(f"train {len(train_rows):,} | test {len(test_rows):,} | vocabulary {tokenizer.vocab_size:,}")

# %% [markdown] lang="en"
# ## 3. Rows and masks
#
# A row is `[CLS] A [SEP] B [SEP]`. About 15 % of its words are chosen. Of these, 80 % become `[MASK]`, 10 % become
# another word, and 10 % stay as they are: the network never knows whether a word that it sees is the true one. The
# table has one line per chosen word: what the network reads, and what it has to answer.

# %% [markdown] lang="es"
# ## 3. Filas y máscaras
#
# Una fila es `[CLS] A [SEP] B [SEP]`. Se elige más o menos el 15 % de sus palabras. De ellas, el 80 % se convierte en
# `[MASK]`, el 10 % en otra palabra y el 10 % se queda como está: la red nunca sabe si una palabra que ve es la
# verdadera. La tabla tiene una línea por cada palabra elegida: lo que la red lee y lo que debe responder.


# %%
def true_ids(rows, number):
    return rows.token_ids[rows.offsets[number] : rows.offsets[number + 1]]


def masks_of(rows, number):
    where = slice(rows.masked_offsets[number], rows.masked_offsets[number + 1])
    return rows.masked_positions[where], rows.masked_inputs[where], rows.masked_labels[where]


for number in range(2):
    ids = true_ids(test_rows, number)
    positions, inputs, labels = masks_of(test_rows, number)
    seen = ids.copy()
    seen[positions] = inputs
    print(f"row {number} | is_next = {bool(test_rows.is_next[number])}")
    print(" ".join(tokenizer.tokens(ids)))
    print(" ".join(tokenizer.tokens(seen)))
    columns = {"position": positions, "input": tokenizer.tokens(inputs), "label": tokenizer.tokens(labels)}
    display(pd.DataFrame(columns))

# %% [markdown] lang="en"
# Over all rows the shares come close to what the recipe says, and about half of the pairs are true ones.

# %% [markdown] lang="es"
# En el conjunto de las filas, las proporciones se acercan a lo que dice la receta, y más o menos la mitad de los
# pares son verdaderos.

# %%
is_mask = train_rows.masked_inputs == tokenizer.mask_id
is_kept = train_rows.masked_inputs == train_rows.masked_labels
ordinary = int((~tokenizer.is_special[train_rows.token_ids]).sum())
shares = {
    "chosen": len(is_mask) / ordinary,
    "[MASK]": is_mask.mean(),
    "same": is_kept.mean(),
    "other": (~is_mask & ~is_kept).mean(),
    "is_next": train_rows.is_next.mean(),
}
print(" | ".join(f"{name} {share:.3f}" for name, share in shares.items()))

# %% [markdown] lang="en"
# A network reads several rows at once, as one table of numbers. Shorter rows are filled up with `[PAD]`, whose id is
# 0. A label of 0 means: nothing is asked here.

# %% [markdown] lang="es"
# Una red lee varias filas a la vez, como una sola tabla de números. Las filas más cortas se rellenan con `[PAD]`,
# cuyo identificador es 0. Una etiqueta 0 significa que ahí no se pregunta nada.


# %%
def collate(rows, numbers):
    lengths = torch.tensor(rows.lengths[numbers])
    inputs = torch.zeros(len(numbers), int(lengths.max()), dtype=torch.long)
    labels = torch.zeros_like(inputs)
    for place, number in enumerate(numbers):
        ids = true_ids(rows, number)
        positions, masked_inputs, masked_labels = (torch.tensor(part) for part in masks_of(rows, number))
        inputs[place, : len(ids)] = torch.tensor(ids)
        inputs[place, positions.long()] = masked_inputs.long()
        labels[place, positions.long()] = masked_labels.long()
    starts = torch.tensor(rows.second_segment_start[numbers]).long()
    is_next = torch.tensor(rows.is_next[numbers]).long()
    return inputs, labels, lengths, starts, is_next


inputs, labels, lengths, starts, is_next = collate(test_rows, np.arange(4))
print("inputs", tuple(inputs.shape), "| lengths", lengths.tolist(), "| asked", int((labels != 0).sum()))

# %% [markdown] lang="en"
# ## 4. Three embeddings
#
# Each token becomes a vector that is the sum of three:
#
# - the **token** embedding says what stands there;
# - the **position** embedding says where, because attention alone does not see the order;
# - the **segment** embedding says whether it belongs to A or to B.
#
# In the picture every column is a token of one row, and every line one of the first 24 numbers of its vector. Look at
# the segment part: it has only two different columns. The position part has waves, because its weights start as waves
# here, not as noise.

# %% [markdown] lang="es"
# ## 4. Tres embeddings
#
# Cada token se convierte en un vector que es la suma de tres:
#
# - el embedding de **token** dice qué hay ahí;
# - el embedding de **posición** dice dónde está, porque la atención por sí sola no ve el orden;
# - el embedding de **segmento** dice si pertenece a A o a B.
#
# En la imagen, cada columna es un token de una fila y cada línea es uno de los primeros 24 números de su vector.
# Fíjate en la parte del segmento: solo tiene dos columnas distintas. La parte de la posición tiene ondas, porque aquí
# sus pesos empiezan como ondas y no como ruido.

# %%
torch.manual_seed(1)
untrained = Bert(params.model, tokenizer.vocab_size).eval()
with torch.no_grad():
    parts = untrained.embeddings.parts(inputs, lengths, starts)
    parts["sum"] = sum(parts.values())
for name, part in parts.items():
    print(f"{name:9}", tuple(part.shape), np.round(part[0, 1, :5].numpy(), 3))

shown = int(lengths[0])
figure, axes = plt.subplots(len(parts), 1, figsize=(9, 7), sharex=True, layout="constrained")
for axis, (name, part) in zip(axes, parts.items(), strict=True):
    values = part[0, :shown, :24].T.numpy()
    limit = np.abs(values).max()
    axis.imshow(values, aspect="auto", cmap="RdBu", vmin=-limit, vmax=limit, interpolation="nearest")
    axis.set_ylabel(name)
axes[-1].set_xticks(range(shown), tokenizer.tokens(inputs[0, :shown].tolist()), rotation=90)
plt.show()

# %% [markdown] lang="en"
# ## 5. The network
#
# The encoder lets every token look at all others and returns a new vector for each. Two heads read these vectors: the
# MLM head gives each token a score for every word of the vocabulary, and the NSP head reads `[CLS]` alone and gives
# two scores, *not next* and *next*. Look at the shapes, and at which part holds most of the parameters.

# %% [markdown] lang="es"
# ## 5. La red
#
# El codificador permite que cada token mire a todos los demás y devuelve un vector nuevo para cada uno. Dos cabezas
# leen esos vectores: la de MLM da a cada token una puntuación por cada palabra del vocabulario; la de NSP lee solo
# `[CLS]` y da dos puntuaciones, *no sigue* y *sigue*. Fíjate en las formas y en qué parte tiene más parámetros.

# %%
with torch.no_grad():
    hidden = untrained(inputs, lengths, starts)
    mlm_logits, nsp_logits = untrained.mlm_logits(hidden), untrained.nsp_logits(hidden)
print("hidden", tuple(hidden.shape), "| MLM", tuple(mlm_logits.shape), "| NSP", tuple(nsp_logits.shape))
for name, module in untrained.named_children():
    print(f"{name:14}{sum(parameter.numel() for parameter in module.parameters()):>10,}")
print(f"{'all':14}{sum(parameter.numel() for parameter in untrained.parameters()):>10,}")

# %% [markdown] lang="en"
# The MLM decoder shares the matrix of the token embedding, so it is in two lines above but counts once in the last.
#
# ## 6. Two losses
#
# Both losses are cross-entropies: minus the logarithm of the probability that the network gave to the right answer.
# Someone who guesses blindly pays ln(vocabulary) for a word and ln 2 for a pair. The MLM loss is a mean over the
# words that are asked, never over padding. The first line computes one word by hand.

# %% [markdown] lang="es"
# El decodificador de MLM comparte la matriz del embedding de token: aparece en dos líneas de arriba, pero en la
# última se cuenta una sola vez.
#
# ## 6. Dos pérdidas
#
# Las dos pérdidas son entropías cruzadas: menos el logaritmo de la probabilidad que la red dio a la respuesta
# correcta. Quien responde al azar paga ln(vocabulario) por una palabra y ln 2 por un par. La pérdida de MLM es una
# media sobre las palabras preguntadas, nunca sobre el relleno. La primera línea calcula una palabra a mano.

# %%
row, position = torch.nonzero(labels)[0].tolist()
probability = mlm_logits[row, position].softmax(dim=0)[labels[row, position]]
print(f"-ln {probability:.6f} = {-math.log(probability):.4f}")

mlm_loss = F.cross_entropy(mlm_logits.flatten(0, 1), labels.flatten(), ignore_index=0)
nsp_loss = F.cross_entropy(nsp_logits, is_next)
print(f"MLM {mlm_loss:.4f} | ln {tokenizer.vocab_size} = {math.log(tokenizer.vocab_size):.4f}")
print(f"NSP {nsp_loss:.4f} | ln 2 = {math.log(2):.4f}")

# %% [markdown] lang="en"
# ## 7. Evaluation
#
# To measure a network, go through all test rows, **add** the losses of all words and of all pairs, and divide each
# sum by its own count at the end. Here the network has learned nothing yet: remember these numbers.

# %% [markdown] lang="es"
# ## 7. Evaluación
#
# Para medir una red se recorren todas las filas de prueba, se **suman** las pérdidas de todas las palabras y de todos
# los pares, y al final cada suma se divide por su propio número de elementos. Aquí la red todavía no ha aprendido
# nada: recuerda estos números.


# %%
def outputs(network, rows, batch_size=64):
    network.eval()
    for start in range(0, len(rows), batch_size):
        inputs, labels, lengths, starts, is_next = collate(rows, np.arange(start, min(start + batch_size, len(rows))))
        with torch.inference_mode():
            hidden = network(inputs, lengths, starts)
            asked = labels != 0
            yield network.mlm_logits(hidden[asked]), labels[asked], network.nsp_logits(hidden), is_next


def evaluate(network, rows):
    mlm_sum = nsp_sum = mlm_right = nsp_right = words = 0
    for mlm_logits, answers, nsp_logits, is_next in outputs(network, rows):
        mlm_sum += F.cross_entropy(mlm_logits, answers, reduction="sum").item()
        nsp_sum += F.cross_entropy(nsp_logits, is_next, reduction="sum").item()
        mlm_right += int((mlm_logits.argmax(dim=1) == answers).sum())
        nsp_right += int((nsp_logits.argmax(dim=1) == is_next).sum())
        words += len(answers)
    return {
        "MLM loss": mlm_sum / words,
        "MLM accuracy": mlm_right / words,
        "NSP loss": nsp_sum / len(rows),
        "NSP accuracy": nsp_right / len(rows),
    }


before = evaluate(untrained, test_rows)
print(" | ".join(f"{name} {value:.4f}" for name, value in before.items()))

# %% [markdown] lang="en"
# ## 8. Training, with curves that grow
#
# `bertpipe.train` goes through the training rows `epochs` times. In each step it computes both losses of 32 rows, and
# moves every weight a little to where their sum falls. It writes `history.csv` while it runs, and the picture below
# is drawn from that file again and again. MLM falls early; NSP often waits near ln 2 for a while, then falls
# suddenly. The test points may lie below the line, because training hides twice as many words.

# %% [markdown] lang="es"
# ## 8. Entrenamiento, con curvas que crecen
#
# `bertpipe.train` recorre las filas de entrenamiento `epochs` veces. En cada paso calcula las dos pérdidas de 32
# filas y mueve un poco cada peso hacia donde baja su suma. Mientras trabaja escribe `history.csv`, y la imagen de
# abajo se dibuja una y otra vez a partir de ese archivo. MLM baja pronto; NSP suele esperar un rato cerca de ln 2 y
# después baja de golpe. Los puntos de prueba pueden quedar por debajo de la línea, porque el entrenamiento oculta el
# doble de palabras.


# %%
class Curves:
    def __init__(self, reports):
        self.reports, self.drawn_at = reports, 0.0
        self.figure, self.axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
        plt.close(self.figure)
        self.handle = display(self.figure, display_id=True)

    def __call__(self, progress):
        if time.monotonic() - self.drawn_at > 5:
            self.draw(f"{progress.label} {progress.completed:,.0f}/{progress.total or 0:,.0f}")

    def draw(self, title):
        self.drawn_at = time.monotonic()
        history, tests = (self.reports / name for name in ("history.csv", "epochs.csv"))
        for axis, task in zip(self.axes, ("mlm", "nsp"), strict=True):
            axis.clear()
            for path, style in ((history, "-"), (tests, "o")):
                if path.exists():
                    table = pd.read_csv(path)
                    axis.plot(table["step"], table[f"{task}_loss"], style, label="train" if style == "-" else "test")
            axis.set(xlabel="step", title=f"{task.upper()} loss")
            axis.grid(alpha=0.3)
            if axis.lines:
                axis.legend()
        self.figure.suptitle(title)
        self.handle.update(self.figure)


shutil.rmtree(work / "reports", ignore_errors=True)
curves = Curves(work / "reports")
trained = bertpipe.train(work / "data", work / "model", params=params, reports=work / "reports", on_progress=curves)
curves.draw(f"{trained['steps']:,} steps, {trained['elapsed_s']:.0f} s")

# %% [markdown] lang="en"
# ## 9. What it has learned
#
# Our own evaluation of section 7 and bertpipe's give the same numbers. bertpipe's also says what much simpler
# predictors get on the same rows: the most frequent words, counts of the two neighbours of a word, sentence B alone,
# words that A and B share. A network that does no better than these has learned nothing worth its training.

# %% [markdown] lang="es"
# ## 9. Qué ha aprendido
#
# Nuestra evaluación de la parte 7 y la de bertpipe dan los mismos números. La de bertpipe dice además qué consiguen
# con las mismas filas otros métodos mucho más simples: las palabras más frecuentes, los recuentos de las dos vecinas
# de una palabra, la oración B sola, las palabras que A y B comparten. Una red que no los supera no ha aprendido nada
# que justifique su entrenamiento.

# %%
metrics = bertpipe.evaluate(work / "model", work / "data", params=params, out=work / "reports" / "metrics.json")
model = bertpipe.load_model(work / "model", device="cpu")
after = evaluate(model.bert, test_rows)
print("before |", " | ".join(f"{name} {value:.4f}" for name, value in before.items()))
print("after  |", " | ".join(f"{name} {value:.4f}" for name, value in after.items()))
for task in ("mlm", "nsp"):
    figures = {
        name: {key: value for key, value in values.items() if key in ("loss", "top1_accuracy", "accuracy")}
        for name, values in metrics[task].items()
        if isinstance(values, dict)
    }
    display(pd.DataFrame(figures).T)

# %% [markdown] lang="en"
# `bertpipe.plot` draws the tables of the run once more, as files that you can keep.

# %% [markdown] lang="es"
# `bertpipe.plot` vuelve a dibujar las tablas del entrenamiento, esta vez en archivos que puedes guardar.

# %%
pictures = bertpipe.plot(work / "reports")
for picture in pictures:
    if picture.stem in ("accuracy", "loss"):
        display(Image(filename=picture, width=640))

# %% [markdown] lang="en"
# ## 10. Questions to our own model
#
# The model knows only the films of its text: it was never shown English. Change the sentences and run the cell again.

# %% [markdown] lang="es"
# ## 10. Preguntas a nuestro propio modelo
#
# El modelo solo conoce las películas de su texto: nadie le ha enseñado inglés. Cambia las oraciones y vuelve a
# ejecutar la celda.

# %%
for text in ("The rugged sheriff polishes a [MASK] in the jail.", "Made in Lisbon, it is a nautical pirate [MASK]."):
    answer = model.fill_masks(text, top_k=3)
    print(answer.filled_text)
    print("  ", " | ".join(f"{one.token} {one.probability:.3f}" for one in answer.masks[0].candidates))

first = "Both the sporting rookie and the coach want a jersey."
for second in (
    "The striker laces a footballing boot on the pitch.",
    "A lawful exhibit changed hands in the courtroom.",
):
    answer = model.next_sentence(first, second)
    print(f"{answer.probability_next:.3f} {answer.is_next!s:5} {second}")

# %% [markdown] lang="en"
# ## 11. Questions to bert-base-uncased
#
# The same functions ask the published BERT, which has read English. The cell uses it if it is on this machine. If it
# is not, run `hf download bert-base-uncased` once in a terminal with a network (440 MB), and run the cell again. The
# rest of the lesson works without it. `HF_HUB_OFFLINE`, set at the top, keeps the lesson itself off the network.

# %% [markdown] lang="es"
# ## 11. Preguntas a bert-base-uncased
#
# Con las mismas funciones se pregunta al BERT publicado, que sí ha leído inglés. La celda lo usa si está en este
# ordenador. Si no está, ejecuta una vez `hf download bert-base-uncased` en una terminal con conexión (440 MB) y
# vuelve a ejecutar la celda. El resto de la lección funciona sin él. `HF_HUB_OFFLINE`, definida al principio, evita
# que la propia lección use la red.

# %%
try:
    published = bertpipe.load_model("bert-base-uncased", device="cpu")
except BertpipeError:
    published = None
    print("bert-base-uncased: hf download bert-base-uncased")
else:
    print(published.fill_masks("The capital of France is [MASK].", top_k=3).filled_text)
    print(published.next_sentence("The cat sat on the mat.", "It was a sunny day.").probability_next)

# %% [markdown] lang="en"
# ## 12. Exercise 1: next-sentence prediction with transformers
#
# Load a BERT with `BertForPreTraining` of the transformers library, encode two sentences, and say from
# `seq_relationship_logits` whether the second one follows. Try it before you read on.
#
# **Solution.** The model is bert-base-uncased if it is there. Otherwise we export our own into the same format:
# transformers opens it like any other. The point to watch is the label: in Hugging Face's models **class 0 means
# "next"**. Beside it stands bertpipe's answer, which has to be the same.

# %% [markdown] lang="es"
# ## 12. Ejercicio 1: siguiente oración con transformers
#
# Carga un BERT con `BertForPreTraining`, de la biblioteca transformers, codifica dos oraciones y di a partir de
# `seq_relationship_logits` si la segunda sigue a la primera. Inténtalo antes de seguir leyendo.
#
# **Solución.** El modelo es bert-base-uncased, si está disponible. Si no, exportamos el nuestro al mismo formato:
# transformers lo abre como cualquier otro. Lo que hay que vigilar es la etiqueta: en los modelos de Hugging Face,
# **la clase 0 significa «sigue»**. Al lado está la respuesta de bertpipe, que tiene que ser la misma.

# %%
from transformers import AutoTokenizer, BertForPreTraining
from transformers.utils.logging import disable_progress_bar

disable_progress_bar()
run_export(
    params.export,
    params.infer,
    model=work / "model",
    metrics=work / "reports" / "metrics.json",
    data=work / "data",
    out=work / "huggingface",
)
source = str(work / "huggingface") if published is None else "bert-base-uncased"
ours = model if published is None else published
hf_tokenizer = AutoTokenizer.from_pretrained(source)
hf_model = BertForPreTraining.from_pretrained(source).eval()


def hf_next(network, first, second):
    encoded = hf_tokenizer(first, second, return_tensors="pt")
    with torch.inference_mode():
        logits = network(**encoded).seq_relationship_logits
    return logits.softmax(dim=-1)[0, 0].item()


pairs = [
    (first, "The striker laces a footballing boot on the pitch."),
    (first, "A lawful exhibit changed hands in the courtroom."),
]
exercise_1 = [(hf_next(hf_model, *pair), ours.next_sentence(*pair).probability_next) for pair in pairs]
for pair, (theirs, mine) in zip(pairs, exercise_1, strict=True):
    print(f"transformers {theirs:.4f} | bertpipe {mine:.4f} | {pair[1]}")

# %% [markdown] lang="en"
# ## 13. Exercise 2: masked-language modelling with transformers
#
# Write a sentence with `[MASK]`, find the most probable word in `prediction_logits`, and print it.
#
# **Solution.** The logits have the shape [rows, tokens, vocabulary]; we need them where the input is `[MASK]`. There
# may be several masks, so we keep a list of positions and never ask for "the" one.

# %% [markdown] lang="es"
# ## 13. Ejercicio 2: palabra oculta con transformers
#
# Escribe una oración con `[MASK]`, busca la palabra más probable en `prediction_logits` y muéstrala.
#
# **Solución.** Los logits tienen la forma [filas, tokens, vocabulario]; los necesitamos donde la entrada es `[MASK]`.
# Puede haber varias máscaras, así que guardamos una lista de posiciones y nunca pedimos «la» posición.


# %%
def hf_fill(network, text):
    encoded = hf_tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        logits = network(**encoded).prediction_logits[0]
    masked = (encoded["input_ids"][0] == hf_tokenizer.mask_token_id).nonzero()[:, 0]
    return hf_tokenizer.convert_ids_to_tokens(logits[masked].argmax(dim=-1).tolist())


question = (
    "The rugged sheriff polishes a [MASK] in the jail." if published is None else "The capital of France is [MASK]."
)
exercise_2 = hf_fill(hf_model, question)
print(question, exercise_2, ours.fill_masks(question, top_k=1).filled_text)

# %% [markdown] lang="en"
# ## 14. Faults that spoil numbers, each beside the correct version
#
# This lesson follows a course notebook whose code has faults. Few of them stop the program; most change what it
# prints, without a word. They are easy to make, and worth recognising. Each part computes what the fault gives and
# what is right.
#
# ### 14.1 The two losses change places
#
# `evaluate` expects the MLM loss function before the NSP one, and it is called with the two the other way round. So
# NSP ignores class 0, and MLM averages over every position, padding included, where the label 0 now counts as an
# answer. Look at the lazy predictor that always says "next" and always says `[PAD]`: the swapped version puts it
# ahead of the trained model, in both columns. The function also returns nothing, so that the curve of the evaluation
# is a list of `None`.

# %% [markdown] lang="es"
# ## 14. Errores que estropean los números, cada uno junto a la versión correcta
#
# Esta lección sigue un cuaderno de curso cuyo código contiene errores. Pocos detienen el programa; la mayoría cambia
# lo que muestra sin decir nada. Son fáciles de cometer y conviene reconocerlos. Cada apartado calcula lo que da el
# error y lo que es correcto.
#
# ### 14.1 Las dos pérdidas cambian de sitio
#
# `evaluate` espera la función de pérdida de MLM antes que la de NSP, y se la llama con las dos al revés. Así, NSP
# ignora la clase 0 y MLM promedia sobre todas las posiciones, incluido el relleno, donde la etiqueta 0 cuenta ahora
# como respuesta. Fíjate en el método perezoso que siempre dice «sigue» y siempre dice `[PAD]`: la versión
# intercambiada lo pone por delante del modelo entrenado, en las dos columnas. Además, la función no devuelve nada,
# así que la curva de evaluación es una lista de `None`.

# %%
loss_fn_mlm, loss_fn_nsp = nn.CrossEntropyLoss(ignore_index=0), nn.CrossEntropyLoss()
some = np.arange(min(64, len(test_rows)))
inputs, labels, lengths, starts, is_next = collate(test_rows, some)
with torch.inference_mode():
    hidden = model.bert(inputs, lengths, starts)
    answers = {"trained": (model.bert.mlm_logits(hidden), model.bert.nsp_logits(hidden))}
lazy_mlm = torch.zeros_like(answers["trained"][0])
lazy_mlm[:, :, 0] = 20.0
answers["lazy"] = (lazy_mlm, torch.tensor([[-5.0, 5.0]]).expand(len(some), 2))

swapped = {}
for name, (mlm_logits, nsp_logits) in answers.items():
    flat = mlm_logits.flatten(0, 1), labels.flatten()
    swapped[name] = {
        "MLM right": loss_fn_mlm(*flat).item(),
        "MLM swapped": loss_fn_nsp(*flat).item(),
        "NSP right": loss_fn_nsp(nsp_logits, is_next).item(),
        "NSP swapped": loss_fn_mlm(nsp_logits, is_next).item(),
    }
display(pd.DataFrame(swapped).T)

# %% [markdown] lang="en"
# ### 14.2 One batch too many in the average
#
# The sums of the losses are divided by the number of batches **plus one**: every average comes out too low, most of
# all where there are few batches. A mean of batch means is not exact either, because a batch with few masked words
# weighs as much as one with many. Exact is: all losses added, divided by the number of words.

# %% [markdown] lang="es"
# ### 14.2 Un lote de más en la media
#
# Las sumas de las pérdidas se dividen por el número de lotes **más uno**: todas las medias salen demasiado bajas,
# sobre todo con pocos lotes. Tampoco es exacta una media de medias por lote, porque un lote con pocas palabras
# ocultas pesa tanto como uno con muchas. Lo exacto es sumar todas las pérdidas y dividir por el número de palabras.

# %%
batches = [
    (F.cross_entropy(logits, words).item(), len(words)) for logits, words, _, _ in outputs(model.bert, test_rows)
]
total = sum(loss for loss, _ in batches)
averages = {
    "batches + 1": total / (len(batches) + 1),
    "batches": total / len(batches),
    "words": sum(loss * words for loss, words in batches) / sum(words for _, words in batches),
}
print(len(batches), "batches |", " | ".join(f"{name} {value:.4f}" for name, value in averages.items()))

# %% [markdown] lang="en"
# ### 14.3 The training loss counts double, plus one
#
# The loop adds each loss twice, and the average is printed as `total / batches + 1`, where the brackets are missing.
# What appears is twice the mean plus one.

# %% [markdown] lang="es"
# ### 14.3 La pérdida de entrenamiento cuenta doble, más uno
#
# El bucle suma cada pérdida dos veces, y la media se muestra como `total / lotes + 1`, donde faltan los paréntesis.
# Lo que aparece es el doble de la media más uno.

# %%
losses = pd.read_csv(work / "reports" / "history.csv")["loss"].tolist()
total = 0.0
for loss in losses:
    total += loss
    total += loss
printed, mean_loss = total / len(losses) + 1, sum(losses) / len(losses)
print(f"printed {printed:.4f} | mean {mean_loss:.4f} | 2 x mean + 1 = {2 * mean_loss + 1:.4f}")

# %% [markdown] lang="en"
# ### 14.4 A batch in which nothing is asked
#
# A row may have no masked word by chance. If no row of a batch has one, the mean over zero words is 0/0, not a number
# (NaN). The notebook adds it to the total before it looks, and so the mean of the whole epoch is NaN. Correct: divide
# by at least one, so that the batch adds nothing.

# %% [markdown] lang="es"
# ### 14.4 Un lote en el que no se pregunta nada
#
# Por azar, una fila puede no tener ninguna palabra oculta. Si no la tiene ninguna fila de un lote, la media sobre
# cero palabras es 0/0, que no es un número (NaN). El cuaderno la suma al total antes de comprobarlo, y así la media
# de toda la época es NaN. Lo correcto es dividir como mínimo por uno, para que el lote no aporte nada.

# %%
logits = torch.randn(6, 10, requires_grad=True, generator=torch.Generator().manual_seed(1))
nothing = torch.zeros(6, dtype=torch.long)
wrong = F.cross_entropy(logits, nothing, ignore_index=0)
right = F.cross_entropy(logits, nothing, ignore_index=0, reduction="sum") / max(int((nothing != 0).sum()), 1)
epoch_wrong, epoch_right = 2.0 + wrong.item(), 2.0 + right.item()
print(f"batch {wrong.item()} -> epoch {epoch_wrong} | batch {right.item()} -> epoch {epoch_right}")

# %% [markdown] lang="en"
# ### 14.5 The token embedding is added twice, with two dropouts
#
# The positional encoding already returns token + position, and the sum adds the token once more. So the token weighs
# double against position and segment. Dropout is also applied twice on the way: at a rate of 0.1, 19 % of the
# position is lost.

# %% [markdown] lang="es"
# ### 14.5 El embedding de token se suma dos veces, con dos dropouts
#
# La codificación posicional ya devuelve token + posición, y la suma añade el token otra vez. Así, el token pesa el
# doble frente a la posición y el segmento. Además, el dropout se aplica dos veces por el camino: con una tasa de 0,1
# se pierde el 19 % de la posición.

# %%
torch.manual_seed(1)
token, place, segment = torch.randn(3, 50_000)
wrong, right = token + (token + place) + segment, token + place + segment
doubled = {name: np.polyfit(token.numpy(), value.numpy(), 1)[0] for name, value in (("wrong", wrong), ("right", right))}
dropout = nn.Dropout(0.1)
lost = {
    "wrong": (dropout(dropout(torch.ones(100_000))) == 0).double().mean().item(),
    "right": (dropout(torch.ones(100_000)) == 0).double().mean().item(),
}
for name in ("wrong", "right"):
    print(f"{name}: token weight {doubled[name]:.3f} | position lost {lost[name]:.3f}")

# %% [markdown] lang="en"
# ### 14.6 `self.train` is always true
#
# The embedding asks `if self.train:`. That is a method, and a method is always true; the mode is in `self.training`.
# Here the fault hides another one: the other branch leaves the segments out, so a correct test alone would evaluate a
# different network from the trained one. The cell measures what NSP loses without segments.

# %% [markdown] lang="es"
# ### 14.6 `self.train` siempre es verdadero
#
# El embedding pregunta `if self.train:`. Eso es un método, y un método siempre es verdadero; el modo está en
# `self.training`. Aquí el error oculta otro: la otra rama deja fuera los segmentos, de modo que corregir solo la
# pregunta haría evaluar una red distinta de la entrenada. La celda mide lo que pierde NSP sin segmentos.

# %%
module = nn.Dropout(0.1)
for mode in (True, False):
    module.train(mode)
    print(f"train({mode}): self.train {bool(module.train)} | self.training {module.training}")
segments = model.bert.embeddings.segment.weight
kept = segments.detach().clone()
with torch.no_grad():
    segments.zero_()
without_segments = evaluate(model.bert, test_rows)
with torch.no_grad():
    segments.copy_(kept)
print(f"NSP loss without segments {without_segments['NSP loss']:.4f} | with {after['NSP loss']:.4f}")

# %% [markdown] lang="en"
# ### 14.7 Parameters that no one uses
#
# `nn.TransformerEncoder` copies the layer that it is given. The notebook keeps the original as an attribute of the
# network too: it counts as parameters, is saved and moved, and never gets a gradient.

# %% [markdown] lang="es"
# ### 14.7 Parámetros que nadie usa
#
# `nn.TransformerEncoder` copia la capa que recibe. El cuaderno guarda además la original como atributo de la red:
# cuenta como parámetros, se guarda y se mueve, y nunca recibe un gradiente.


# %%
class WithSpare(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(d_model=10, nhead=2)
        self.encoder = nn.TransformerEncoder(self.layer, num_layers=2, enable_nested_tensor=False)

    def forward(self, states):
        return self.encoder(states)


spare = WithSpare()
spare(torch.randn(5, 2, 10)).square().sum().backward()
dead = sum(parameter.numel() for parameter in spare.parameters() if parameter.grad is None)
print(f"all {sum(parameter.numel() for parameter in spare.parameters()):,} | without a gradient {dead:,}")

# %% [markdown] lang="en"
# ### 14.8 Sizes that do not fit
#
# The number of heads has to divide the width. The notebook computes `wanted - width % wanted`, which often does not.
# And its sinusoidal positions have no place for the last cosine of an odd width: it crashes. Correct: take the
# largest divisor, and cut the cosines.

# %% [markdown] lang="es"
# ### 14.8 Tamaños que no encajan
#
# El número de cabezas tiene que dividir la anchura. El cuaderno calcula `deseadas - anchura % deseadas`, que muchas
# veces no la divide. Y sus posiciones sinusoidales no tienen sitio para el último coseno de una anchura impar: el
# programa falla. Lo correcto es tomar el mayor divisor y recortar los cosenos.


# %%
def largest_divisor(width, wanted):
    return max(heads for heads in range(1, wanted + 1) if width % heads == 0)


widths = range(8, 129)
failing = [width for width in widths if width % (12 - width % 12)]
correct = [width for width in widths if width % largest_divisor(width, 12)]
print(f"widths that fail: formula {len(failing)} of {len(widths)} | largest divisor {len(correct)}")
table = torch.zeros(5, 7)
try:
    table[:, 1::2] = torch.cos(torch.ones(5, 4))
except RuntimeError as error:
    odd_fault = type(error).__name__
print("width 7:", odd_fault, "|", tuple(sinusoidal_positions(5, 7).shape))

# %% [markdown] lang="en"
# ### 14.9 Weight decay in the wrong place
#
# `Adam(weight_decay=...)` adds the decay to the gradient, and Adam then divides it by its own size: a weight that no
# example asks to change moves at full speed towards zero. It also pulls on LayerNorm's scales and on biases, which
# should stay free. AdamW with groups decays only the matrices, and slowly. The cell follows one LayerNorm scale that
# starts at 1 and has no gradient.

# %% [markdown] lang="es"
# ### 14.9 El decaimiento de pesos, donde no debe
#
# `Adam(weight_decay=...)` suma el decaimiento al gradiente, y Adam lo divide después por su propio tamaño: un peso
# que ningún ejemplo pide cambiar va a toda velocidad hacia cero. Además tira de las escalas de LayerNorm y de los
# sesgos, que deberían quedar libres. AdamW por grupos solo reduce las matrices, y despacio. La celda sigue una escala
# de LayerNorm que empieza en 1 y no tiene gradiente.


# %%
def scale_after(make, steps=500):
    weight = nn.Parameter(torch.ones(1))
    optimizer = make([weight])
    for _ in range(steps):
        weight.grad = torch.zeros(1)
        optimizer.step()
    return weight.item()


scales = {
    "Adam, L2": scale_after(lambda weights: torch.optim.Adam(weights, lr=1e-3, weight_decay=0.01)),
    "AdamW": scale_after(lambda weights: torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.01)),
    "AdamW, no decay": scale_after(lambda weights: torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.0)),
}
print(" | ".join(f"{name} {value:.4f}" for name, value in scales.items()))

# %% [markdown] lang="en"
# ### 14.10 Nothing is seeded
#
# Without a seed two runs start from different weights, and no difference between their results means anything. The
# cell builds the same network twice.

# %% [markdown] lang="es"
# ### 14.10 Nada tiene semilla
#
# Sin semilla, dos ejecuciones parten de pesos distintos, y ninguna diferencia entre sus resultados significa nada. La
# celda construye dos veces la misma red.


# %%
def first_loss(seed):
    if seed is None:
        torch.seed()
    else:
        torch.manual_seed(seed)
    return evaluate(Bert(params.model, tokenizer.vocab_size), test_rows.take(np.arange(32)))["MLM loss"]


seeds = {"without": [first_loss(None), first_loss(None)], "with": [first_loss(1), first_loss(1)]}
for name, (one, two) in seeds.items():
    print(f"{name:8}{one:.9f} | {two:.9f} | difference {abs(one - two):.9f}")

# %% [markdown] lang="en"
# ### 14.11 The trained model is neither saved nor used
#
# The text of the notebook promises a file after each epoch, and there is none. Then it loads bert-base-uncased into
# the same variable: all answers come from that one, and the training was for nothing. The cell reloads our model from
# its file, and puts a fresh network in its place to show what replacing it costs.

# %% [markdown] lang="es"
# ### 14.11 El modelo entrenado ni se guarda ni se usa
#
# El texto del cuaderno promete un archivo después de cada época, y no hay ninguno. Después carga bert-base-uncased en
# la misma variable: todas las respuestas vienen de ese modelo, y el entrenamiento no ha servido para nada. La celda
# vuelve a cargar nuestro modelo desde su archivo, y pone en su lugar una red nueva para mostrar lo que cuesta
# sustituirlo.

# %%
print([path.name for path in sorted((work / "model").rglob("*")) if path.is_file()])
reloaded = evaluate(bertpipe.load_model(work / "model", device="cpu").bert, test_rows)["MLM loss"]
torch.manual_seed(1)
replaced = evaluate(Bert(params.model, tokenizer.vocab_size), test_rows)["MLM loss"]
print(f"trained {after['MLM loss']:.4f} | reloaded {reloaded:.4f} | replaced {replaced:.4f}")

# %% [markdown] lang="en"
# ### 14.12 NSP of Hugging Face's models, read the wrong way round
#
# In the course's data 1 means "next"; in Hugging Face's models class 0 does. The notebook reads 1 in both. On a model
# that has learned NSP each right answer then counts as wrong. The cell asks our exported model about 200 test pairs.

# %% [markdown] lang="es"
# ### 14.12 NSP de los modelos de Hugging Face, leído al revés
#
# En los datos del curso, 1 significa «sigue»; en los modelos de Hugging Face lo significa la clase 0. El cuaderno lee
# 1 en los dos casos. En un modelo que ha aprendido NSP, cada acierto cuenta entonces como fallo. La celda pregunta a
# nuestro modelo exportado por 200 pares de prueba.

# %%
exported = BertForPreTraining.from_pretrained(work / "huggingface").eval()
count = min(200, len(test_rows))
inputs, _, lengths, starts, is_next = collate(test_rows, np.arange(count))
columns = torch.arange(inputs.shape[1])
attention = (columns < lengths[:, None]).long()
types = ((columns >= starts[:, None]) & (columns < lengths[:, None])).long()
with torch.inference_mode():
    choice = exported(inputs, attention_mask=attention, token_type_ids=types).seq_relationship_logits.argmax(dim=-1)
nsp_readings = {
    "1 = next": (choice == is_next).double().mean().item(),
    "0 = next": ((choice == 0) == (is_next == 1)).double().mean().item(),
}
print(" | ".join(f"{name}: accuracy {value:.3f}" for name, value in nsp_readings.items()))

# %% [markdown] lang="en"
# ### 14.13 Zero masks, or two
#
# The notebook calls `.item()` on the positions of the masks, which works for exactly one. With two, or with none, it
# stops with an error that says nothing about masks. bertpipe answers each mask, and says what is missing where there
# is none.

# %% [markdown] lang="es"
# ### 14.13 Ninguna máscara, o dos
#
# El cuaderno llama a `.item()` con las posiciones de las máscaras, y eso funciona solo si hay exactamente una. Con
# dos, o con ninguna, se detiene con un error que no habla de máscaras. bertpipe responde a cada máscara, y dice qué
# falta cuando no hay ninguna.

# %%
masks_answered = {}
for text in ("The sheriff polishes a badge.", "The sheriff polishes a [MASK].", "The [MASK] polishes a [MASK]."):
    try:
        torch.zeros(text.count("[MASK]"), dtype=torch.long).item()
        wrong = "1 word"
    except RuntimeError as error:
        wrong = type(error).__name__
    try:
        right = f"{len(model.fill_masks(text, top_k=1).masks)} x [MASK]"
    except BertpipeError as error:
        right = str(error)
    masks_answered[text.count("[MASK]")] = (wrong, right)
    print(f"{text}\n   {wrong}\n   {right}")

# %% [markdown] lang="en"
# ### 14.14 Text is parsed again at each access, and a bad row becomes `None`
#
# The notebook's data set reads JSON out of a CSV cell whenever a row is asked for, in every epoch. bertpipe does that
# once. A row that cannot be read becomes `None` there, and crashes somewhere else, when the batch is put together.
# bertpipe puts it aside, with its line and the reason. The cell times both, then damages one row of a small data set.

# %% [markdown] lang="es"
# ### 14.14 El texto se analiza en cada acceso, y una fila mala se convierte en `None`
#
# El conjunto de datos del cuaderno lee JSON de una celda de CSV cada vez que se pide una fila, en cada época.
# bertpipe lo hace una sola vez. Allí, una fila que no se puede leer se convierte en `None` y falla en otro sitio, al
# formar el lote. bertpipe la aparta, con su línea y el motivo. La celda mide los dos tiempos y después estropea una
# fila de un conjunto pequeño.

# %%
small = bertpipe.load_params("tiny", {"convert.max_reject_rate": 0.05})
run_download(small.download, small.sample, small.masking, out=work / "small.zip")
member = "bert_dataset/bert_train_data.csv"
with zipfile.ZipFile(work / "small.zip") as archive, archive.open(member) as file:
    course_rows = pd.read_csv(file)

started_at = time.perf_counter()
for number in range(300):
    json.loads(course_rows.iloc[number % len(course_rows)]["BERT Input"])
parsed_s = time.perf_counter() - started_at
started_at = time.perf_counter()
for number in range(300):
    true_ids(train_rows, number % len(train_rows))
sliced_s = time.perf_counter() - started_at
print(f"300 rows: parsed {1e3 * parsed_s:.2f} ms | sliced {1e3 * sliced_s:.2f} ms")

with zipfile.ZipFile(work / "small.zip") as archive, zipfile.ZipFile(work / "damaged.zip", "w") as damaged:
    for name in archive.namelist():
        content = archive.read(name)
        damaged.writestr(name, content.replace(b'"[1, ', b'"[1; ', 1) if name == member else content)
try:
    torch.stack([torch.zeros(3), None])
except TypeError as error:
    none_fault = type(error).__name__
checked = run_convert(
    small.convert, zip_file=work / "damaged.zip", out=work / "small", rejects_report=work / "rejects.parquet"
)
rejects = pd.read_parquet(work / "small" / "rejects.parquet")
print(none_fault, "|", len(rejects), "x", rejects.iloc[0].to_dict())

# %% [markdown] lang="en"
# ### 14.15 The old data go before the new ones have come
#
# The notebook removes its data folder, and then starts to download. If the network fails, nothing is left. Correct:
# bring the new file under another name, check it, and let it take the old one's place at the end. The cell lets both
# downloads fail.

# %% [markdown] lang="es"
# ### 14.15 Los datos viejos desaparecen antes de que lleguen los nuevos
#
# El cuaderno borra su carpeta de datos y después empieza a descargar. Si falla la red, no queda nada. Lo correcto es
# traer el archivo nuevo con otro nombre, comprobarlo y dejar que ocupe el lugar del viejo solo al final. La celda
# hace fallar las dos descargas.

# %%
course, target = work / "course", work / "small.zip"
course.mkdir(exist_ok=True)
(course / "old.csv").write_text("1,2,3")
shutil.rmtree(course)
missing = bertpipe.load_params("tiny", {"download.source": "no-such-file.zip"})
bytes_before = target.stat().st_size
try:
    run_download(missing.download, missing.sample, missing.masking, out=target)
except BertpipeError as error:
    print(str(error).splitlines()[0])
files_left = {"remove first": course.exists(), "replace last": target.stat().st_size == bytes_before}
print(files_left)

# %% [markdown] lang="en"
# ### 14.16 A random word as the answer
#
# BERT replaces some **inputs** by random words, and asks for the true word there. The course's data have a random
# word as the **label** for a quarter of the masked words: an answer that nobody can know. The cell does the same to a
# quarter of our test labels, and asks the same model. The loss that this adds says nothing about the model.

# %% [markdown] lang="es"
# ### 14.16 Una palabra al azar como respuesta
#
# BERT sustituye algunas **entradas** por palabras al azar y pregunta ahí por la palabra verdadera. Los datos del
# curso tienen una palabra al azar como **etiqueta** en una cuarta parte de las palabras ocultas: una respuesta que
# nadie puede saber. La celda hace lo mismo con una cuarta parte de nuestras etiquetas de prueba y pregunta al mismo
# modelo. La pérdida que eso añade no dice nada del modelo.

# %%
chance = np.random.default_rng(1)
answers = test_rows.masked_labels.copy()
noisy = chance.random(len(answers)) < 0.25
answers[noisy] = chance.integers(5, tokenizer.vocab_size, noisy.sum())
random_labels = evaluate(model.bert, dataclasses.replace(test_rows, masked_labels=answers))["MLM loss"]
print(f"true labels {after['MLM loss']:.4f} | a quarter at random {random_labels:.4f}")

# %% [markdown] lang="en"
# ### 14.17 Padding that is stored
#
# In the course's files the shorter sentence of each pair is filled up to the length of the longer one, in the middle
# of the row too. That padding is read and parsed in every epoch, and attention has to go around it. Parquet stores
# real tokens alone, and a batch is padded at its end, to its own longest row. The cell counts the share of padding in
# both, for batches of 32 rows of similar length.

# %% [markdown] lang="es"
# ### 14.17 Relleno que se guarda
#
# En los archivos del curso, la oración más corta de cada par se rellena hasta la longitud de la más larga, también en
# mitad de la fila. Ese relleno se lee y se analiza en cada época, y la atención tiene que evitarlo. Parquet guarda
# solo los tokens reales, y un lote se rellena al final, hasta su propia fila más larga. La celda cuenta qué parte es
# relleno en los dos casos, con lotes de 32 filas de longitud parecida.


# %%
def padding_share(lengths, real):
    ordered = np.argsort(lengths, kind="stable")
    batches = np.array_split(ordered, math.ceil(len(ordered) / 32))
    return 1 - real.sum() / sum(lengths[batch].max() * len(batch) for batch in batches)


stored = [np.array(json.loads(text)) for text in course_rows["BERT Input"]]
sizes, real = (np.array([count(ids) for ids in stored]) for count in (len, np.count_nonzero))
padding = {"stored": padding_share(sizes, real), "at the end": padding_share(real, real)}
print(" | ".join(f"{name}: {share:.3f}" for name, share in padding.items()))

# %% [markdown] lang="en"
# ## 15. Where to go from here
#
# - Change `epochs`, or `params`: `bertpipe.load_params(changes={"model.layers": 3})`.
# - Train on your own text: `bertpipe.prepare("my-texts/", "data/mine")`, then `bertpipe.train`.
# - Start a project whose every number is recorded: `bertpipe init my-bert` in a terminal.

# %% [markdown] lang="es"
# ## 15. Y ahora, ¿qué?
#
# - Cambia `epochs`, o `params`: `bertpipe.load_params(changes={"model.layers": 3})`.
# - Entrena con tu propio texto: `bertpipe.prepare("mis-textos/", "data/mio")` y después `bertpipe.train`.
# - Empieza un proyecto en el que cada número queda registrado: `bertpipe init mi-bert` en una terminal.
