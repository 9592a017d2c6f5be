// Drives a gateway with the Vercel AI SDK; the last line printed is the JSON list of what was checked.
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateText, isStepCount, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const { EDGEWISE_CLIENT_URL: baseURL, EDGEWISE_CLIENT_KEY: apiKey } = process.env;
const settings = { name: "edgewise", baseURL, includeUsage: true, supportsStructuredOutputs: true };
const gateway = createOpenAICompatible({ ...settings, apiKey });
const model = gateway("scripted/echo");
const steps = isStepCount ?? stepCountIs;
const checked = [];

async function check(name, work) {
  await work();
  checked.push(name);
}

const magic_function = tool({
  description: "Apply a magic function to an input.",
  inputSchema: z.object({ input: z.number().int() }),
  execute: async ({ input }) => input + 2,
});

await check("generateText", async () => {
  const told = await generateText({ model, prompt: "Say text.", maxRetries: 0 });
  assert.equal(told.text, "Say text.");
  assert.ok(told.usage.totalTokens > 0);
  assert.equal(told.finishReason, "stop");
});

await check("streamText", async () => {
  const told = streamText({ model, prompt: "a stream of text", maxRetries: 0 });
  let said = "";
  for await (const part of told.textStream) said += part;
  assert.equal(said, "a stream of text");
  assert.ok((await told.usage).totalTokens > 0);
});

await check("tools", async () => {
  const told = await generateText({
    model, tools: { magic_function }, stopWhen: steps(2), prompt: "What is the value of magic_function(3)?", maxRetries: 0,
  });
  const results = told.steps.flatMap((step) => step.toolResults);
  assert.deepEqual(results.map((result) => [result.input.input, result.output]), [[3, 5]]);
});

await check("streamed tools", async () => {
  const told = streamText({
    model, tools: { magic_function }, stopWhen: steps(2), prompt: "What is the value of magic_function(4)?", maxRetries: 0,
  });
  await told.consumeStream();
  const results = (await told.steps).flatMap((step) => step.toolResults);
  assert.deepEqual(results.map((result) => [result.input.input, result.output]), [[4, 6]]);
});

await check("structured output", async () => {
  const told = await generateText({
    model, prompt: "Ada is 36 years old.", maxRetries: 0,
    output: Output.object({ schema: z.object({ name: z.string(), age: z.number().int() }) }),
  });
  assert.equal(typeof told.output.name, "string");
});

await check("embed", async () => {
  const embedder = (gateway.embeddingModel ?? gateway.textEmbeddingModel)("chaos/embed");
  assert.ok((await embed({ model: embedder, value: "a", maxRetries: 0 })).embedding.length > 0);
});

await check("wrong key raises", async () => {
  const other = createOpenAICompatible({ ...settings, apiKey: "ew_wrong" })("scripted/echo");
  await assert.rejects(generateText({ model: other, prompt: "x", maxRetries: 0 }), (error) => error.statusCode === 401);
});

await check("cut stream raises", async () => {
  let error = null;
  const prompt = "text that will be cut short [[script die=mid-chunk]]";
  const told = streamText({ model, prompt, maxRetries: 0, onError: (event) => { error = event.error; } });
  try {
    for await (const _ of told.textStream);
  } catch (caught) {
    error = caught;
  }
  assert.ok(error !== null);
});

console.log(JSON.stringify(checked));
