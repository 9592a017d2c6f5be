// A page to see what was done and to try the gateway, with nothing but the browser. The key stays in this tab and goes
// only to this server.
import { Activity } from "./activity.js";

const at = (id) => document.getElementById(id);
const base = `${location.origin}/v1`;
const headers = () => ({ authorization: `Bearer ${at("key").value.trim()}`, "content-type": "application/json" });
const activity = new Activity(base, headers, said);

at("snippet").textContent = `from openai import OpenAI

client = OpenAI(base_url="${base}", api_key="ew_…")
answer = client.chat.completions.create(
    model="auto",
    messages=[{"role": "user", "content": "What is the capital of France?"}],
)
print(answer.choices[0].message.content)`;

at("key").value = sessionStorage.getItem("key") ?? "";
at("door").addEventListener("submit", enter);
at("ask").addEventListener("submit", ask);
if (at("key").value) enter();

// One sentence to the reader, above everything else.
function said(text, bad = false) {
  at("said").textContent = text;
  at("said").classList.toggle("bad", bad);
}

async function enter(event) {
  event?.preventDefault();
  if (!at("key").value.trim()) {
    at("key").focus();
    return said("A key is needed: it begins with ew_.", true);
  }
  sessionStorage.setItem("key", at("key").value);
  const known = await activity.begin();
  at("key").setAttribute("aria-invalid", String(known === false));
  if (known) listModels();
}

async function listModels() {
  const answer = await fetch(`${base}/models`, { headers: headers() }).catch(() => null);
  if (!answer?.ok) return;
  const { data } = await answer.json();
  at("names").replaceChildren(...data.map(({ id }) => Object.assign(document.createElement("option"), { value: id })));
}

async function ask(event) {
  event.preventDefault();
  const button = at("ask").querySelector("button");
  button.disabled = true;
  at("state").textContent = "waiting…";
  at("answer").textContent = "";
  at("answer").classList.remove("bad");
  at("why").hidden = at("small").hidden = true;
  const began = performance.now();
  try {
    const answer = await fetch(`${base}/chat/completions`, {
      method: "POST",
      headers: headers(),
      body: JSON.stringify({
        model: at("model").value,
        stream: true,
        messages: [{ role: "user", content: at("question").value }],
      }),
    });
    explain(answer);
    if (!answer.ok) throw new Error((await answer.json()).error?.message ?? answer.statusText);
    for await (const chunk of events(answer.body)) {
      if (chunk.error) throw new Error(chunk.error.message);
      at("answer").textContent += chunk.choices[0]?.delta?.content ?? "";
    }
    at("state").textContent = `${Math.round(performance.now() - began)} ms`;
  } catch (error) {
    const lost = error instanceof TypeError;
    at("answer").textContent += lost ? "The gateway does not answer." : `\n${error.message}`.trimStart();
    at("answer").classList.add("bad");
    at("state").textContent = "failed";
  } finally {
    button.disabled = false;
  }
  activity.refresh();
}

function explain(answer) {
  const told = [...answer.headers].filter(([name]) => /^(x-edgewise-|x-request-id|age$)/.test(name));
  at("why").tBodies[0].replaceChildren(
    ...told.map(([name, value]) => {
      const row = document.createElement("tr");
      row.append(Object.assign(document.createElement("th"), { scope: "row", textContent: name }));
      row.insertCell().textContent = value;
      return row;
    }),
  );
  at("why").hidden = !told.length;
  at("small").hidden = !(answer.headers.get("x-edgewise-model") ?? "").startsWith("local/");
}

async function* events(body) {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
    }
  }
}
