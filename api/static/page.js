"use strict";

const SHOWN_ROWS = 50; // of an uploaded file at a time
const SHOWN_BARS = 10; // of the contributions to a score
const ROUNDING = 1e-9; // the share of all contributions below which one may be rounding alone

const needsLogin = document.body.dataset.login === "true";
const mostBytes = Number(document.body.dataset.mostBytes);
let authorization = null; // the header of the user who is logged in; kept only here, and gone with the page
let user = ""; // whose records and answers the page holds
let visit = new AbortController(); // of that user; requests under way are aborted when it ends

// small helpers

/** Make an element; strings among the children become text, never markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A number in as many digits as a person wants to read. */
function figure(number) {
  const size = Math.abs(number);
  const digits = size >= 100 ? { maximumFractionDigits: 1 } : { maximumSignificantDigits: 3 };
  return number.toLocaleString("en", digits).replace("-", "\u2212");
}

/** A contribution, in three digits of the largest one. */
function signed(number, largest) {
  const isOrdinary = largest >= 0.01 && largest < 100_000;
  const decimals = Math.max(0, 2 - Math.floor(Math.log10(largest)));
  const digits = isOrdinary
    ? { minimumFractionDigits: decimals, maximumFractionDigits: decimals }
    : { notation: largest < 1 ? "scientific" : "compact", maximumSignificantDigits: 3 };
  return number.toLocaleString("en", { ...digits, signDisplay: "exceptZero" }).replace("-", "\u2212");
}

function percent(share) {
  return share.toLocaleString("en", { style: "percent", maximumFractionDigits: 1 });
}

// asking the service

/** What went wrong, as the service says it (RFC 9457). */
class Problem extends Error {
  constructor(status, { detail, errors } = {}) {
    super(detail || `The service answered with status ${status}.`);
    this.status = status;
    this.errors = errors || {};
  }
}

/** The problem in an answer. Something in front of the service may have sent it, and not as JSON. */
function problemOf(status, text) {
  try {
    return new Problem(status, JSON.parse(text));
  } catch {
    return new Problem(status);
  }
}

/** Send a request with these credentials; return the answer's JSON. */
async function send(path, record, credentials) {
  const init = { credentials: "omit", signal: visit.signal }; // otherwise the browser answers a 401 with a dialog of its own
  init.headers = credentials ? { Authorization: credentials } : {};
  if (record) {
    init.method = "POST";
    init.body = JSON.stringify(record);
    init.headers["Content-Type"] = "application/json";
  }
  let response, text;
  try {
    response = await fetch(path, init);
    text = await response.text();
  } catch {
    throw new Problem(0, { detail: "The service cannot be reached." });
  }
  if (!response.ok) {
    throw problemOf(response.status, text);
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new Problem(0, { detail: "The answer is incomplete, or did not come from the service." });
  }
}

/** Send a request as the user; ask for a login when there is none, or it is no longer valid. */
async function ask(path, record) {
  if (needsLogin && !authorization) {
    await logIn();
  }
  const asker = visit;
  try {
    return await send(path, record, authorization);
  } catch (problem) {
    if (problem.status !== 401) {
      throw problem;
    }
    await logIn();
    if (visit !== asker) {
      throw problem; // somebody else has logged in: the record was not theirs
    }
    return send(path, record, authorization);
  }
}

/** Predict the example of the use case that is shown, to see whether the user is let in. */
async function askExample(how, ...credentials) {
  const { name, example } = (shownUseCase() || {}).dataset || {};
  if (!example) {
    throw new Problem(0, { detail: "No model of this use case can answer." });
  }
  return how(`output/${name}`, JSON.parse(example), ...credentials);
}

/** Upload a file and get the table with the answers as a file of a kind, which rows these are, and how the file was read.
 *
 * By XMLHttpRequest, since fetch reports no progress. onProgress gets the share that is sent; onSent is called when all is sent and the service begins to work.
 */
