"use strict";

const SHOWN_ROWS = 50; // of an uploaded file at a time
const SHOWN_BARS = 10; // of the contributions to a score
const ROUNDING = 1e-9; // the share of all contributions below which one may be rounding alone
const ROW_BYTES = 200; // a file that has more for each row that is answered at once is a job without being tried first
const MOST_FAULTS = 10; // times in a row that a job cannot be asked for, which takes a minute and a half
const LONGEST_PAUSE = 10; // seconds between two of them
const UNSEEN = 10; // times as long is a pause in a tab that nobody looks at
const PASSING = [0, 429, 502, 503, 504]; // statuses of problems that may be over soon

const needsLogin = document.body.dataset.login === "true";
const mostBytes = Number(document.body.dataset.mostBytes);
const largeBytes = ROW_BYTES * Number(document.body.dataset.rowsAtOnce);
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

/** What went wrong, as the service says it (RFC 9457), and the seconds after which it may be over. */
class Problem extends Error {
  constructor(status, { detail, errors } = {}, retryAfter = 0) {
    super(detail || `The service answered with status ${status}.`);
    this.status = status;
    this.errors = errors || {};
    this.retryAfter = retryAfter;
  }
}

/** An answer: its bytes, and a function that gives its headers. A problem is thrown. */
function answerOf(status, bytes, headerOf) {
  const header = (name) => headerOf(name) || "";
  if (status >= 200 && status < 300) {
    return { bytes, header };
  }
  // something in front of the service may have sent it, and not as JSON
  throw new Problem(status, parsed(new TextDecoder().decode(bytes)), Number(header("Retry-After")) || 0);
}

/** The object in a JSON text; an empty one when something in front of the service has dropped, cut or replaced it. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

/** The JSON in an answer that must be the service's own. */
function jsonIn({ bytes }) {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new Problem(0, { detail: "The answer is incomplete, or did not come from the service." });
  }
}

/** Send a request with these credentials. */
async function request(path, credentials, { headers, ...init } = {}) {
  const all = credentials ? { ...headers, Authorization: credentials } : headers;
  let response, bytes;
  try {
    // without `omit`, the browser answers a 401 with a dialog of its own
    response = await fetch(path, { signal: visit.signal, credentials: "omit", ...init, headers: all });
    bytes = await response.arrayBuffer();
  } catch {
    throw new Problem(0, { detail: "The service cannot be reached." });
  }
  return answerOf(response.status, bytes, (name) => response.headers.get(name));
}

/** Wait; longer in a tab that nobody looks at, until somebody does. */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const over = () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", over);
      signal.removeEventListener("abort", over);
      signal.aborted ? reject(signal.reason) : resolve();
    };
    signal.throwIfAborted();
    const timer = setTimeout(over, 1000 * seconds * (document.hidden ? UNSEEN : 1));
    document.addEventListener("visibilitychange", over);
    signal.addEventListener("abort", over);
  });
}

/** Try again, a few times, while the service is busy and says when to. */
async function insist(attempt, { tries, longest, signal, onBusy }) {
  try {
    return await attempt();
  } catch (problem) {
    const { status, retryAfter } = problem;
    if (status !== 503 || !tries || !retryAfter || retryAfter > longest) {
      throw problem;
    }
    onBusy(retryAfter);
    await pause(retryAfter, signal);
  }
  return insist(attempt, { tries: tries - 1, longest, signal, onBusy });
}

/** Send a record, or nothing, with these credentials; return the answer's JSON. */
async function send(path, record, credentials) {
  const headers = { "Content-Type": "application/json" };
  const init = record ? { method: "POST", body: JSON.stringify(record), headers } : {};
  const patience = { tries: 2, longest: 5, signal: visit.signal, onBusy: () => {} };
  return jsonIn(await insist(() => request(path, credentials, init), patience));
}

/** Do something as the user; ask for a login when there is none, or it is no longer valid. */
async function asUser(attempt) {
  if (needsLogin && !authorization) {
    await logIn();
  }
  const asker = visit;
  try {
    return await attempt(authorization);
  } catch (problem) {
    if (problem.status !== 401) {
      throw problem;
    }
    await logIn();
    if (visit !== asker) {
      throw problem; // somebody else has logged in: what was asked was not theirs
    }
    return attempt(authorization);
  }
}

