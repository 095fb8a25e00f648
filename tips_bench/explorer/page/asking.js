// What is asked of the server, or found in a saved page. One question of a drawing is open at a time: another one ends it, here and there.

const saved = JSON.parse(document.getElementById("saved").textContent);
const answers = new Map(Object.entries(saved ? saved.answers : {}));
const KEPT = 24; // answers that a live page keeps
const PAGE = Math.random().toString(36).slice(2); // tells this page from others of the same server
let waiting = null; // the question of a drawing that waits for its answer: {key, answer, ending}
let asked = 0; // questions of drawings that went to the server

// The server's answer to what a drawing needs, or the saved page's. Throws an Error with a sentence for people; an AbortError where another
// question came since.
async function ask(kind, body) {
  const key = `${kind} ${JSON.stringify(body)}`;
  if (answers.has(key)) return answers.get(key);
  if (saved) throw new Error("This saved page does not hold that. Save it again with this view open.");
  if (waiting?.key !== key) {
    waiting?.ending.abort();
    const ending = new AbortController(), headers = { "Content-Type": "application/json", "X-Turn": `${PAGE}-${++asked}` };
    waiting = { key, ending, answer: post(`api/${kind}`, JSON.stringify(body), headers, ending.signal) };
  }
  const own = waiting;
  try {
    answers.set(key, await own.answer);
  } finally {
    if (waiting === own) waiting = null;
  }
  if (answers.size > KEPT) answers.delete(answers.keys().next().value);
  return own.answer;
}

// The answer to what changes the server's state or tells it.
const command = (kind, body) => post(`api/${kind}`, JSON.stringify(body), { "Content-Type": "application/json" });

async function post(address, body, headers, signal) {
  let reply;
  try {
    reply = await fetch(address, { method: "POST", headers, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is `tips-bench explore` still running?");
  }
  const answer = await reply.json();
  if (!reply.ok) throw new Error(answer.error);
  return answer;
}