function upload(path, file, mediaType, onProgress, onSent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("fileupload", file);
    request.open("POST", path);
    request.responseType = "arraybuffer"; // in the encoding of the file that was sent
    request.setRequestHeader("Accept", `${mediaType}, application/problem+json;q=0.5`);
    if (authorization) {
      request.setRequestHeader("Authorization", authorization);
    }
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.upload.onload = onSent;
    request.onload = () => {
      const { status, response } = request;
      const header = (name) => request.getResponseHeader(name) || "";
      if (status === 200) {
        resolve({ bytes: response, type: header("Content-Type"), ranges: header("Row-Numbers"), readAs: parsed(header("Read-As")) });
      } else {
        reject(problemOf(status, new TextDecoder().decode(response)));
      }
    };
    request.onerror = () => reject(new Problem(0, { detail: "The upload was interrupted." }));
    request.onabort = request.onerror;
    visit.signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}

/** The object in a JSON text; an empty one when something in front of the service has dropped or cut it. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

/** Bytes as text, in the encoding that the answer names. */
function decoded({ bytes, type }) {
  const [, charset = "utf-8"] = /charset=([^;]+)/.exec(type) || [];
  return new TextDecoder(charset).decode(bytes);
}

// the login

const dialog = document.getElementById("login");
const loginButton = document.getElementById("login-button");
const loginError = document.getElementById("login-error");

function basic(name, password) {
  const bytes = new TextEncoder().encode(`${name}:${password}`); // btoa alone takes Latin-1 only
  return `Basic ${btoa(String.fromCharCode(...bytes))}`;
}

/** Ask for name and password until a prediction of the example shows that they are right. */
function logIn() {
  const form = dialog.querySelector("form");
  const [name, password] = form.querySelectorAll("input");
  authorization = null;
  loginButton.textContent = "Log in";
  return new Promise((resolve, reject) => {
    form.onsubmit = async (event) => {
      event.preventDefault();
      loginError.textContent = "";
      const credentials = basic(name.value, password.value);
      try {
        await askExample(send, credentials);
      } catch (problem) {
        loginError.textContent = problem.status === 401 ? "Wrong name or password." : problem.message;
        password.select();
        return;
      }
      if (!dialog.open) {
        return; // cancelled meanwhile
      }
      if (user && user !== name.value) {
        logOut(); // what one user asked is not for the next
      }
      authorization = credentials;
      user = name.value;
      loginButton.textContent = `Log out ${user}`;
      dialog.close();
    };
    dialog.onclose = () => {
      form.reset();
      loginError.textContent = "";
      if (authorization) {
        resolve();
        return;
      }
      if (user) {
        logOut(); // whose password is no longer valid
      }
      reject(new Problem(401, { detail: "Only users get an answer: log in first." }));
    };
    dialog.showModal();
  });
}

/** Forget the user, and everything that the user sent and got. */
function logOut() {
  authorization = null;
  user = "";
  loginButton.textContent = "Log in";
  visit.abort();
  visit = new AbortController();
  for (const forget of forgetters) {
    forget();
  }
}

document.getElementById("login-cancel").onclick = () => dialog.close();
loginButton.hidden = !needsLogin;
loginButton.onclick = () => (authorization ? logOut() : logIn().catch(() => {}));

// the form

/** What a control that is not empty stands for, as JSON takes it. */
function valueOf({ dataset, type, value }) {
  if (dataset.kind === "boolean") {
    return value === "true";
  }
  return type === "number" ? Number(value) : value;
}

/** The record in a form, as JSON takes it, without empty fields. */
function recordIn(form) {
  const record = {};
  for (const control of form.querySelectorAll("[name]")) {
    if (control.validity.badInput) {
      record[control.name] = "not valid"; // the browser hides what was typed; the service will name the field
    } else if (control.value !== "") {
      record[control.name] = valueOf(control);
    }
  }
  return record;
}

/** The record in a form, as people read it: yes or no in the words of the form. */
function recordInWords(form) {
  const record = recordIn(form);
  for (const control of form.querySelectorAll('[data-kind="boolean"]')) {
    if (control.name in record) {
      record[control.name] = control.selectedOptions[0].text;
    }
  }
  return record;
}

function showError(control, message) {
  document.getElementById(`${control.id}-error`).textContent = message;
  message ? control.setAttribute("aria-invalid", "true") : control.removeAttribute("aria-invalid");
}