function ask(path, record) {
  return asUser((credentials) => send(path, record, credentials));
}

/** Predict the example of the use case that is shown, to see whether the user is let in. */
async function askExample(how, ...credentials) {
  const { name, example } = (shownUseCase() || {}).dataset || {};
  if (!example) {
    throw new Problem(0, { detail: "No model of this use case can answer." });
  }
  return how(`output/${name}`, JSON.parse(example), ...credentials);
}

/** Upload a file as the user.
 *
 * By XMLHttpRequest, since fetch reports no progress. onProgress gets the bytes that are sent and that there are; onSent
 * is called when all are sent. An order that is sent is not aborted: its answer says what is to be deleted.
 */
function upload(path, file, { accept, signal, onProgress, onSent, isOrder }) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    const form = new FormData();
    const abort = () => sending.abort();
    form.append("fileupload", file);
    sending.open("POST", path);
    sending.responseType = "arraybuffer"; // a table is in the encoding of the file that was sent
    sending.setRequestHeader("Accept", `${accept}, application/problem+json;q=0.5`);
    if (authorization) {
      sending.setRequestHeader("Authorization", authorization);
    }
    sending.upload.onprogress = ({ loaded, total }) => onProgress(loaded, total);
    sending.upload.onload = () => {
      if (isOrder) {
        signal.removeEventListener("abort", abort);
      }
      onSent();
    };
    sending.onload = () => {
      try {
        resolve(answerOf(sending.status, sending.response, (name) => sending.getResponseHeader(name)));
      } catch (problem) {
        reject(problem);
      }
    };
    sending.onerror = () => reject(new Problem(0, { detail: "The upload was interrupted." }));
    sending.onabort = sending.onerror;
    signal.addEventListener("abort", abort);
    sending.send(form);
  });
}

