// A question set chosen as a file: the fields that /evaluate and the gate take.
import { t } from "../i18n.js";
import { html } from "../vendor/preact-htm.js";
import { Field } from "./basics.js";

// {data} of SQuAD's format, or {questions}: a list, alone or by that name. Throws an Error that says what the file is not.
export async function readQuestions(file) {
  let set;
  try {
    set = JSON.parse(await file.text());
  } catch (error) {
    throw new Error(t("evaluation.set.bad", { name: file.name, reason: error.message }));
  }
  if (set?.data) return { data: set.data };
  return { questions: Array.isArray(set) ? set : set?.questions };
}

export const QuestionFile = ({ onChange }) => html`<${Field} label=${t("evaluation.set")} hint=${t("evaluation.set.hint")}>${(id) =>
  html`<input id=${id} type="file" accept=".json" required onChange=${(event) => onChange(event.target.files[0] ?? null)} />`}<//>`;