/** Show errors beside their controls, and go to the first; return the errors that belong to no control. */
function showErrors(form, errors) {
  const others = { ...errors };
  let first = null;
  for (const control of form.querySelectorAll("[name]")) {
    const messages = errors[control.name];
    showError(control, messages ? messages.join(" ") : "");
    delete others[control.name];
    first = first || (messages ? control : null);
  }
  if (first) {
    first.focus();
  }
  return others;
}

/** What is wrong, line by line: by field or, in a file, by row and field. */
function faultLines(errors) {
  const lines = (fields, row = "") =>
    Object.entries(fields).map(([name, messages]) => `${row}${name}: ${messages.join(" ")}`);
  const { rows, count } = errors;
  if (!rows || Array.isArray(rows)) {
    return lines(errors);
  }
  const named = Object.entries(rows).flatMap(([row, fields]) => lines(fields, `Row ${row}, `));
  const others = count - Object.keys(rows).length;
  return others > 0 ? [...named, `${figure(others)} more ${others === 1 ? "row" : "rows"}.`] : named;
}

/** Say what went wrong, and list the errors. */
function showAlert(place, problem, errors = problem.errors) {
  const items = faultLines(errors).map((line) => make("li", {}, line));
  place.replaceChildren(make("p", {}, problem.message), ...(items.length ? [make("ul", {}, ...items)] : []));
}

// the answer

/** A probability as a bar, with a mark where the decision changes. */
function meter(probability, threshold) {
  const words = `Probability ${percent(probability)}, threshold ${percent(threshold)}`;
  const fill = make("div", { class: "fill" });
  const mark = make("div", { class: "mark" });
  fill.style.width = `${100 * probability}%`;
  mark.style.left = `${100 * Math.min(threshold, 1)}%`;
  return make("div", { class: "meter", role: "img", "aria-label": words }, fill, mark);
}

function decisionParts(outcomes, prediction, threshold) {
  const [result] = prediction.result;
  const [probability] = prediction.probability;
  const reached = result ? "reaches" : "is below";
  return [
    make("p", { class: result ? "decision one" : "decision zero" }, outcomes[result]),
    make("p", { class: "value" }, percent(probability), " ", make("span", {}, `probability of \u201c${outcomes[1]}\u201d`)),
    meter(probability, threshold),
    make("p", { class: "help" }, `The probability ${reached} the threshold of ${percent(threshold)}.`),
  ];
}

/** The label, and the probability of each, largest first. */
function labelParts(meaning, prediction) {
  const [result] = prediction.result;
  const probabilities = Object.entries(prediction.probability[0]).sort(([, one], [, other]) => other - one);
  const rows = probabilities.map(([label, probability]) => {
    const bar = make("div", { class: "bar up" });
    bar.style.width = `${100 * probability}%`;
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, label),
      make("td", { class: "picture" }, make("div", { "aria-hidden": "true" }, bar)),
      make("td", { class: "number" }, percent(probability)),
    );
  });
  const heads = ["Label", "Probability"].map((title) => make("th", { scope: "col", class: "unseen" }, title));
  return [
    make("p", { class: "decision label" }, result),
    make("p", { class: "help" }, meaning),
    make(
      "table",
      { class: "bars probabilities" },
      make("caption", {}, "The probability of each label; the most probable one is the answer."),
      make("thead", { class: "unseen" }, make("tr", {}, heads[0], make("td"), heads[1])),
      make("tbody", {}, ...rows),
    ),
  ];
}

function valueParts(meaning, prediction) {
  return [make("p", { class: "value" }, figure(prediction.result[0])), make("p", { class: "help" }, meaning)];
}

