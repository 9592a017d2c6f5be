// A page to try the gateway with nothing but the browser. The key stays in this tab and goes only to this server.
const at = (id) => document.getElementById(id);
const base = `${location.origin}/v1`;

at("snippet").textContent = `from openai import OpenAI

client = OpenAI(base_url="${base}", api_key="ew_…")
answer = client.chat.completions.create(
    model="auto",
    messages=[{"role": "user", "content": "What is the capital of France?"}],
)
print(answer.choices[0].message.content)`;

at("key").value = sessionStorage.getItem("key") ?? "";
at("key").addEventListener("change", listModels);
at("ask").addEventListener("submit", ask);
if (at("key").value) listModels();

const headers = () => ({ authorization: `Bearer ${at("key").value.trim()}`, "content-type": "application/json" });

async function listModels() {
  sessionStorage.setItem("key", at("key").value);
  const answer = await fetch(`${base}/models`, { headers: headers() });
  if (!answer.ok) return;
  const { data } = await answer.json();
  at("models").replaceChildren(...data.map(({ id }) => Object.assign(document.createElement("option"), { value: id })));
}

async function ask(event) {
  event.preventDefault();
  const button = event.submitter ?? at("ask").querySelector("button");
  button.disabled = true;
  at("state").textContent = "waiting…";
  at("answer").textContent = "";
  at("why").replaceChildren();
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
    at("answer").textContent += `\n${error.message}`;
    at("state").textContent = "failed";
  } finally {
    button.disabled = false;
  }
}

function explain(answer) {
  for (const [name, value] of answer.headers) {
    if (!/^(x-edgewise-|x-request-id|age$)/.test(name)) continue;
    const row = at("why").insertRow();
    row.append(Object.assign(document.createElement("th"), { scope: "row", textContent: name }));
    row.insertCell().textContent = value;
  }
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