/** An answer as text, in the encoding that it names. */
function decoded({ bytes, header }) {
  const [, charset = "utf-8"] = /charset=([^;]+)/.exec(header("Content-Type")) || [];
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

const KINDS_IN_WORDS = { csv: "CSV", xlsx: "Excel", parquet: "Parquet" };

const SIGNS = { ",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar", ".": "point" };

/** Whether a CSV of answers is in the dialect of the file that was sent. */
function isCsv(readAs) {
  return !readAs.format || readAs.format === "csv";
}

/** How a file was read, in words. */
function readAsWords({ format, ...details }) {
  const words = Object.entries(details).map(([name, value]) => `${name.replace("_", " ")} ${SIGNS[value] || value}`);
  return format ? `Read as ${format.toUpperCase()}${words.length ? `: ${words.join(", ")}` : ""}.` : "";
}

/** The score, where a file holds what really happened. */
function scoreWords({ version, errors, read_as, row_numbers, ...scores }) {
  const shown = (score) => (score === null ? "undefined" : figure(score));
  return Object.entries(scores).map(([name, score]) => `${name.replaceAll("_", " ")}: ${shown(score)}.`);
}

// its answers: `tell` says how far they are; all ends when `signal` is aborted

/** Send a file, and again while the service is busy. */
function sendFile(path, file, { verb, working, tell, ...options }) {
  const onProgress = (loaded, total) => {
    const detail = total > 1e6 ? `${figure(loaded / 1e6)} of ${figure(total / 1e6)} MB` : "";
    tell(`${verb} ${file.name} ...`, loaded / total, detail);
  };
  const onBusy = (seconds) => tell(`The service is busy. ${file.name} is sent again in ${figure(seconds)} s ...`);
  const attempt = () => {
    onProgress(0, file.size);
    return upload(path, file, { onProgress, onSent: () => tell(working), ...options });
  };
  return insist(attempt, { tries: 3, longest: 60, signal: options.signal, onBusy });
}

/** The answers to a file, at once; nothing when it has too many rows for that. */
async function answersAtOnce(model, file, { signal, tell }) {
  const path = `outputs_upload/${model}?partial=true`;
  const words = { verb: "Sending", working: `Working on ${file.name} ...` };
  let answer;
  try {
    answer = await sendFile(path, file, { ...words, accept: CSV, signal, tell });
  } catch (problem) {
    if (problem.status === 413) {
      return null;
    }
    throw problem;
  }
  const readAs = parsed(answer.header("Read-As"));
  const [accept, ending] = ANSWER_KINDS[isCsv(readAs) ? "csv" : readAs.format] || WORKBOOK;
  const nothing = () => {};
  const again = () => upload(path, file, { accept, signal, onProgress: nothing, onSent: nothing });
  const link = { words: "Download the answers", ending, get: isCsv(readAs) ? () => answer : again };
  return { answer, readAs, ranges: answer.header("Row-Numbers"), scores: [], links: [link] };
}

/** The answers to a file of any size, which the service predicts as a job. The job is deleted in the end. */
async function answersOfJob(model, file, { verb, signal, tell }) {
  const owner = authorization;
  const words = { verb, working: `${file.name} waits for its turn ...` };
  const options = { accept: "application/json", isOrder: true, signal, tell };
  const order = await sendFile(`jobs/${model}?partial=true`, file, { ...words, ...options });
  const path = `jobs/${jsonIn(order).id}`;
  const nothing = () => {}; // what cannot be deleted will expire
  const remove = () => requestJob(path, owner, { signal: null, method: "DELETE", keepalive: true }).catch(nothing);
  signal.addEventListener("abort", remove);
  if (signal.aborted) {
    remove();
  }
  const { summary, results } = await finished(path, file, order, { signal, tell });
  const get = (kind) => asUser((credentials) => requestJob(`${path}/result.${kind}`, credentials, { signal }));
  const answer = await get("csv");
  const links = Object.keys(results).map((kind) => ({
    words: `Download ${KINDS_IN_WORDS[kind] || kind}`,
    ending: kind,
    get: () => (kind === "csv" ? answer : get(kind)),
  }));
  return { answer, readAs: summary.read_as || {}, ranges: summary.row_numbers, scores: scoreWords(summary), links };
}

/** Ask about a job. Where each machine keeps its own, the load balancer's cookie leads to the right one. */
async function requestJob(path, credentials, init) {
  try {
    return await request(path, credentials, init);
  } catch (problem) {
    if (problem.status !== 404) {
      throw problem;
    }
  }
  return request(path, credentials, { ...init, credentials: "same-origin" }); // who was let in gets no 401, and no dialog
}

/** A job that is done, by its path; what it failed of is thrown. */
async function finished(path, file, answer, { signal, tell }) {
  const job = jsonIn(answer);
  if (job.state === "done") {
    return job;
  }
  if (job.state === "failed") {
    throw new Problem(job.error.status, job.error);
  }
  tell(...stepOf(job, file.name));
  const wait = Number(answer.header("Retry-After")) || 1;
  return finished(path, file, await nextAnswer(path, wait, { signal, tell }), { signal, tell });
}

/** What is said of a job after some seconds; the service, or the way to it, may be away for a while. */
async function nextAnswer(path, wait, { signal, tell }, faults = 0) {
  await pause(wait, signal);
  try {
    return await asUser((credentials) => requestJob(path, credentials, { signal }));
  } catch (problem) {
    signal.throwIfAborted();
    if (!PASSING.includes(problem.status) || faults === MOST_FAULTS) {
      throw problem;
    }
    tell(`${problem.message} Trying again ...`);
    return nextAnswer(path, problem.retryAfter || Math.min(2 ** faults, LONGEST_PAUSE), { signal, tell }, faults + 1);
  }
}

/** What is being done for a job, its share of the whole, and the rows. */
function stepOf({ state, rows, rows_done: done }, name) {
  if (state === "waiting") {
    return [`${name} waits for its turn ...`];
  }
  if (rows === null) {
    return [`Reading ${name} ...`];
  }
  const share = [done / rows, `${figure(done)} of ${figure(rows)} rows`];
  return done < rows ? [`Predicting ${name} ...`, ...share] : [`Writing the answers to ${name} ...`];
}

// the table

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
  const [bar, detail, cancel] = progress.children;
  const status = place.querySelector(".upload-status");
  const table = place.querySelector(".table");
  let question = 0; // the number of the newest one; answers to older ones are not shown
  let work = new AbortController(); // on the newest file; aborted when its answers are no longer wanted

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
    work.abort();
    hideProgress();
    for (const part of [uploadAlert, table]) {
      part.replaceChildren();
    }
  }

  function hideProgress() {
    progress.hidden = true;
    status.textContent = detail.textContent = "";
  }

  /** Say which step is being done, which is read aloud, and how far it is, which is not. */
  function tell(step, share, figures = "") {
    progress.hidden = false;
    if (status.textContent !== step) {
      status.textContent = step;
    }
    detail.textContent = figures;
    share === undefined ? bar.removeAttribute("value") : (bar.value = share);
  }

  async function predictFile(file) {
    clearFile();
    work = new AbortController();
    const { signal } = work;
    const steps = { signal, tell: (...step) => signal.aborted || tell(...step) };
    try {
      if (file.size > mostBytes) {
        throw new Problem(413, { detail: `The file is larger than ${figure(mostBytes / 1e6)} MB.` });
      }
      if (needsLogin) {
        await askExample(ask); // a 401 to the upload itself would make the browser show a dialog of its own
      }
      signal.throwIfAborted(); // another file has been chosen, or the user has changed
      const answered = await answersTo(file, steps);
      signal.throwIfAborted();
      hideProgress();
      showTable(file, answered);
    } catch (problem) {
      if (!signal.aborted) {
        hideProgress();
        showAlert(uploadAlert, problem);
      }
    }
  }

  async function answersTo(file, steps) {
    const asked = model.value;
    if (file.size > largeBytes) {
      return answersOfJob(asked, file, { ...steps, verb: "Sending" });
    }
    const verb = "Too many rows to answer at once. Sending";
    return (await answersAtOnce(asked, file, steps)) || answersOfJob(asked, file, { ...steps, verb });
  }

  function showTable(file, { answer, readAs, ranges, scores, links }) {
    const { separator = ",", decimal = ".", first_line: firstLine } = isCsv(readAs) ? readAs : {};
    const [header = [], ...lines] = parseCsv(decoded(answer), separator).slice(firstLine ? 1 : 0);
    const result = header.lastIndexOf("result");
    if (result < 0) {
      throw new Problem(0, { detail: "The answer is incomplete, or did not come from the service." });
    }
    const numbers = numbersIn(ranges);
    const rows = lines.map((cells, at) => ({ number: numbers[at] ?? "", cells }));
    const faulty = rows.filter(({ cells }) => cells[result] === "");
    const size = `${figure(rows.length)} ${rows.length === 1 ? "row" : "rows"}`;
    status.textContent = `${file.name}: ${size}; ${faulty.length ? figure(faulty.length) : "none"} invalid.`;
    const labels = kind === "multiclass" ? outcomes : [];
    const draw = (some) => answerTable(header, some, answerColumns, labels, decimal);
    const words = make("p", { class: "help" }, [readAsWords(readAs), ...scores].join(" "));
    const buttons = make("div", { class: "buttons" }, ...links.map((link) => downloadButton(file, link)));
    table.replaceChildren(words, buttons, ...pagedTable(rows, faulty, draw));
  }

  function downloadButton(file, { words, ending, get }) {
    const button = make("button", { type: "button" }, words);
    button.onclick = async () => {
      button.disabled = true;
      uploadAlert.replaceChildren();
      try {
        const { bytes, header } = await get();
        const link = make("a", { href: URL.createObjectURL(new Blob([bytes], { type: header("Content-Type") })) });
        link.download = `${file.name.replace(/\.[^.]*$/, "")}-answers.${ending}`;
        link.click();
        URL.revokeObjectURL(link.href);
      } catch (problem) {
        if (button.isConnected) {
          showAlert(uploadAlert, problem);
        }
      }
      button.disabled = false;
    };
    return button;
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
  cancel.addEventListener("click", () => {
    clearFile();
    status.textContent = "Cancelled.";
    input.focus(); // the button is gone, and the focus would be
  });
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
// Otherwise the browser would show the page as it was left to anyone who goes back to it. A page that is gone has no more
// use for its job, whose id nobody else knows.
window.addEventListener("pagehide", ({ persisted }) => (authorization || !persisted) && logOut());
show(); // a browser may have kept the choice of the last visit