/** The contributions, largest first, as a table with a picture of each. */
function bars(explanation, labels, record, { up, down }) {
  const all = Object.entries(explanation.contributions);
  const whole = all.reduce((sum, [, part]) => sum + Math.abs(part), Math.abs(explanation.base_value));
  const parts = all
    .filter(([, part]) => Math.abs(part) > ROUNDING * whole)
    .sort(([, one], [, other]) => Math.abs(other) - Math.abs(one));
  const rest = parts.splice(SHOWN_BARS);
  const rows = parts.map(([name, part]) => [labels[name] || name, record[name], part]);
  if (rest.length) {
    rows.push([`${rest.length} others`, undefined, rest.reduce((sum, [, part]) => sum + part, 0)]);
  }
  const largest = Math.max(...rows.map(([, , part]) => Math.abs(part)));
  const body = rows.map(([label, value, part]) => {
    const bar = make("div", { class: part > 0 ? "bar up" : "bar down" });
    bar.style.width = `${(50 * Math.abs(part)) / largest}%`;
    const name = make("th", { scope: "row" }, label);
    if (value !== undefined) {
      name.append(make("span", {}, ` ${value}`));
    }
    return make(
      "tr",
      {},
      name,
      make("td", { class: "picture" }, make("div", { "aria-hidden": "true" }, bar)),
      make("td", { class: "number" }, signed(part, largest)),
    );
  });
  const [base, raw] = [explanation.base_value, explanation.raw_score].map(figure);
  const [column, contribution] = ["Column", "Contribution"].map((title) =>
    make("th", { scope: "col" }, make("span", { class: "unseen" }, title)),
  );
  return [
    make("h4", {}, "What moved the answer"),
    make("p", { class: "help" }, `To the right: ${up.means}. To the left: ${down.means}.`),
    make(
      "table",
      { class: "bars" },
      make("caption", {}, `Every raw score starts at ${base}; with these contributions this one is ${raw}.`),
      make("colgroup", {}, ...["name", "picture", "number"].map((part) => make("col", { class: part }))),
      make("thead", {}, make("tr", {}, column, make("td"), contribution)),
      make("tbody", {}, ...body),
    ),
  ];
}

/** Reasons in words under a heading; those that come from a protected feature are marked. */
function reasonList(heading, kind, reasons) {
  const items = reasons.map((one) => {
    const item = make("li", {}, one.reason);
    if (one.protected) {
      item.append(
        make("span", { class: "badge warn" }, "protected"),
        make("p", { class: "help" }, "Nobody may be judged by this: a decision about a person must not rest on it."),
      );
    }
    return item;
  });
  const list = items.length
    ? make("ol", { class: `reasons ${kind}` }, ...items)
    : make("p", { class: "help" }, "Nothing in this record does.");
  return [make("h4", {}, heading), list];
}

/** What raised and what lowered the prediction; what speaks for the result comes first. */
function reasonLists({ result, reasons, counter_reasons }, sides) {
  const [first, second] = result === 0 && sides.isDecision ? ["down", "up"] : ["up", "down"];
  return [
    ...reasonList(sides[first].heading, first, reasons),
    ...reasonList(sides[second].heading, second, counter_reasons),
  ];
}

/** What it means, for each kind of task, that a column raised or lowered the prediction. */
const SIDES = {
  binary(outcomes) {
    const [down, up] = outcomes.map((outcome) => side("for", "towards", outcome));
    return { up, down, isDecision: true };
  },
  multiclass(outcomes, result) {
    return { up: side("for", "towards", result), down: side("against", "away from", result) };
  },
  regression() {
    const [down, up] = ["lowers", "raises"].map((verb) => ({
      heading: `What ${verb} the value`,
      means: `it ${verb} the value`,
    }));
    return { up, down };
  },
};

function side(speaks, moves, outcome) {
  return { heading: `Speaks ${speaks} \u201c${outcome}\u201d`, means: `${moves} \u201c${outcome}\u201d` };
}

// a file

const CSV = "text/csv";
const WORKBOOK = ["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"];
/** In which kind of file answers go to who sent a certain kind: its media type and ending. */
const ANSWER_KINDS = {
  csv: [CSV, "csv"],
  jsonl: ["application/jsonl", "jsonl"],
  parquet: ["application/vnd.apache.parquet", "parquet"],
  feather: ["application/vnd.apache.arrow.file", "feather"],
  ...Object.fromEntries(["xlsx", "xlsm", "xlsb", "xls", "ods"].map((kind) => [kind, WORKBOOK])),
};

const SIGNS = { ",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar", ".": "point" };

/** How a file was read, in words. */
function readAsWords({ format, ...details }) {
  const words = Object.entries(details).map(([name, value]) => `${name.replace("_", " ")} ${SIGNS[value] || value}`);
  return format ? `Read as ${format.toUpperCase()}${words.length ? `: ${words.join(", ")}` : ""}.` : "";
}

