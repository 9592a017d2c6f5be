// Drives a gateway with the stock `openai` Node client and prints what it saw as one JSON object.
// usage: node drive.mjs BASE_URL KEY
import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20_000 });
const user = (content) => [{ role: "user", content }];
const seen = {};

async function error(work) {
  try {
    await work();
    return null;
  } catch (caught) {
    return { class: caught.constructor.name, status: caught.status ?? null, code: caught.code ?? null, param: caught.param ?? null };
  }
}

async function text(stream) {
  let said = "";
  for await (const chunk of stream) said += chunk.choices[0]?.delta?.content ?? "";
  return said;
}

const chat = (content, rest = {}) =>
  client.chat.completions.create({ model: "scripted/echo", messages: user(content), ...rest });

seen.answer = (await chat("node answer")).choices[0].message.content;
seen.stream = await text(await chat("node stream", { stream: true }));

const { data, response } = await chat("node answer").withResponse();
seen.hit = [response.headers.get("x-edgewise-cache"), data.choices[0].message.content];
const replay = await chat("node stream", { stream: true }).withResponse();
seen.replay = [replay.response.headers.get("x-edgewise-cache"), await text(replay.data)];

let usage = null;
for await (const chunk of await chat("node usage", { stream: true, stream_options: { include_usage: true } }))
  if (chunk.usage) usage = [chunk.choices.length, chunk.usage.total_tokens > 0];
seen.usage = usage;

const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } }];
const called = await client.chat.completions.create({
  model: "scripted/tool",
  messages: user(`node weather [[script tool=weather args='{"city": "Rome"}']]`),
  tools,
});
seen.tool = called.choices[0].message.tool_calls[0].function;

seen.models = (await client.models.list()).data.some((model) => model.id === "scripted/echo");
seen.embedding = (await client.embeddings.create({ model: "chaos/embed", input: "a" })).data[0].embedding.length > 0;
seen.response = (await client.responses.create({ model: "scripted/echo", input: "node response" })).output_text;
let told = "";
for await (const event of await client.responses.create({ model: "scripted/echo", input: "node events", stream: true }))
  if (event.type === "response.output_text.delta") told += event.delta;
seen.events = told;

seen.errors = {
  type: await error(() => chat(5)),
  model: await error(() => client.chat.completions.create({ model: "none/at-all", messages: user("x") })),
  key: await error(() => new OpenAI({ baseURL, apiKey: "ew_wrong", maxRetries: 0 }).models.list()),
  large: await error(() => chat("x".repeat(300_000))),
  limit: await error(() => chat("node limit [[script status=429]]")),
};

seen.deaths = {};
for (const point of ["before-headers", "after-headers", "mid-chunk", "after-content", "before-finish", "before-usage"]) {
  const asked = `node text to be cut [[script die=${point}]]`;
  seen.deaths[point] = [];
  for (const _ of [1, 2]) seen.deaths[point].push((await error(async () => text(await chat(asked, { stream: true })))) !== null);
}

console.log(JSON.stringify(seen));
