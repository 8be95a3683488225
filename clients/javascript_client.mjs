// Answers of transformers.js about exported models, as JSON: `node javascript_client.mjs JOB OUT`. The job names, beside
// the texts, copies of the exports with the ONNX files that onnx_answers of python_client.py wrote.
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [jobFile, out] = process.argv.slice(2);
// The package is in the folder from which this is started, not beside this file.
const found = createRequire(path.join(process.cwd(), "package.json")).resolve("@huggingface/transformers");
const { AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer, env, pipeline } =
  await import(pathToFileURL(found));
env.allowRemoteModels = false;
env.localModelPath = "";

function rows(encoded, hasTypes) {
  return encoded.input_ids.map((ids, row) => {
    const length = encoded.attention_mask[row].reduce((sum, one) => sum + one, 0);
    const types = hasTypes ? [encoded.token_type_ids?.[row].slice(0, length) ?? []] : [];
    return [ids.slice(0, length), ...types];
  });
}

function real(logits, lengths) {
  return logits.tolist().map((row, number) => row.slice(0, lengths[number]));
}

async function answersOf(model) {
  const tokenizer = await AutoTokenizer.from_pretrained(model.directory);
  // As the card says, the token types have to be asked for where the class is not BERT's.
  const types = model.wordpiece || !model.token_types ? {} : { return_token_type_ids: true };
  const encode = (texts, options) => rows(tokenizer(texts, { return_tensor: false, ...options, ...types }), model.token_types);
  const single = model.texts.map((text) => encode([text], {})[0]);
  const [firsts, seconds] = [0, 1].map((side) => model.pairs.map((pair) => pair[side]));
  const pairs = encode(firsts, { text_pair: seconds, padding: true });

  // It cuts long input at the end, with the last [SEP]: only what fits is compared.
  const fits = model.pairs.map((_, row) => row).filter((row) => pairs[row][0].length <= model.longest);
  const batch = tokenizer(
    fits.map((row) => firsts[row]),
    { text_pair: fits.map((row) => seconds[row]), padding: true, truncation: true, ...types },
  );
  const lengths = fits.map((row) => pairs[row][0].length);
  const options = { dtype: "fp32" };
  const masked = await AutoModelForMaskedLM.from_pretrained(model.directory, options);
  const answers = {
    "AutoTokenizer: encoded": [...single, ...pairs],
    "AutoModelForMaskedLM: mlm logits that fit": real((await masked(batch)).logits, lengths),
  };
  if (model.model_type === "modernbert") {
    const classifier = await AutoModelForSequenceClassification.from_pretrained(path.join(model.directory, "nsp"), options);
    answers["AutoModelForSequenceClassification: nsp logits that fit"] = (await classifier(batch)).logits.tolist();
  } else {
    const whole = await AutoModel.from_pretrained(model.directory, { ...options, model_file_name: "pretraining" });
    const both = await whole(batch);
    answers["AutoModel: mlm logits that fit"] = real(both.prediction_logits, lengths);
    answers["AutoModel: nsp logits that fit"] = both.seq_relationship_logits.tolist();
  }

  const fill = await pipeline("fill-mask", model.directory, options);
  const filled = await fill(model.question, { top_k: model.top_k });
  const extract = await pipeline("feature-extraction", model.directory, { ...options, model_file_name: "features" });
  const vectors = [];
  for (const [row, text] of model.texts.entries()) {
    if (single[row][0].length <= model.longest) vectors.push((await extract(text, { pooling: "mean" })).tolist()[0]);
  }
  return {
    ...answers,
    "feature-extraction: vectors that fit": vectors,
    "fill-mask: filled": filled.map((answer) => [answer.token, answer.score]),
  };
}

const answers = { versions: `transformers.js ${env.version}` };
for (const model of JSON.parse(fs.readFileSync(jobFile, "utf8"))) {
  answers[model.name] = await answersOf(model);
}
fs.writeFileSync(path.join(out, "answers.json"), JSON.stringify(answers));