/** The rows of a CSV text, each a list of cells (RFC 4180). */
function parseCsv(text, separator) {
  const rows = [];
  let row = [];
  let cell = "";
  let isQuoted = false;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (isQuoted) {
      if (character !== '"') {
        cell += character;
      } else if (text[at + 1] === '"') {
        cell += character;
        at++;
      } else {
        isQuoted = false;
      }
    } else if (character === '"') {
      isQuoted = true;
    } else if (character === separator || character === "\n") {
      row.push(cell);
      cell = "";
      if (character === "\n") {
        rows.push(row);
        row = [];
      }
    } else if (character !== "\r") {
      cell += character; // lines end in CR LF; a cell that holds either is quoted
    }
  }
  return rows;
}

/** The numbers in ranges such as 2-40,42; none when something in front of the service has dropped the header. */
function numbersIn(ranges) {
  return (ranges ? ranges.split(",") : []).flatMap((range) => {
    const [first, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, at) => first + at);
  });
}

/** Rows with their answers, which come before the columns of the file; `result` is one of the labels if there are any. */
function answerTable(header, rows, answers, labels, decimal) {
  const isAnswer = (name) => answers.includes(name) || name === "errors";
  const order = [...header.keys()].sort((one, other) => isAnswer(header[other]) - isAnswer(header[one]));
  const isLabel = (name) => name === "result" && labels.length > 0;
  const isNumber = (name) => answers.includes(name) && name !== "outcome" && !isLabel(name);
  // a label that a spreadsheet would run as a formula has an apostrophe in front in the file alone
  const labelOf = (cell) => labels.find((label) => cell === `'${label}`) ?? cell;
  const inWords = (cell, name) => (isLabel(name) ? labelOf(cell) : cell);
  const shown = (cell, name) => (isNumber(name) && cell !== "" ? figure(Number(cell.replace(decimal, "."))) : inWords(cell, name));
  const style = (name) => (!isAnswer(name) ? "" : name === "errors" ? "fault" : "outcome");
  const head = [make("th", { scope: "col" }, "Row"), ...order.map((at) => make("th", { scope: "col" }, header[at]))];
  const body = rows.map(({ number, cells }) => {
    const shownCells = order.map((at) => make("td", { class: style(header[at]) }, shown(cells[at], header[at])));
    return make("tr", {}, make("th", { scope: "row" }, String(number)), ...shownCells);
  });
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Answers" }, table);
}

/** A page of the rows at a time, with buttons to go through them, and a choice when some are invalid. */
function pagedTable(rows, faulty, draw) {
  const choices = [`All rows (${figure(rows.length)})`, `Invalid rows (${figure(faulty.length)})`];
  const choice = make("select", {}, ...choices.map((text) => make("option", {}, text)));
  const [back, next] = ["Previous", "Next"].map((text) => make("button", { type: "button", class: "plain" }, text));
  const where = make("span", { role: "status" });
  const table = make("div", { class: "part" });
  let at = 0;

  function show(part, button) {
    const chosen = choice.selectedIndex ? faulty : rows;
    const last = Math.ceil(chosen.length / SHOWN_ROWS) - 1;
    at = part;
    table.replaceChildren(draw(chosen.slice(at * SHOWN_ROWS, (at + 1) * SHOWN_ROWS)));
    where.textContent = `Page ${figure(at + 1)} of ${figure(last + 1)}`;
    [back.disabled, next.disabled] = [at === 0, at === last];
    parts.hidden = last === 0;
    if (button && button.disabled) {
      (button === back ? next : back).focus(); // a disabled button would lose the focus
    }
  }

  back.onclick = () => show(at - 1, back);
  next.onclick = () => show(at + 1, next);
  choice.onchange = () => show(0);
  const parts = make("div", { class: "buttons" }, back, next, where);
  const pick = make("label", {}, make("span", {}, "Show"), choice);
  pick.hidden = !faulty.length;
  show(0);
  return [make("div", { class: "pager" }, pick, parts), table];
}

// one use case

function setUp(place) {
  const { meaning, kind } = place.dataset;
  const [outcomes, labels] = [place.dataset.outcomes, place.dataset.labels].map((text) => JSON.parse(text));
  const answerColumns = JSON.parse(place.dataset.answers); // of a file's answer, beside `errors`
  const model = place.querySelector(".model");
  const form = place.querySelector("form.record");
  const answer = place.querySelector(".answer");
  const [answerAlert, uploadAlert] = place.querySelectorAll(".alert");
  const empty = answer.querySelector(".empty");
  const result = answer.querySelector(".result");
  const explanation = answer.querySelector(".explanation");
  const input = place.querySelector(".upload");
  const drop = place.querySelector(".drop");
  const progress = place.querySelector(".progress");
  const status = place.querySelector(".upload-status");
  const table = place.querySelector(".table");
  let question = 0; // the number of the newest one; answers to older ones are not shown
  let files = 0; // the same for files
  let answersUrl = ""; // what the link to the answers of a file points to

  function clearAnswer() {
    question++;
    answer.classList.remove("old");
    for (const part of [answerAlert, result, explanation]) {
      part.replaceChildren();
    }
    empty.hidden = false;
  }

  async function predict() {
    clearAnswer();
    const asked = question;
    const [record, inWords] = [recordIn(form), recordInWords(form)];
    showErrors(form, {});
    empty.hidden = true;
    result.replaceChildren(make("p", { class: "waiting" }, "Asking the model ..."));
    try {
      const prediction = await ask(`output/${model.value}`, record);
      const { threshold } = await ask(`models/${prediction.model}`);
      if (asked !== question) {
        return;
      }
      const parts = {
        binary: () => decisionParts(outcomes, prediction, threshold),
        multiclass: () => labelParts(meaning, prediction),
        regression: () => valueParts(meaning, prediction),
      }[kind]();
      result.replaceChildren(...parts, make("p", { class: "id" }, `Answered by ${prediction.model}`));
      result.scrollIntoView({ block: "nearest" });
      await explain(prediction.model, record, inWords, asked);
      result.scrollIntoView({ block: "nearest" }); // what came below may have moved it
    } catch (problem) {
      if (asked !== question) {
        return;
      }
      result.replaceChildren();
      const others = showErrors(form, problem.errors);
      const isInForm = Object.keys(problem.errors).length > Object.keys(others).length;
      const hint = new Problem(422, { detail: "Check the marked fields." });
      showAlert(answerAlert, isInForm ? hint : problem, others);
    }
  }

  async function explain(modelId, record, inWords, asked) {
    let parts;
    try {
      const { explanations } = await ask(`explain/${modelId}`, record);
      const [one] = explanations;
      const sides = SIDES[kind](outcomes, one.result);
      parts = [...reasonLists(one, sides), ...bars(one, labels, inWords, sides)];
    } catch (problem) {
      parts = [make("h4", {}, "No explanation"), make("p", {}, problem.message)];
    }
    if (asked === question) {
      explanation.replaceChildren(...parts);
    }
  }

  function clearFile() {
    files++;
    URL.revokeObjectURL(answersUrl);
    progress.hidden = true;
    status.textContent = "";
    for (const part of [uploadAlert, table]) {
      part.replaceChildren();
    }
  }

  async function predictFile(file) {
    clearFile();
    const sent = files;
    const bar = progress.querySelector("progress");
    const ifNewest = (show) => (...what) => sent === files && show(...what);
    const sending = ifNewest((share) => {
      bar.value = share;
    });
    const working = ifNewest(() => {
      bar.removeAttribute("value"); // nobody knows how long it takes
      status.textContent = `Working on ${file.name} ...`;
    });
    const end = ifNewest(() => {
      progress.hidden = true;
      status.textContent = "";
    });
    try {
      if (file.size > mostBytes) {
        throw new Problem(413, { detail: `The file is larger than ${figure(mostBytes / 1e6)} MB.` });
      }
      if (needsLogin) {
        await askExample(ask); // a 401 to the upload itself would make the browser show a dialog of its own
      }
      if (sent !== files) {
        return; // another file has been chosen, or the user has changed
      }
      progress.hidden = false;
      status.textContent = `Sending ${file.name} ...`;
      sending(0);
      const answered = await upload(`outputs_upload/${model.value}?partial=true`, file, CSV, sending, working);
      end();
      ifNewest(showTable)(file, answered);
    } catch (problem) {
      end();
      ifNewest(showAlert)(uploadAlert, problem);
    }
  }

  function showTable(file, answered) {
    const { readAs } = answered;
    const isCsv = !readAs.format || readAs.format === "csv"; // otherwise this CSV is in no dialect that was sent
    const { separator = ",", decimal = ".", first_line: firstLine } = isCsv ? readAs : {};
    const [header = [], ...lines] = parseCsv(decoded(answered), separator).slice(firstLine ? 1 : 0);
    const result = header.lastIndexOf("result");
    if (result < 0) {
      throw new Problem(0, { detail: "The answer is incomplete, or did not come from the service." });
    }
    const numbers = numbersIn(answered.ranges);
    const rows = lines.map((cells, at) => ({ number: numbers[at] ?? "", cells }));
    const faulty = rows.filter(({ cells }) => cells[result] === "");
    const size = `${figure(rows.length)} ${rows.length === 1 ? "row" : "rows"}`;
    status.textContent = `${file.name}: ${size}; ${faulty.length ? figure(faulty.length) : "none"} invalid.`;
    const labels = kind === "multiclass" ? outcomes : [];
    const draw = (some) => answerTable(header, some, answerColumns, labels, decimal);
    const words = make("p", { class: "help" }, readAsWords(readAs));
    const link = isCsv ? downloadLink(file, answered) : downloadButton(file, ANSWER_KINDS[readAs.format] || WORKBOOK);
    table.replaceChildren(words, make("p", {}, link), ...pagedTable(rows, faulty, draw));
  }

  /** A link to the answers, which are there already. */
  function downloadLink(file, { bytes, type }) {
    answersUrl = URL.createObjectURL(new Blob([bytes], { type }));
    const link = make("a", { class: "button", href: answersUrl }, "Download the answers");
    link.download = answersName(file, "csv");
    return link;
  }

  /** A button that gets the answers in the kind of file that was sent. */
  function downloadButton(file, [mediaType, ending]) {
    const button = make("button", { type: "button" }, "Download the answers");
    const path = `outputs_upload/${model.value}?partial=true`;
    const nothing = () => {};
    button.onclick = async () => {
      button.disabled = true;
      try {
        const { bytes, type } = await upload(path, file, mediaType, nothing, nothing);
        const link = make("a", { href: URL.createObjectURL(new Blob([bytes], { type })) });
        link.download = answersName(file, ending);
        link.click();
        URL.revokeObjectURL(link.href);
      } catch (problem) {
        showAlert(uploadAlert, problem);
      }
      button.disabled = false;
    };
    return button;
  }

  function answersName(file, ending) {
    return `${file.name.replace(/\.[^.]*$/, "")}-answers.${ending}`;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    predict();
  });
  form.addEventListener("reset", () => {
    showErrors(form, {});
    clearAnswer();
  });
  form.addEventListener("input", (event) => {
    showError(event.target, "");
    answer.classList.toggle("old", result.hasChildNodes());
  });
  model.addEventListener("change", clearAnswer);
  input.addEventListener("change", () => {
    const [file] = input.files;
    if (file) {
      predictFile(file);
      input.value = ""; // so that the same file can be chosen again
    }
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      const file = kind === "drop" && event.dataTransfer.files[0];
      if (file && !input.disabled) {
        predictFile(file);
      }
    });
  }

  /** Clear what a user sent and got, before another user comes. */
  return function forget() {
    form.reset(); // which clears the answer, too
    clearFile();
  };
}

// the page

const useCases = [...document.querySelectorAll(".use-case")];
const useCase = document.getElementById("use-case");

function shownUseCase() {
  return useCases.find((place) => place.dataset.name === useCase.value);
}

function show() {
  for (const place of useCases) {
    place.hidden = place !== shownUseCase();
  }
}

const forgetters = useCases.filter((place) => place.dataset.kind).map(setUp); // others have no model to ask
useCase.addEventListener("change", show);
// otherwise the browser would show the page as it was left to anyone who goes back to it
window.addEventListener("pagehide", (event) => event.persisted && authorization && logOut());
show(); // a browser may have kept the choice of the last visit
